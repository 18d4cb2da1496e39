"""The Aladdin placement: best fit over four constraints, compiled (docs/aladdin.md; arXiv 2405.06856).

A request goes to the fullest worker that keeps every promise with it. What happens where there is none was chosen by
measurement, see docs/aladdin.md: first the least loaded worker against which only the long run speaks, then the
router's hold queue while time is left, then the worker on which the fewest promises are broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from aladdin_agents.constraints import kv_bound, kv_held_at_most, kv_room, pace_load, promise_spare, ttft_spare
from aladdin_agents.expectations import TABLE, renew_table
from aladdin_agents.harm import broken_promises
from aladdin_agents.kv_peak import kv_peak
from aladdin_agents.predictions import batch_after, context_at_end, first_token_after
from aladdin_agents.tunable import TunableKernel
from aladdin_env.compiled import compiled, inlined
from aladdin_env.errors import InputError
from aladdin_env.policy import placement_kernel
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import DECODE_ROLE, HOLD, NEW, PREFILL_ROLE, Array

# Layout of the kernel's memory: the parameters of Settings in their order, then what it remembers, then working space.
_THETA, _GAMMA, _AHEAD, _FRESH, _STRETCH, _HOLD_SHARE, _HOLD_S, _FLOOR = range(8)
_LONGEST, _REFRESHED, _STRIDE, _TABLE = range(8, 12)
_SPACE = _TABLE + TABLE
# Added to the promises broken where memory or places would not do: such a worker comes last.
_NO_ROOM = 1000.0


@dataclass(frozen=True)
class Settings:
    """Parameters of the Aladdin placement.

    Attributes:
        theta: Share of ATGT that the steady pace of a worker may take, above 0.
        gamma: Share of the KV memory that the expected peak may take, above 0.
        ahead: Tokens (q) over which the promise to running requests is kept; 1 is the any-time guarantee.
        fresh_ahead: The same for requests that are being prefilled; 0 promises them nothing.
        stretch: 1: before anything is held or broken, a worker is taken on which only the long run speaks against it
            (steady pace, KV peak to come) while the present does not, the least loaded of them; 0: never.
        hold_share: A request that no worker can take is held until this share of its TTFT is gone or would be gone with
            the prefill; 0 never holds.
    """

    theta: float = 0.9
    gamma: float = 0.95
    ahead: float = 1.0
    fresh_ahead: float = 8.0
    stretch: float = 1.0
    hold_share: float = 0.7

    def __post_init__(self) -> None:
        for name in ("theta", "gamma", "ahead"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"aladdin.{name}", getattr(self, name), "give a finite number above 0")
        for name in ("fresh_ahead", "stretch", "hold_share"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InputError(f"aladdin.{name}", getattr(self, name), "give a finite number, 0 or more")


@inlined
def _has_room_now(workers: Array, requests: Array, w: int, r: int) -> bool:
    """Whether ``w`` has a place in its batch and memory for all prompts that are to be prefilled there."""
    worker = workers[w]
    if batch_after(workers, w) > worker.max_num_seqs:
        return False
    return bool(kv_held_at_most(workers, requests, w, r) <= worker.kv_blocks * worker.block_size)


@inlined
def _has_room(workers: Array, requests: Array, laws: Array, memory: Array, w: int, r: int) -> bool:
    """Constraint 4 and a place in the batch: by the bound if that will do, else by the exact peak."""
    if batch_after(workers, w) > workers[w].max_num_seqs:
        return False
    room = kv_room(workers, w, memory[_GAMMA])
    longest = max(memory[_LONGEST], max(memory[_FLOOR], requests[r].predicted_tokens))
    if kv_bound(workers, requests, laws, w, r, longest) <= room:
        return True
    if workers[w].role == PREFILL_ROLE:
        return False
    return kv_peak(workers, requests, laws, memory, _TABLE, _SPACE, int(memory[_STRIDE]), w, r) <= room


@inlined
def _promises_hold(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, memory: Array,
    w: int, r: int, first_token_s: float, queue_spare_s: float,
) -> bool:  # fmt: skip
    """Constraints 1 and 3."""
    kind = workers[w].type_index
    own_spare_s = ttft_spare(requests, cluster, laws, slo, kind, r, first_token_s)
    if workers[w].role != DECODE_ROLE and (queue_spare_s < 0.0 or own_spare_s < 0.0):
        return False
    ahead, fresh = memory[_AHEAD], memory[_FRESH]
    return promise_spare(workers, requests, cluster, types, laws, slo, w, r, first_token_s, ahead, fresh) >= 0.0


@inlined
def _loads(workers: Array, requests: Array, w: int, r: int, pace: float, gamma: float) -> tuple[float, float]:
    """How full ``w`` is with ``r``: the largest normalised load (time, memory, places) and the L2 norm of all three."""
    worker = workers[w]
    kv = context_at_end(workers, requests, w, r) / (gamma * worker.kv_blocks * worker.block_size)
    places = batch_after(workers, w) / worker.max_num_seqs
    return max(pace, max(kv, places)), pace * pace + kv * kv + places * places


@inlined
def _fuller(load: float, norm: float, error: float, best: float, best_norm: float, best_error: float) -> bool:
    """Order of best fit: load, then norm, then the worker whose outputs ran shortest against their prediction."""
    if load != best:
        return load > best
    if norm != best_norm:
        return norm > best_norm
    return error > best_error


@inlined
def _may_hold(requests: Array, cluster: Array, slo: Array, memory: Array, r: int, soonest_s: float) -> bool:
    """Whether ``r`` can wait at the router: a new one whose TTFT leaves time beside its prefill."""
    waited_s = cluster[0].now_s - requests[r].arrival_s
    if requests[r].stage != NEW or waited_s >= memory[_HOLD_S]:
        return False
    return bool(waited_s + soonest_s < memory[_HOLD_SHARE] * slo[requests[r].klass, 0])


@compiled
def _least_broken(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, memory: Array,
    r: int,
) -> int:  # fmt: skip
    """The candidate on which the fewest promises are broken; one without room only where none has any."""
    best = HOLD
    least = np.inf
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            cost = broken_promises(workers, requests, cluster, types, laws, slo, memory, _TABLE, w, r, least)
            if cost < least and not _has_room(workers, requests, laws, memory, w, r):
                cost += _NO_ROOM * (1.0 + _loads(workers, requests, w, r, 0.0, memory[_GAMMA])[0])
            if cost < least:
                least = cost
                best = w
    return best


@inlined
def _refresh(cluster: Array, lengths: Array, memory: Array) -> None:
    """Keep the expected lengths up to date: after every 16 finished requests and a twentieth more."""
    finished = cluster[0].finished
    if finished >= 1.05 * memory[_REFRESHED] + 16.0 or finished < memory[_REFRESHED]:
        memory[_LONGEST] = renew_table(lengths, memory, _TABLE)
        memory[_REFRESHED] = finished


@placement_kernel("aladdin", needs_progress=True)
def kernel(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The fullest worker on which all four constraints hold; see the module for what follows where there is none."""
    now_s = cluster[0].now_s
    _refresh(cluster, lengths, memory)
    best, second = HOLD, HOLD
    best_load, best_norm, best_error = -1.0, 0.0, 0.0
    second_load = np.inf
    soonest_s = np.inf
    for w in range(workers.shape[0]):
        if not can_place(workers, requests, w, r):
            continue
        pace = pace_load(workers, requests, cluster, types, laws, slo, w, r, memory[_THETA])
        load, norm = _loads(workers, requests, w, r, pace, memory[_GAMMA])
        error = workers[w].prediction_error_tokens
        if pace <= 1.0:
            if best != HOLD and not _fuller(load, norm, error, best_load, best_norm, best_error):
                continue
        elif best != HOLD:
            continue
        first_token_s, queue_spare_s = first_token_after(workers, requests, types, laws, slo, w, r, now_s)
        soonest_s = min(soonest_s, first_token_s)
        if not _promises_hold(workers, requests, cluster, types, laws, slo, memory, w, r, first_token_s, queue_spare_s):
            continue
        if pace <= 1.0 and _has_room(workers, requests, laws, memory, w, r):
            best, best_load, best_norm, best_error = w, load, norm, error
        elif load < second_load and _has_room_now(workers, requests, w, r):
            second, second_load = w, load
    if best != HOLD:
        return best
    if second != HOLD and memory[_STRETCH] > 0.0:
        return second
    if _may_hold(requests, cluster, slo, memory, r, soonest_s):
        return HOLD
    return _least_broken(workers, requests, cluster, types, laws, slo, memory, r)


def make(scenario: Scenario, settings: Settings | None = None) -> TunableKernel:
    """The Aladdin placement for ``scenario``."""
    chosen = settings or Settings()
    parameters: Mapping[str, float] = asdict(chosen)
    stride = max(kind.max_num_seqs for kind in scenario.fleet.types) + 1
    # An oracle's predictions are no means: the bound on the KV peak knows nothing of them.
    floor = scenario.predictor.prior_tokens if scenario.predictor.kind == "bucket_mean" else 1e12
    rest = np.zeros(_SPACE - len(parameters) + 2 * stride)
    at = len(parameters)
    used = scenario.slo.targets()[: max(1, len(scenario.slo.classes))]
    rest[_HOLD_S - at] = min(0.5 * scenario.max_hold_s, chosen.hold_share * used[:, 0].min())
    rest[_FLOOR - at] = floor
    rest[_STRIDE - at] = stride
    return TunableKernel.of(kernel, parameters, rest)
