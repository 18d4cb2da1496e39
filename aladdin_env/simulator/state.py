"""The state of a cluster as arrays: one layout for the simulator and for live traffic.

Everything has a leading axis of environments (1 for a single simulation). *Public* arrays are what policies and the
observation encoder may read, and what the live bridge fills; *private* ones belong to the simulator alone, among them
the true output lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_CLASSES = 4
HISTORY_BEATS = 32
LENGTH_BUCKETS = 16
LENGTH_BINS = 48
NONE = -1

# Worker status
OFF, STARTING, READY, DRAINING, FAILED = 0, 1, 2, 3, 4
WORKER_STATUS = ("off", "starting", "ready", "draining", "failed")
# What a worker accepts (bits), equal to the stage of the request that asks
NEW, PREFILLED = 1, 2
# Request status
PENDING, HELD, WAITING, RUNNING, TRANSFER, FINISHED, TRUNCATED, REJECTED, LOST = 0, 1, 2, 3, 4, 5, 6, 7, 8
REQUEST_STATUS = (
    "pending", "held", "waiting", "running", "transfer", "finished", "truncated", "rejected", "failed",
)  # fmt: skip
# Schedulers and roles of a worker type
PREFILL_FIRST, CHUNKED, SPLIT = 0, 1, 2
SCHEDULERS = ("prefill_first", "chunked", "split")
MIXED_ROLE, PREFILL_ROLE, DECODE_ROLE = 0, 1, 2
ROLES = ("mixed", "prefill", "decode")
# Kinds of the output-length predictor
BUCKET_MEAN, ORACLE, NOISY_ORACLE = 0, 1, 2
PREDICTORS = ("bucket_mean", "oracle", "noisy_oracle")
# What an engine is doing
IDLE, BOUNDARY, PREFILLING, DECODING, MIXING = 0, 1, 2, 3, 4
# A policy's answers beside a worker slot
HOLD, REJECT = -1, -2
# Reasons of a missed SLO (bits of requests.missed)
MISSED_TTFT, MISSED_ATGT, MISSED_UNSERVED = 1, 2, 4

WORKER = np.dtype(
    [
        # first cache line: what a placement kernel scans
        ("accepts", "i1"),  # bits of request stages that may be placed here now; 0 unless READY
        ("status", "i1"),
        ("step", "i1"),  # IDLE .. MIXING
        ("role", "i1"),
        ("members", "i4"),  # requests here or with their KV on the way here: running + waiting + inbound
        ("type_index", "i4"),
        ("running", "i4"),  # requests admitted by the engine
        ("waiting", "i4"),  # requests placed here, not yet admitted
        ("inbound", "i4"),  # requests whose KV is on its way here
        ("outbound", "i4"),  # prefilled requests whose KV is still here
        ("decoding", "i4"),  # running requests that have left prefill: the decode batch
        ("kv_capacity_tokens", "i4"),  # longest request that fits
        ("kv_blocks", "i4"),
        ("kv_used_blocks", "i4"),
        ("block_size", "i4"),
        ("max_num_seqs", "i4"),
        ("waiting_prefill_tokens", "i8"),  # tokens still to be prefilled: waiting, and the rest of a chunked prompt
        ("context_tokens", "i8"),  # tokens attended by the next decode step
        # second
        ("decode_steps", "i8"),  # decode steps done; a request's generated tokens follow from it
        ("member_prompt_tokens", "i8"),  # of all requests here
        ("member_predicted_tokens", "f8"),  # predicted output of all requests here
        ("prediction_error_tokens", "f8"),  # decaying sum of predicted - true output of requests that ended here
        ("step_end_s", "f8"),  # end of the current step
        ("ready_s", "f8"),  # when a STARTING or FAILED worker is expected to be READY
        ("run_head", "i4"),
        ("run_tail", "i4"),
        # third
        ("wait_head", "i4"),
        ("wait_tail", "i4"),
        ("slack_key_s", "f8", (MAX_CLASSES,)),  # min over decoding of first token - ATGT * joined_step, by class
        ("slack_owner", "i4", (MAX_CLASSES,)),
        ("finished", "i8"),
        ("prefix_hit_tokens", "i4"),  # prompt tokens of the request at hand whose KV is cached here
    ],
    align=True,
)

REQUEST = np.dtype(
    [
        ("arrival_s", "f8"),
        ("admitted_s", "f8"),  # when an engine first admitted it (of the last try); NaN before
        ("first_token_s", "f8"),  # as the client sees it; NaN before
        ("finish_s", "f8"),
        ("joined_step", "i8"),  # decoding: generated = worker.decode_steps - joined_step
        ("coin", "f8"),  # uniform in [0, 1), drawn beforehand, for policies that randomise
        ("predicted_tokens", "f4"),  # from its arrival on; before that the factor of a noisy oracle
        ("prompt_tokens", "i4"),
        ("generated", "i4"),  # exact unless decoding
        ("computed", "i4"),  # KV tokens on the worker; exact unless decoding
        ("worker", "i4"),
        ("next", "i4"),  # links of the one list the request is in: running, waiting, held or pending
        ("prev", "i4"),
        ("preemptions", "i2"),
        ("retries", "i2"),
        ("status", "i1"),
        ("stage", "i1"),  # NEW or PREFILLED
        ("decoding", "i1"),
        ("klass", "i1"),
        ("missed", "i1"),
    ],
    align=True,
)

CLUSTER = np.dtype(
    [
        ("now_s", "f8"),
        ("start_of_day_s", "f8"),  # time of day at now_s = 0
        ("heartbeat_s", "f8"),
        ("next_heartbeat_s", "f8"),
        ("beats", "i8"),
        ("beat_arrived", "i8"),  # arrived at the last heartbeat, and so on
        ("beat_prompt_tokens", "i8"),
        ("beat_finished", "i8"),
        ("beat_slo_met", "i8"),
        ("arrived", "i8"),
        ("arrived_prompt_tokens", "i8"),
        ("held", "i8"),
        ("in_flight", "i8"),  # arrived and not ended
        ("finished", "i8"),
        ("finished_prompt_tokens", "i8"),
        ("finished_output_tokens", "i8"),
        ("finished_context_tokens", "f8"),  # sum of (prompt + output / 2) * (output - 1)
        ("slo_met", "i8"),
        ("ttft_missed", "i8"),
        ("atgt_missed", "i8"),
        ("unserved", "i8"),  # rejected, failed or truncated
        ("truncated", "i8"),
        ("rejected", "i8"),
        ("failed", "i8"),
        ("preemptions", "i8"),
        ("retries", "i8"),
        ("bounded_predictions", "i8"),  # were no number, below 1 or above 10^6 tokens, and are not seen as they came
        ("prefix_asked_tokens", "i8"),  # prompt tokens of requests admitted where prefixes are cached
        ("prefix_hit_tokens", "i8"),  # those among them whose KV was cached
        ("gpus", "f8"),
        ("cost_rate_per_s", "f8"),
        ("gpu_seconds", "f8"),
        ("cost", "f8"),
        ("accrued_s", "f8"),  # time up to which cost is accrued
    ],
    align=True,
)

TYPE = np.dtype(
    [
        ("first_slot", "i4"),
        ("slots", "i4"),
        ("minimum", "i4"),
        ("maximum", "i4"),
        ("gpus", "i4"),
        ("scheduler", "i4"),
        ("role", "i4"),
        ("max_num_seqs", "i4"),
        ("max_num_batched_tokens", "i4"),
        ("block_size", "i4"),
        ("kv_blocks", "i4"),
        ("starts", "i4"),
        ("prefix_span", "i4"),  # KV blocks of a prefix block; 0: no prefix cache
        ("price_per_s", "f8"),
        ("kv_bytes_per_token", "f8"),
        ("cold_start_s", "f8"),  # mean
    ],
    align=True,
)

TRUTH = np.dtype(
    [
        ("output_tokens", "i4"),
        ("limit", "i4"),  # tokens at which it ends on its worker: output_tokens, or what the KV has room for
        ("chunk", "i4"),  # prompt tokens computed in the current step
        ("source", "i4"),  # prefill worker that still holds its KV
        ("hold_until_s", "f8"),
    ],
    align=True,
)

ENGINE = np.dtype(
    [
        ("run_start_s", "f8"),
        ("run_first_s", "f8"),  # seconds of the first step of the run
        ("run_growth_s", "f8"),  # seconds that each step adds to the next
        ("run_steps", "i8"),
        ("base_steps", "i8"),  # worker.decode_steps at run_start_s
        ("base_context", "i8"),
        ("free_blocks", "i8"),  # at run_start_s
        ("finishing", "i4"),  # entries in the finish heap
        ("taken", "i4"),  # first request of the running list with prompt tokens in this step
        ("decodes", "i4"),  # whether the step decodes
        ("partial", "i4"),  # request whose chunked prefill is unfinished
        ("cache_oldest", "i4"),  # idle prefix blocks in the order of their last use
        ("cache_newest", "i4"),
        ("cache_idle", "i4"),  # how many they are
        ("cache_spare", "i4"),  # list of unused nodes
    ],
    align=True,
)

CONTROL = np.dtype(
    [
        ("total", "i8"),
        ("next_arrival", "i8"),
        ("remaining", "i8"),  # requests not ended, those to arrive included
        ("asked", "i8"),  # request whose placement awaits an answer
        ("answer", "i8"),
        ("pending_head", "i4"),
        ("pending_tail", "i4"),
        ("hold_head", "i4"),
        ("hold_tail", "i4"),
        ("offer", "i4"),  # held requests are to be offered again
        ("boundaries", "i4"),  # engines waiting to begin a step
        ("next_failure", "i4"),
        ("transits", "i4"),
        ("max_retries", "i4"),
        ("predictor", "i4"),  # BUCKET_MEAN .. NOISY_ORACLE
        ("log_on", "i4"),
        ("log_count", "i4"),
        ("beat_returns", "i4"),
        ("decisions", "i8"),
        ("prefill_steps", "i8"),
        ("decode_steps", "i8"),
        ("mixed_steps", "i8"),
        ("max_hold_s", "f8"),
        ("repair_s", "f8"),
        ("max_gpus", "f8"),
        ("bandwidth", "f8"),
        ("latency_s", "f8"),
        ("last_end_s", "f8"),
        ("prior_tokens", "f8"),
        ("prior_weight", "f8"),
        ("error_slot", "i8"),  # what a policy answered that is no candidate
        ("accepting_new", "i8"),  # workers that accept new prompts
        ("accepting_prefilled", "i8"),
        ("smallest_capacity", "i8"),  # KV tokens of the smallest worker type
        ("prefix_tokens", "i8"),  # tokens of a prefix block; 0: the requests have none, or nobody caches them
        ("cache_mask", "i8"),  # buckets of a worker's cache - 1
    ],
    align=True,
)

PREFIX = np.dtype(
    [
        ("first", "i8"),  # where the request's block ids begin
        ("count", "i4"),  # whole blocks of its prompt
        ("held", "i4"),  # blocks that it holds in its worker's cache
        ("hit_tokens", "i4"),  # cached prompt tokens when it was admitted
    ],
    align=True,
)

CACHE = np.dtype(
    [
        ("key", "i4"),
        ("refs", "i4"),  # requests that hold the block
        ("chain", "i4"),  # next node of the bucket, or of the unused ones
        ("before", "i4"),  # neighbours in the order of last use, while idle
        ("after", "i4"),
    ],
    align=True,
)

FAILURE = np.dtype([("time_s", "f8"), ("slot", "i8")], align=True)

LOG = np.dtype([("time_s", "f8"), ("kind", "i4"), ("request", "i4"), ("worker", "i4"), ("pad", "i4")], align=True)
LOG_FIRST_TOKEN, LOG_FINISH, LOG_WORKER_LOST = 0, 1, 2
LOG_CAPACITY = 8192
LARGEST_MAX_NUM_SEQS = 2048  # one event logs at most two entries for each of them

Array = NDArray[Any]


class World(NamedTuple):
    """All arrays of one environment (or, with a leading axis, of all), as compiled code takes them."""

    # public
    workers: Array  # (slots,) WORKER
    requests: Array  # (capacity,) REQUEST
    cluster: Array  # (1,) CLUSTER
    types: Array  # (types,) TYPE
    laws: Array  # (types, row) float64, see laws.py
    slo: Array  # (MAX_CLASSES, 2) float64: TTFT, ATGT seconds
    lengths: Array  # (LENGTH_BUCKETS, LENGTH_BINS + 1, 2) float64: count and sum of outputs seen; last row: all bins
    history: Array  # (HISTORY_BEATS, 4) float64: arrivals, prompt tokens, finished, SLO met, per heartbeat
    memory: Array  # (n,) float64: the placement kernel's own memory
    # private
    truth: Array  # (capacity,) TRUTH
    prefixes: Array  # (capacity,) PREFIX, or (1,) where no prefix is cached; so are the next three
    prefix_ids: Array  # (ids,) int32: blocks of all requests, numbered
    cache: Array  # (slots, nodes) CACHE
    cache_buckets: Array  # (slots, power of two) int32: first node by the low bits of the key
    engines: Array  # (slots,) ENGINE
    control: Array  # (1,) CONTROL
    finish_heap: Array  # (slots, max_num_seqs) int64: decode step of the end << 32 | request
    phases: Array  # (slots, block size) int64: decoding requests by residue of their length
    heap: Array  # (3, slots) int64: slots in heap order; position of a slot; engines at a boundary
    event_s: Array  # (slots,) float64: next event of each worker
    cold_starts: Array  # (types, n) float64
    failures: Array  # (n,) FAILURE
    transit_s: Array  # (n,) float64, a heap
    transit_request: Array  # (n,) int64
    log: Array  # (LOG_CAPACITY,) LOG, or (1,) where nobody listens


@dataclass(frozen=True)
class Shape:
    """Sizes of a :class:`World`."""

    slots: int
    requests: int
    types: int
    row: int
    max_num_seqs: int
    block_size: int
    cold_starts: int
    failures: int
    transits: int
    memory: int
    log: int
    prefixes: int
    prefix_ids: int
    cache: int


def allocate(environments: int, shape: Shape) -> World:
    """Zeroed arrays for ``environments`` clusters of one shape; every field with a leading axis of that length."""

    def zeros(*size: int, dtype: Any = np.float64) -> Array:
        return np.zeros((environments, *size), dtype=dtype)

    return World(
        workers=zeros(shape.slots, dtype=WORKER),
        requests=zeros(shape.requests, dtype=REQUEST),
        cluster=zeros(1, dtype=CLUSTER),
        types=zeros(shape.types, dtype=TYPE),
        laws=zeros(shape.types, shape.row),
        slo=zeros(MAX_CLASSES, 2),
        lengths=zeros(LENGTH_BUCKETS, LENGTH_BINS + 1, 2),
        history=zeros(HISTORY_BEATS, 4),
        memory=zeros(shape.memory),
        truth=zeros(shape.requests, dtype=TRUTH),
        prefixes=zeros(shape.prefixes, dtype=PREFIX),
        prefix_ids=zeros(shape.prefix_ids, dtype=np.int32),
        cache=zeros(shape.slots, shape.cache, dtype=CACHE),
        cache_buckets=zeros(shape.slots, 1 << (shape.cache - 1).bit_length(), dtype=np.int32),
        engines=zeros(shape.slots, dtype=ENGINE),
        control=zeros(1, dtype=CONTROL),
        finish_heap=zeros(shape.slots, shape.max_num_seqs, dtype=np.int64),
        phases=zeros(shape.slots, shape.block_size, dtype=np.int64),
        heap=zeros(3, shape.slots, dtype=np.int64),
        event_s=zeros(shape.slots),
        cold_starts=zeros(shape.types, shape.cold_starts),
        failures=zeros(shape.failures, dtype=FAILURE),
        transit_s=zeros(shape.transits),
        transit_request=zeros(shape.transits, dtype=np.int64),
        log=zeros(shape.log, dtype=LOG),
    )
