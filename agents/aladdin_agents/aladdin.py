"""The Aladdin placement: best fit over four constraints, compiled (docs/aladdin.md; arXiv 2405.06856).

A request goes to the fullest worker that keeps every promise with it. What happens where there is none was chosen by
measurement, see docs/aladdin.md: first the least loaded worker against which only the long run speaks, then the
router's hold queue while time is left, then the worker on which the fewest promises are broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from aladdin_agents.best_fit import fuller, loads
from aladdin_agents.constraints import kv_bound, kv_held_at_most, kv_room, pace_load, promise_spare, ttft_spare
from aladdin_agents.expectations import TABLE, keep_table
from aladdin_agents.harm import broken_promises
from aladdin_agents.kv_peak import kv_peak
from aladdin_agents.predictions import (
    batch_after,
    first_token_after,
    own_prefill,
    own_squares,
    prefill_backlog,
    rest_of_step,
)
from aladdin_agents.tunable import TunableKernel
from aladdin_env.compiled import compiled, inlined
from aladdin_env.errors import InputError
from aladdin_env.policy import placement_kernel
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import DECODE_ROLE, HOLD, NEW, PREFILL_ROLE, REJECT, Array
from aladdin_traces import checks

# Layout of the kernel's memory: the parameters of Settings in their order, then what it remembers, then working space.
_THETA, _GAMMA, _AHEAD, _FRESH, _STRETCH, _HOLD_SHARE, _REBALANCE, _TARGET, _GROUPS, _AFFINITY, _SHED = range(11)
_HOLD_S, _FLOOR, _STRIDE, _LONGEST, _REFRESHED, _NOW_THETA, _TUNED, _LATE, _SLOW, _TABLE = range(11, 21)
_SPACE = _TABLE + TABLE
# The margin tunes itself after so many finished requests; how far it then moves, and its lower end.
_TUNE_EVERY, _DOWN, _UP, _LEAST_THETA = 200.0, 0.98, 1.01, 0.7
# Added to the promises broken where memory or places would not do: such a worker comes last.
_NO_ROOM = 1000.0
# A worker that has cached enough of the prompt counts as so much fuller: beyond any load that holds a promise.
_HOME = 10.0


@dataclass(frozen=True)
class Settings:
    """Parameters of the Aladdin placement.

    Attributes:
        theta: Share of ATGT that the steady pace of a worker may take, above 0.
        gamma: Share of the KV memory that the expected peak may take, above 0.
        ahead: Tokens (q) over which the promise to running requests is kept; 1 is the any-time guarantee.
        fresh_ahead: The same for requests that are being prefilled; 0 promises them nothing. Outputs shorter than that
            may lose their pace on any fleet, however large.
        stretch: 1: before anything is held or broken, a worker is taken on which only the long run speaks against it
            (steady pace, KV peak to come) while the present does not, the least loaded of them; 0: never.
        hold_share: A request that no worker can take is held until this share of its TTFT is gone or would be gone with
            the prefill; 0 never holds.
        rebalance: Weight of a worker's signed prediction error in its KV room and in ties; 0 switches re-balancing off.
        target: Attainment by which theta tunes itself, between 0.7 and 1; 0: it stays as given.
        groups: The workers are dealt into so many groups, and requests to groups in turn; 1 looks at all workers.
        affinity: A worker that has cached this share of the prompt comes before all that have not; 0: only the promises
            know of cached prefixes.
        shed: A new request is rejected where every worker would break so many promises or more for it, its own
            included (1: whatever it does, one objective is missed); 0: never.
    """

    theta: float = 0.9
    gamma: float = 0.95
    ahead: float = 1.0
    fresh_ahead: float = 1.0
    stretch: float = 1.0
    hold_share: float = 0.7
    rebalance: float = 1.0
    target: float = 0.99
    groups: int = 1
    affinity: float = 0.0
    shed: float = 0.0

    def __post_init__(self) -> None:
        for name in ("theta", "gamma"):
            checks.number(f"aladdin.{name}", getattr(self, name), above=0.0, high=1.0)
        checks.number("aladdin.ahead", self.ahead, above=0.0)
        for name in ("fresh_ahead", "stretch", "rebalance", "shed"):
            checks.number(f"aladdin.{name}", getattr(self, name), low=0.0)
        for name in ("hold_share", "target", "affinity"):
            if not 0 <= checks.number(f"aladdin.{name}", getattr(self, name)) < 1:
                raise InputError(f"aladdin.{name}", getattr(self, name), "give a share, 0 or more and below 1")
        groups = checks.number("aladdin.groups", self.groups)
        if groups != int(groups) or groups < 1:
            raise InputError("aladdin.groups", self.groups, "give a whole number, 1 or more")


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
    room = kv_room(workers, w, memory[_GAMMA], memory[_REBALANCE])
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
    """The candidate on which the fewest promises are broken; one without room only where none has any.

    REJECT where even there too many would be, and the settings say so.
    """
    best = HOLD
    least = np.inf
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            cost = broken_promises(workers, requests, cluster, types, laws, slo, memory, _TABLE, w, r, least)
            if cost < least and not _has_room(workers, requests, laws, memory, w, r):
                cost += _NO_ROOM * (1.0 + loads(workers, requests, w, r, 0.0, memory[_GAMMA])[0])
            if cost < least:
                least = cost
                best = w
    sheds = memory[_SHED] > 0.0 and requests[r].stage == NEW and least >= memory[_SHED]
    return REJECT if sheds else best


@inlined
def _tune(cluster: Array, memory: Array) -> None:
    """Move theta by what became of the last requests: down where pace is lost, up where TTFT is, or nothing."""
    sums = cluster[0]
    count = sums.finished - memory[_TUNED]
    if count < 0.0:
        memory[_TUNED], memory[_LATE], memory[_SLOW] = 0.0, 0.0, 0.0
        memory[_NOW_THETA] = memory[_THETA]
        return
    if count < _TUNE_EVERY:
        return
    slow, late = sums.atgt_missed - memory[_SLOW], sums.ttft_missed + sums.unserved - memory[_LATE]
    allowed = (1.0 - memory[_TARGET]) * count
    if slow > 0.5 * allowed and slow > late:
        memory[_NOW_THETA] = max(_LEAST_THETA, memory[_NOW_THETA] * _DOWN)
    elif slow < 0.25 * allowed or late > slow:
        memory[_NOW_THETA] = min(1.0, memory[_NOW_THETA] * _UP)
    memory[_TUNED], memory[_LATE], memory[_SLOW] = sums.finished, sums.ttft_missed + sums.unserved, sums.atgt_missed


@inlined
def _bonus(workers: Array, requests: Array, memory: Array, w: int, r: int) -> float:
    """What being the home of the prefix of ``r`` adds to the load of ``w``."""
    share = memory[_AFFINITY]
    is_home = share > 0.0 and workers[w].prefix_hit_tokens >= share * requests[r].prompt_tokens
    return _HOME if is_home else 0.0


@inlined
def _fullness(
    workers: Array,
    requests: Array,
    cluster: Array,
    types: Array,
    laws: Array,
    memory: Array,
    w: int,
    r: int,
    pace: float,
) -> tuple[float, float]:
    """By what best fit ranks ``w``: load and norm, or on a prefill worker minus the seconds until its queue is done.

    A queue of prompts is worked off no faster for being long: to pack prefill workers would only make everyone wait.
    """
    if workers[w].role != PREFILL_ROLE:
        return loads(workers, requests, w, r, pace, memory[_GAMMA])
    own, squares = own_prefill(workers, requests, w, r), own_squares(workers, requests, w, r)
    queue_s = prefill_backlog(workers, cluster, types, laws, w, own, squares)
    return -(rest_of_step(workers, w, cluster[0].now_s) + queue_s), 0.0


@compiled
def _scan(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, memory: Array,
    r: int, group: int, groups: int,
) -> tuple[int, int, float, float]:  # fmt: skip
    """Look at the workers ``group, group + groups, ...``.

    Returns the fullest on which everything holds, the least loaded on which only the long run speaks against it (HOLD
    where there is none), the load of the second, and the soonest first token, seconds from now.
    """
    best, second = HOLD, HOLD
    best_load, best_norm, best_error = -np.inf, 0.0, 0.0
    second_load = np.inf
    soonest_s = np.inf
    for w in range(group, workers.shape[0], groups):
        if not can_place(workers, requests, w, r):
            continue
        pace = pace_load(workers, requests, cluster, types, laws, slo, w, r, memory[_NOW_THETA])
        load, norm = _fullness(workers, requests, cluster, types, laws, memory, w, r, pace)
        home = _bonus(workers, requests, memory, w, r)
        error = memory[_REBALANCE] * workers[w].prediction_error_tokens
        if pace <= 1.0:
            if best != HOLD and not fuller(load + home, norm, error, best_load, best_norm, best_error):
                continue
        elif best != HOLD:
            continue
        first_token_s, queue_spare_s = first_token_after(workers, requests, cluster, types, laws, slo, w, r)
        soonest_s = min(soonest_s, first_token_s)
        if not _promises_hold(workers, requests, cluster, types, laws, slo, memory, w, r, first_token_s, queue_spare_s):
            continue
        if pace <= 1.0 and _has_room(workers, requests, laws, memory, w, r):
            best, best_load, best_norm, best_error = w, load + home, norm, error
        elif abs(load) - home < second_load and _has_room_now(workers, requests, w, r):
            second, second_load = w, abs(load) - home
    return best, second, second_load, soonest_s


@placement_kernel("aladdin", needs_progress=True)
def kernel(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The fullest worker on which all four constraints hold; see the module for what follows where there is none.

    With several groups the request's own is looked at first, and another only where nothing in it would do.
    """
    keep_table(cluster, lengths, memory, _LONGEST, _REFRESHED, _TABLE)
    if memory[_TARGET] > 0.0:
        _tune(cluster, memory)
    groups = int(memory[_GROUPS])
    second, second_load, soonest_s = HOLD, np.inf, np.inf
    for turn in range(groups):
        best, other, load, seconds = _scan(
            workers, requests, cluster, types, laws, slo, memory, r, (r + turn) % groups, groups
        )
        if best != HOLD:
            return best
        soonest_s = min(soonest_s, seconds)
        if other != HOLD and load < second_load:
            second, second_load = other, load
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
    rest[_NOW_THETA - at] = chosen.theta
    return TunableKernel.of(kernel, parameters, rest)
