"""From a scenario and a seeded generator to filled arrays: what is static, what is drawn, what is reset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aladdin_env.compiled import compiled, inlined
from aladdin_env.errors import InputError
from aladdin_env.scenario import Scenario, WorkerType
from aladdin_env.simulator import laws
from aladdin_env.simulator.batch import clear_worker
from aladdin_env.simulator.fleet import switch_on
from aladdin_env.simulator.state import (
    FAILURE,
    LOG_CAPACITY,
    NEW,
    NONE,
    PENDING,
    PREDICTORS,
    ROLES,
    SCHEDULERS,
    Array,
    Shape,
    World,
)
from aladdin_traces import Trace

_MOST_EVENTS = 5_000_000  # failures drawn, or heartbeats, of an episode: more is a slip of the pen
_COLD_STARTS = 256  # drawn per type and episode; used in turn


@dataclass(frozen=True)
class Draws:
    """Everything random of one episode, drawn before it starts."""

    trace: Trace
    coins: NDArray[np.float64]  # (requests,) uniform in [0, 1), one per request, for policies that randomise
    cold_starts: NDArray[np.float64]  # (types, n) seconds
    failures: Array  # (n,) FAILURE, ascending; slots may be off by then
    factors: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # see Predictor.factors


def draw(scenario: Scenario, rng: np.random.Generator) -> Draws:
    """Draw an episode of ``scenario``. The same generator state gives the same episode on any machine."""
    trace = scenario.workload.sample(rng, scenario.horizon_s)
    coins = rng.random(len(trace))
    cold = np.stack([kind.cold_start.sample(rng, _COLD_STARTS) for kind in scenario.fleet.types])
    failures = _draw_failures(scenario, rng, trace)
    return Draws(trace, coins, cold, failures, scenario.predictor.factors(rng, len(trace)))


def _draw_failures(scenario: Scenario, rng: np.random.Generator, trace: Trace) -> Array:
    """A Poisson process per slot; a failure of a slot that is not serving is ignored, which keeps the rate per worker.

    Drawn for twice the time in which requests arrive: what lasts longer than that fails no more.
    """
    failures = scenario.fleet.failures
    if failures.mtbf_s == 0 or len(trace) == 0:
        return np.zeros(0, dtype=FAILURE)
    span_s = 2 * max(float(trace.arrival_s[-1]), scenario.horizon_s or 0.0)
    slots = scenario.fleet.slots
    expected = span_s * slots / failures.mtbf_s
    if expected > _MOST_EVENTS:
        mend = f"it asks for about {expected:.3g} failures in {span_s:g} s"
        least = span_s * slots / _MOST_EVENTS
        raise InputError("fleet.failures.mtbf_s", failures.mtbf_s, f"{mend}; give more than {least:.3g}")
    n = rng.poisson(expected)
    drawn = np.zeros(n, dtype=FAILURE)
    drawn["time_s"] = np.sort(rng.uniform(0, span_s, n))
    drawn["slot"] = rng.integers(0, slots, n)
    return drawn


class Room(NamedTuple):
    """How much arrays of one episode must hold."""

    requests: int
    failures: int
    prefix_ids: int = 0
    cache: int = 0  # prefix blocks that fit into the KV of the largest worker that caches them

    @classmethod
    def of(cls, scenario: Scenario, draws: Draws) -> Room:
        """What this episode needs."""
        blocks = draws.trace.prefix_blocks
        spans = _prefix_spans(scenario, draws.trace)
        if blocks is None or not any(spans):
            return cls(len(draws.trace), len(draws.failures))
        fitting = (kind.kv_blocks // span for kind, span in zip(scenario.fleet.types, spans, strict=True) if span)
        return cls(len(draws.trace), len(draws.failures), max(len(blocks.ids), 1), max(fitting))


def _prefix_spans(scenario: Scenario, trace: Trace) -> list[int]:
    """KV blocks of a prefix block for each worker type; 0 where prefixes are not cached.

    Raises:
        InputError: the prefix blocks are not whole numbers of KV blocks.
    """
    if trace.prefix_blocks is None:
        return [0] * len(scenario.fleet.types)
    size = trace.prefix_blocks.block_size
    spans = []
    for kind in scenario.fleet.types:
        caches = kind.prefix_cache and kind.role != "decode"
        if caches and size % kind.block_size:
            mend = f"give a divisor of the workload's prefix blocks of {size} tokens, or prefix_cache = false"
            raise InputError(f"worker type {kind.name!r}: block_size", kind.block_size, mend)
        spans.append(size // kind.block_size if caches else 0)
    return spans


def shape_of(scenario: Scenario, room: Room, memory: int, log: bool) -> Shape:
    """Array sizes for episodes that ``room`` is enough for."""
    types = scenario.fleet.types
    requests = max(room.requests, 1)
    largest = max(kind.max_num_seqs for kind in types)
    return Shape(
        slots=scenario.fleet.slots,
        requests=requests,
        types=len(types),
        row=laws.row_length(largest),
        max_num_seqs=largest,
        block_size=max(kind.block_size for kind in types),
        cold_starts=_COLD_STARTS,
        failures=max(room.failures, 1),
        # at most one transfer per request; without split workers no transfer (fail_worker looks at the size)
        transits=max(requests, 2) if scenario.fleet.is_split else 1,
        memory=max(memory, 1),
        log=LOG_CAPACITY if log else 1,
        prefixes=requests if room.prefix_ids else 1,
        prefix_ids=max(room.prefix_ids, 1),
        cache=max(room.cache, 1),
    )


def check(scenario: Scenario, trace: Trace) -> None:
    """Refuse what cannot work: a prompt that fits nowhere, an SLO that an empty cluster would miss.

    Raises:
        InputError: naming the constraint and the least value that would do.
    """
    if len(trace) == 0:
        raise InputError("workload", f"0 requests in {scenario.horizon_s} s", "raise the rate or the horizon")
    _check_heartbeats(scenario, trace)
    types = scenario.fleet.types
    entry = [kind for kind in types if kind.role != "decode"]
    longest = int(trace.prompt_tokens.max())
    room = max(kind.longest_request_tokens for kind in entry)
    if scenario.fleet.is_split:  # a prefilled request needs room for a token more
        room = min(room, max(kind.longest_request_tokens for kind in types if kind.role == "decode") - 1)
    if longest > room:
        at = int(np.argmax(trace.prompt_tokens))
        raise InputError(
            f"prompt_tokens of request {at}",
            longest,
            f"no worker holds more than {room} tokens of KV: give a larger worker, or clip the prompts",
        )
    _check_slo(scenario, trace)


def _check_heartbeats(scenario: Scenario, trace: Trace) -> None:
    span_s = max(trace.duration_s, scenario.horizon_s or 0.0)
    if span_s > scenario.heartbeat_s * _MOST_EVENTS:
        mend = f"it asks for {span_s / scenario.heartbeat_s:.3g} scaling decisions in {span_s:g} s"
        raise InputError("heartbeat_s", scenario.heartbeat_s, f"{mend}; give more than {span_s / _MOST_EVENTS:.3g}")


def _check_slo(scenario: Scenario, trace: Trace) -> None:
    """The median request, alone on an idle cluster, must meet the SLO of its class on some worker type."""
    types = scenario.fleet.types
    for klass, (ttft_s, atgt_s) in enumerate(scenario.slo.targets()):
        mine = trace.klass == klass
        if not mine.any():
            continue
        median, nearly_all = (float(x) for x in np.percentile(trace.prompt_tokens[mine], (50, 99)))
        best_ttft, best_atgt = _alone_s(types, median)
        most_ttft, most_atgt = _alone_s(types, nearly_all)
        of_class = f" of class {klass}" if scenario.slo.classes else ""
        limits = (("slo.ttft_s", ttft_s, best_ttft, most_ttft), ("slo.atgt_s", atgt_s, best_atgt, most_atgt))
        for name, given, best, most in limits:
            if given < best:
                raise InputError(
                    name + of_class,
                    given,
                    f"infeasible: alone on a worker the median request ({median:.0f} prompt tokens) needs {best:.4g} s;"
                    f" for 99 % of the requests give at least {np.ceil(most * 1e4) / 1e4:.4g}",
                )


def _alone_s(types: tuple[WorkerType, ...], prompt_tokens: float) -> tuple[float, float]:
    """TTFT and decode step of such a request alone on the best idle worker, seconds."""
    first = min(k.latency.overhead_s + k.latency.prefill_s(prompt_tokens) for k in types if k.role != "decode")
    return first, min(k.latency.decode_s(1, prompt_tokens) for k in types if k.role != "prefill")


def write_static(world: World, scenario: Scenario) -> None:
    """Fill what does not change from episode to episode (arrays of one environment)."""
    row = world.laws.shape[1]
    first = 0
    for i, kind in enumerate(scenario.fleet.types):
        record = world.types[i]
        record["first_slot"], record["slots"] = first, kind.maximum
        record["minimum"], record["maximum"] = kind.minimum, kind.maximum
        record["gpus"] = kind.gpus
        record["scheduler"], record["role"] = SCHEDULERS.index(kind.scheduler), ROLES.index(kind.role)
        record["max_num_seqs"] = kind.max_num_seqs
        record["max_num_batched_tokens"] = kind.max_num_batched_tokens
        record["block_size"], record["kv_blocks"] = kind.block_size, kind.kv_blocks
        record["price_per_s"] = kind.price_per_s
        record["kv_bytes_per_token"] = kind.latency.kv_bytes_per_token
        record["cold_start_s"] = kind.cold_start.mean_s
        world.laws[i] = kind.latency.row(kind.max_num_seqs, row)
        slots = world.workers[first : first + kind.maximum]
        slots["type_index"], slots["role"] = i, record["role"]
        slots["kv_capacity_tokens"] = kind.longest_request_tokens
        slots["kv_blocks"], slots["block_size"] = kind.kv_blocks, kind.block_size
        slots["max_num_seqs"] = kind.max_num_seqs
        first += kind.maximum
    world.slo[:] = scenario.slo.targets()
    _write_control(world, scenario)


def _write_control(world: World, scenario: Scenario) -> None:
    control = world.control[0]
    control["max_retries"] = scenario.max_retries
    control["max_hold_s"] = scenario.max_hold_s
    control["repair_s"] = scenario.fleet.failures.repair_s
    control["max_gpus"] = np.inf if scenario.fleet.max_gpus is None else scenario.fleet.max_gpus
    control["bandwidth"] = scenario.fleet.transfer.bandwidth_bytes_per_s
    control["latency_s"] = scenario.fleet.transfer.latency_s
    control["prior_tokens"] = scenario.predictor.prior_tokens
    control["prior_weight"] = scenario.predictor.prior_weight
    control["predictor"] = PREDICTORS.index(scenario.predictor.kind)
    control["smallest_capacity"] = min(kind.longest_request_tokens for kind in scenario.fleet.types)
    world.cluster[0]["heartbeat_s"] = scenario.heartbeat_s
    world.cluster[0]["start_of_day_s"] = scenario.start_of_day_s


_CLUSTER_KEPT = ("heartbeat_s", "start_of_day_s")
_CONTROL_KEPT = (
    "max_retries", "max_hold_s", "repair_s", "max_gpus", "bandwidth", "latency_s", "prior_tokens", "prior_weight",
    "predictor", "smallest_capacity", "log_on", "beat_returns",
)  # fmt: skip


def _zero_but(record: Array, kept: tuple[str, ...]) -> None:
    values = [record[0][name] for name in kept]
    record[:] = np.zeros(1, dtype=record.dtype)
    for name, value in zip(kept, values, strict=True):
        record[0][name] = value


def load(world: World, scenario: Scenario, draws: Draws, memory: NDArray[np.float64]) -> None:
    """Reset the arrays of one environment to the start of an episode."""
    trace = draws.trace
    n = len(trace)
    _fill(
        world.requests, world.truth, trace.arrival_s, trace.prompt_tokens, trace.output_tokens, trace.klass,
        draws.coins, _factors(scenario, draws),
    )  # fmt: skip
    world.lengths[:] = 0.0
    world.history[:] = 0.0
    world.memory[:] = 0.0
    world.memory[: len(memory)] = memory
    world.cold_starts[:] = draws.cold_starts
    world.failures["time_s"] = np.inf
    world.failures[: len(draws.failures)] = draws.failures
    _zero_but(world.cluster, _CLUSTER_KEPT)
    _zero_but(world.control, _CONTROL_KEPT)
    world.control[0]["total"] = world.control[0]["remaining"] = n
    _load_prefixes(world, scenario, trace)
    start_fleet(world, np.array([kind.initial for kind in scenario.fleet.types], dtype=np.int64))


def _factors(scenario: Scenario, draws: Draws) -> NDArray[np.float64]:
    """The noise of an oracle, one factor per request; nothing where there is none."""
    n = len(draws.trace) if scenario.predictor.kind == "noisy_oracle" else 0
    if n > 0 and len(draws.factors) != n:
        raise InputError("draws.factors", len(draws.factors), f"draw for a noisy oracle: it takes {n}, one per request")
    return draws.factors[:n]


def _load_prefixes(world: World, scenario: Scenario, trace: Trace) -> None:
    """The block ids of the episode's prompts, as far as anybody caches them."""
    spans = _prefix_spans(scenario, trace)
    world.types["prefix_span"] = spans
    if trace.prefix_blocks is None or not any(spans):
        return
    blocks = trace.prefix_blocks
    n = len(blocks)
    numbered, _ = blocks.numbered()
    world.control[0]["prefix_tokens"] = blocks.block_size
    world.control[0]["cache_mask"] = world.cache_buckets.shape[1] - 1
    world.prefix_ids[: len(numbered)] = numbered
    world.prefixes["first"][:n] = blocks.offsets[:-1]
    world.prefixes["count"][:n] = np.minimum(blocks.usable_counts, trace.prompt_tokens // blocks.block_size)
    world.prefixes["held"][:n] = 0
    world.prefixes["hit_tokens"][:n] = 0


@inlined
def write_request(
    requests: Array, truth: Array, r: int, arrival_s: float, prompt_tokens: int, output_tokens: int, klass: int,
    coin: float, factor: float,
) -> None:  # fmt: skip
    """Make row ``r`` a request that is yet to arrive."""
    request = requests[r]
    request.arrival_s = arrival_s
    request.admitted_s = np.nan
    request.first_token_s = np.nan
    request.finish_s = np.nan
    request.joined_step = 0
    request.coin = coin
    request.predicted_tokens = factor
    request.prompt_tokens = prompt_tokens
    request.generated = 0
    request.computed = 0
    request.worker = NONE
    request.next = NONE
    request.prev = NONE
    request.preemptions = 0
    request.retries = 0
    request.status = PENDING
    request.stage = NEW
    request.decoding = 0
    request.klass = klass
    request.missed = 0
    hidden = truth[r]
    hidden.output_tokens = output_tokens
    hidden.limit = 0
    hidden.chunk = 0
    hidden.source = NONE
    hidden.hold_until_s = 0.0


@compiled
def _fill(
    requests: Array, truth: Array, arrival_s: Array, prompt: Array, output: Array, klass: Array, coins: Array,
    factors: Array,
) -> None:  # fmt: skip
    """Requests that are yet to come, each record written once."""
    for r in range(len(arrival_s)):
        factor = factors[r] if len(factors) > 0 else 0.0
        write_request(requests, truth, r, arrival_s[r], prompt[r], output[r], klass[r], coins[r], factor)


@compiled
def start_fleet(world: World, initial: Array) -> None:
    """Workers at time 0: the first ``initial`` of each type READY, the others OFF; nothing queued anywhere."""
    control = world.control[0]
    control.asked = NONE
    control.pending_head = NONE
    control.pending_tail = NONE
    control.hold_head = NONE
    control.hold_tail = NONE
    world.cluster[0].next_heartbeat_s = world.cluster[0].heartbeat_s
    for w in range(world.workers.shape[0]):
        clear_worker(world, w)
        world.workers[w].status = 0
        world.workers[w].accepts = 0
        world.workers[w].finished = 0
        world.workers[w].ready_s = np.inf
        world.event_s[w] = np.inf
        world.heap[0, w] = w
        world.heap[1, w] = w
    for kind in range(world.types.shape[0]):
        limits = world.types[kind]
        limits.starts = 0
        for w in range(limits.first_slot, limits.first_slot + initial[kind]):
            switch_on(world, w, 0.0, True)
    control.offer = 0


def one(world: World, e: int) -> World:
    """The arrays of environment ``e`` of a batch (views)."""
    return World(*(array[e] for array in world))
