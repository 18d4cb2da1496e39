"""What an agent observes: one compiled encoder from the public arrays, for the simulator and for live traffic.

Four arrays. ``workers``: a row of :data:`WORKER_FEATURES` per slot, for the request at hand. ``request``: that request.
``cluster``: the cluster as a whole, then :data:`TYPE_FEATURES` for each worker type. ``mask``: which actions are
allowed. Every number is scaled to lie mostly in [-1, 10] and clipped to [-10, 10]; none is ever NaN.

The predictions among the worker features are what Aladdin's constraints compare, in a form that costs the same however
many requests a worker has: bounds and means, not sums over requests. No true output length enters anywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aladdin_env.compiled import compiled, inlined
from aladdin_env.features import (
    CLUSTER_FEATURES,
    LIMIT,
    OBSERVATION_VERSION,
    REQUEST_FEATURES,
    TYPE_FEATURES,
    WORKER_FEATURES,
    C,
    R,
    T,
    W,
    cluster_features,
    cluster_size,
)
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import (
    CHUNKED,
    DECODE_ROLE,
    DRAINING,
    FAILED,
    HELD,
    HISTORY_BEATS,
    MAX_CLASSES,
    NEW,
    NONE,
    OFF,
    PREFILL_ROLE,
    PREFILLED,
    PREFILLING,
    READY,
    STARTING,
    Array,
)

__all__ = [
    "CLUSTER_FEATURES", "LIMIT", "OBSERVATION_VERSION", "REQUEST_FEATURES", "TYPE_FEATURES", "WORKER_FEATURES", "blank",
    "cluster_features", "cluster_size", "encode",
]  # fmt: skip

Record = Any  # a row of a record array, as compiled code sees it
_CLUSTER, _TYPE = len(CLUSTER_FEATURES), len(TYPE_FEATURES)
_SHORT, _LONG = 4, 16  # heartbeats


@inlined
def _clip(value: float) -> float:
    if value > LIMIT:
        return LIMIT
    if value > -LIMIT:
        return value
    return -LIMIT


@inlined
def _ratio(over: float, under: float, otherwise: float) -> float:
    return over / under if under > 0.0 else otherwise


@inlined
def predicted_wait_s(
    worker: Record, kind: Record, laws: Array, prompt_tokens: float, alone_s: float, decode_s: float, now_s: float
) -> float:
    """Seconds until the first token of a prompt placed on ``worker`` now: rest of the step, queue, its own prefill.

    The queue is taken as equal steps within the token budget, its prompts as equally long; room for KV and in the
    batch is taken for granted, and hits only for this prompt. ``alone_s``: prefill of this prompt, all of it, in a step
    of its own; ``decode_s``: the next decode step. Both are known to the caller, and an empty queue, the common case,
    needs no more.
    """
    law_of = worker.type_index
    rest = max(worker.step_end_s - now_s, 0.0) if worker.step >= PREFILLING else 0.0
    mixes = kind.scheduler == CHUNKED and worker.decoding > 0
    budget = max(kind.max_num_batched_tokens - (worker.decoding if mixes else 0), 1)
    queued = float(worker.waiting_prefill_tokens)
    cached = float(worker.prefix_hit_tokens)
    tokens = queued + prompt_tokens - cached
    steps = 1.0
    if tokens > budget and (kind.scheduler == CHUNKED or worker.waiting > 0):  # a long prompt alone is one step
        steps = np.ceil(tokens / budget)
    step_s = alone_s
    if steps > 1.0 or queued > 0.0 or cached > 0.0:
        squares = prompt_tokens * prompt_tokens - cached * cached + queued * queued / max(worker.waiting, 1)
        step_s = law.prefill_time(laws, law_of, tokens / steps, squares / steps)
    if mixes:
        step_s = law.together(laws, law_of, tokens / steps, step_s, decode_s)
    return float(rest + steps * step_s + laws[law_of, law.OVERHEAD])


@inlined
def least_slack(worker: Record, slo: Array, now_s: float, stall_s: float) -> float:
    """Least (ATGT * generated - time since the first token - ``stall_s``) / ATGT over the decoding requests.

    O(1) from the least key of each class; LIMIT where nobody decodes.
    """
    least = LIMIT
    for klass in range(MAX_CLASSES):
        key = worker.slack_key_s[klass]
        if key < np.inf:
            pace = slo[klass, 1]
            least = min(least, (key + pace * worker.decode_steps - now_s - stall_s) / pace)
    return least


class Scales(NamedTuple):
    """Inverses that all workers of a type share: a division costs as much as the rest of a feature."""

    seqs: float
    budget: float
    blocks: float
    room: float
    ttft: float
    atgt: float


@inlined
def _scales(kind: Record, slo: Array, klass: int) -> Scales:
    blocks = 1.0 / kind.kv_blocks
    room = blocks / kind.block_size
    ttft, atgt = 1.0 / slo[klass, 0], 1.0 / slo[klass, 1]
    return Scales(1.0 / kind.max_num_seqs, 1.0 / kind.max_num_batched_tokens, blocks, room, ttft, atgt)


class Asked(NamedTuple):
    """The request at hand, or zeros."""

    stage: int  # 0: there is none
    prompt: float
    output: float
    waited_s: float


@inlined
def _encode_load(
    worker: Record, kind: Record, laws: Array, slo: Array, now_s: float, scale: Scales, asked: Asked, stall_s: float,
    row: Array,
) -> None:  # fmt: skip
    """Load, and the predictions for the request at hand."""
    joining = worker.waiting + worker.inbound
    row[W.running] = worker.running * scale.seqs
    row[W.waiting] = _clip(joining * (1.0 / 32.0))
    row[W.waiting_tokens] = _clip(worker.waiting_prefill_tokens * scale.budget)
    row[W.outbound] = _clip(worker.outbound * (1.0 / 32.0))
    row[W.kv_used] = worker.kv_used_blocks * scale.blocks
    row[W.context] = _clip(worker.context_tokens * scale.room)
    decode_s = 0.0
    if worker.decoding > 0:
        decode_s = law.decode_time(laws, worker.type_index, worker.decoding, float(worker.context_tokens))
        row[W.decode_now] = _clip(decode_s * scale.atgt)
    batch = min(worker.running + joining + (1 if asked.stage else 0), worker.max_num_seqs)
    if batch > 0 and worker.role != PREFILL_ROLE:
        context = worker.member_prompt_tokens + asked.prompt + 0.5 * (worker.member_predicted_tokens + asked.output)
        row[W.decode_after] = _clip(law.decode_time(laws, worker.type_index, batch, context) * scale.atgt)
    if asked.stage == NEW and worker.role != DECODE_ROLE:
        wait_s = predicted_wait_s(worker, kind, laws, asked.prompt, stall_s, decode_s, now_s)
        row[W.ttft_here] = _clip((asked.waited_s + wait_s) * scale.ttft)
        row[W.prefix_hit] = _ratio(float(worker.prefix_hit_tokens), asked.prompt, 0.0)
    row[W.slack] = _clip(least_slack(worker, slo, now_s, stall_s))
    peak = worker.member_prompt_tokens + worker.member_predicted_tokens + asked.prompt + asked.output
    row[W.kv_peak] = _clip(peak * scale.room)
    row[W.prediction_error] = _clip(worker.prediction_error_tokens * (1.0 / 2048.0))


@inlined
def _encode_request(request: Record, slo: Array, now_s: float, out: Array) -> None:
    out[R.present] = 1.0
    out[R.prompt] = _clip(request.prompt_tokens / 4096.0)
    out[R.log_prompt] = _clip(np.log2(max(float(request.prompt_tokens), 1.0)) / 16.0)
    out[R.predicted_output] = _clip(request.predicted_tokens / 1024.0)
    out[R.ttft_slo] = _clip(slo[request.klass, 0] / 10.0)
    out[R.atgt_slo] = _clip(slo[request.klass, 1] / 0.1)
    out[R.waited] = _clip((now_s - request.arrival_s) / slo[request.klass, 0])
    out[R.held] = 1.0 if request.status == HELD else 0.0
    out[R.retries] = _clip(request.retries / 3.0)
    out[R.prefilled] = 1.0 if request.stage == PREFILLED else 0.0


@inlined
def _encode_rates(state: Record, history: Array, slots: float, out: Array) -> None:
    """Arrivals, lengths and attainment over windows that end now or with the last heartbeat."""
    whole = min(state.beats, HISTORY_BEATS, _LONG)
    arrived = float(state.arrived - state.beat_arrived)
    tokens = float(state.arrived_prompt_tokens - state.beat_prompt_tokens)
    finished, met = float(state.finished - state.beat_finished), float(state.slo_met - state.beat_slo_met)
    span_s = max(state.now_s - (state.next_heartbeat_s - state.heartbeat_s), 0.0)
    short_arrived = long_arrived = long_finished = long_met = 0.0
    for back in range(whole):
        row = history[(state.beats - 1 - back) % HISTORY_BEATS]
        if back == 0:
            arrived, tokens, finished, met = arrived + row[0], tokens + row[1], finished + row[2], met + row[3]
            span_s += state.heartbeat_s
        if back < _SHORT:
            short_arrived += row[0]
        long_arrived, long_finished, long_met = long_arrived + row[0], long_finished + row[2], long_met + row[3]
    span_s = max(span_s, 0.1 * state.heartbeat_s)
    rate = arrived / span_s
    rate_short = _ratio(short_arrived, min(whole, _SHORT) * state.heartbeat_s, rate)
    rate_long = _ratio(long_arrived, whole * state.heartbeat_s, rate)
    out[C.rate] = _clip(rate / (10.0 * slots))
    out[C.rate_4] = _clip(rate_short / (10.0 * slots))
    out[C.rate_16] = _clip(rate_long / (10.0 * slots))
    out[C.trend] = _ratio(rate - rate_long, rate + rate_long, 0.0)
    out[C.token_rate] = _clip(tokens / span_s / (10000.0 * slots))
    out[C.mean_prompt] = _clip(_ratio(float(state.arrived_prompt_tokens), float(state.arrived), 0.0) / 4096.0)
    out[C.mean_output] = _clip(_ratio(float(state.finished_output_tokens), float(state.finished), 0.0) / 1024.0)
    out[C.attainment] = _ratio(met, finished, 1.0)
    out[C.attainment_16] = _ratio(long_met, long_finished, 1.0)


@inlined
def _encode_cluster(
    cluster: Array, types: Array, history: Array, scaling: bool, horizon_s: float, slots: float, out: Array
) -> None:
    """The cluster's own features; counts of workers are added by the loop over them."""
    state = cluster[0]
    full_cost = 0.0
    for kind in range(types.shape[0]):
        full_cost += types[kind].price_per_s * types[kind].slots
    left_s = max(horizon_s - state.now_s, 0.0)
    day = (state.start_of_day_s + state.now_s) * (2.0 * np.pi / 86400.0)
    out[:] = 0.0
    out[C.scaling_decision] = 1.0 if scaling else 0.0
    _encode_rates(state, history, slots, out)
    out[C.unserved] = _clip(_ratio(float(state.unserved), float(state.arrived), 0.0) / 0.1)
    out[C.held] = _clip(state.held / 32.0)
    out[C.in_flight] = _clip(state.in_flight / (64.0 * slots))
    out[C.day_sin] = np.sin(day)
    out[C.day_cos] = np.cos(day)
    out[C.heartbeat_in] = _clip((state.next_heartbeat_s - state.now_s) / state.heartbeat_s)
    out[C.horizon_left] = left_s / horizon_s if horizon_s < np.inf else 1.0
    out[C.beats_left] = _clip(left_s / state.heartbeat_s / 100.0)
    out[C.cost_rate] = _clip(_ratio(state.cost_rate_per_s, full_cost, 0.0))


@inlined
def _count_worker(worker: Record, now_s: float, seqs: float, blocks: float, first: int, out: Array) -> None:
    """Add one worker to the sums of the cluster and of its type, which begin at ``first``; `_share` divides them."""
    status = worker.status
    if status == READY:
        out[C.ready] += 1.0
        out[first + T.serving] += 1.0
        out[first + T.load] += worker.members * seqs
        out[first + T.kv_used] += worker.kv_used_blocks * blocks
    elif status == DRAINING:
        out[C.draining] += 1.0
        out[first + T.leaving] += 1.0
    else:
        out[C.starting if status == STARTING else C.failed] += 1.0
        out[first + T.coming] += 1.0
        soon = _clip((worker.ready_s - now_s) / 60.0)
        out[C.ready_in] = soon if out[C.ready_in] == 0.0 else min(out[C.ready_in], soon)


@inlined
def _share(types: Array, slots: float, out: Array) -> None:
    """Make shares and means of the sums over workers."""
    for i in range(C.starting, C.failed + 1):
        out[i] /= slots
    for k in range(types.shape[0]):
        first = _CLUSTER + k * _TYPE
        serving = out[first + T.serving]
        out[first + T.load] = _clip(_ratio(out[first + T.load], serving, 0.0))
        out[first + T.kv_used] = _clip(_ratio(out[first + T.kv_used], serving, 0.0))
        for i in range(first + T.serving, first + T.leaving + 1):
            out[i] /= types[k].slots


@compiled
def encode(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, history: Array, r: int,
    scaling: bool, horizon_s: float, out_workers: Array, out_request: Array, out_cluster: Array,
) -> None:  # fmt: skip
    """Encode the cluster for request ``r`` (NONE: no request is at hand) into three float32 arrays.

    ``workers`` must be up to date (``sync_all`` in the simulator). ``scaling``: a scaling decision is asked for.
    ``horizon_s``: when requests cease to arrive, inf where that has no end. The outputs: (slots, worker features),
    (request features,), (:func:`cluster_size`,).
    """
    now_s = cluster[0].now_s
    slots = float(workers.shape[0])
    _encode_cluster(cluster, types, history, scaling, horizon_s, slots, out_cluster)
    klass, stage = 0, 0
    prompt = output = waited_s = 0.0
    out_request[:] = 0.0
    out_workers[:] = 0.0
    if r != NONE:
        request = requests[r]
        klass, stage = request.klass, request.stage
        prompt, output, waited_s = request.prompt_tokens, request.predicted_tokens, now_s - request.arrival_s
        _encode_request(request, slo, now_s, out_request)
    asked = Asked(stage, prompt, output, waited_s)
    dearest = 0.0
    for k in range(types.shape[0]):
        dearest = max(dearest, types[k].price_per_s)
    for k in range(types.shape[0]):
        kind = types[k]
        prefills = asked.stage == NEW and kind.role != DECODE_ROLE
        stall_s = law.prefill_time(laws, k, asked.prompt, asked.prompt * asked.prompt) if prefills else 0.0
        scale = _scales(kind, slo, klass)
        index, price = (k + 1.0) / types.shape[0], _ratio(kind.price_per_s, dearest, 0.0)
        prefills_only = 1.0 if kind.role == PREFILL_ROLE else 0.0
        decodes_only = 1.0 if kind.role == DECODE_ROLE else 0.0
        gpus = _clip(kind.gpus * 0.125)
        for w in range(kind.first_slot, kind.first_slot + kind.slots):
            worker = workers[w]
            row = out_workers[w]
            row[W.type] = index
            row[W.prefill_role] = prefills_only
            row[W.decode_role] = decodes_only
            row[W.gpus] = gpus
            row[W.price] = price
            if worker.status == OFF:
                continue
            row[worker.status - STARTING] = 1.0
            _count_worker(worker, now_s, scale.seqs, scale.blocks, _CLUSTER + k * _TYPE, out_cluster)
            if worker.status == STARTING or worker.status == FAILED:
                row[W.ready_in] = _clip((worker.ready_s - now_s) / 60.0)
                continue
            _encode_load(worker, kind, laws, slo, now_s, scale, asked, stall_s, row)
            row[W.can_place] = 1.0 if r != NONE and can_place(workers, requests, w, r) else 0.0
    _share(types, slots, out_cluster)


def blank(slots: int, types: int) -> dict[str, NDArray[np.float32]]:
    """Zeroed outputs for one encoding."""
    return {
        "workers": np.zeros((slots, len(WORKER_FEATURES)), dtype=np.float32),
        "request": np.zeros(len(REQUEST_FEATURES), dtype=np.float32),
        "cluster": np.zeros(cluster_size(types), dtype=np.float32),
    }
