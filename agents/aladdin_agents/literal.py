"""The Aladdin placement as its formulas read, without our additions: best fit, and least violation (docs/aladdin.md).

Constraint 3 trusts the predicted remainder of every running request, constraint 2 knows no prefills, nothing is held. A
rival to :mod:`aladdin_agents.aladdin`: it shows what those additions are worth.
"""

from __future__ import annotations

import numpy as np

from aladdin_agents.best_fit import fuller, loads
from aladdin_agents.constraints import kv_bound, kv_room, strictest_pace, ttft_spare
from aladdin_agents.expectations import TABLE, expected_output, keep_table, tokens_of
from aladdin_agents.kv_peak import kv_peak
from aladdin_agents.predictions import (
    batch_after,
    chunk_budget,
    context_at_end,
    context_now,
    first_token_after,
    own_prefill,
    queued_prefill,
    rest_of_step,
    step_after,
    tokens_under_way,
)
from aladdin_agents.tunable import TunableKernel
from aladdin_env.compiled import compiled, inlined
from aladdin_env.policy import placement_kernel
from aladdin_env.scenario import Scenario
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import CHUNKED, DECODE_ROLE, HOLD, NONE, PREFILL_ROLE, Array

# Layout of the kernel's memory.
_THETA, _GAMMA, _STRIDE, _FLOOR, _LONGEST, _RENEWED, _TABLE = range(7)
_SPACE = _TABLE + TABLE


@inlined
def pace_of_decodes(workers: Array, requests: Array, laws: Array, slo: Array, w: int, r: int, theta: float) -> float:
    """Constraint 2, literally: ``decode(b', sum l') / (theta ATGT)``; it holds where this is 1 or less.

    l' is the mean of a request's present and its final length. Without the share of prefills that
    :func:`aladdin_agents.constraints.pace_load` adds.
    """
    if workers[w].role == PREFILL_ROLE:
        return 0.0
    context = 0.5 * (context_now(workers, requests, w, r) + context_at_end(workers, requests, w, r))
    step_s = law.decode_time(laws, workers[w].type_index, batch_after(workers, w), context)
    return float(step_s / (theta * strictest_pace(workers, requests, slo, w, r)))


@inlined
def _steps_of_stall(workers: Array, requests: Array, cluster: Array, types: Array, w: int, r: int) -> float:
    """Steps of the prefill of all that waits and of ``r`` in which the running get tokens too: none but in chunks."""
    if types[workers[w].type_index].scheduler != CHUNKED:
        return 0.0
    room = chunk_budget(workers, types, w)
    prompt = queued_prefill(workers, cluster, w) + own_prefill(workers, requests, w, r)
    return float((prompt + room - 1) // room)


@compiled
def promise_load(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, memory: Array,
    table: int, w: int, r: int, first_token_in_s: float,
) -> float:  # fmt: skip
    """Constraint 3, literally: time over what is allowed, the worst of the running; it holds where this is 1 or less.

    ``(decode time spent + stall + rest step) / (ATGT (g + rest - 1))``, all from the end of the current step on: g the
    tokens by then, rest those still expected, step a decode step with q in the batch, stall the prefill of all that
    waits and of q. Chunked, the steps of the stall give tokens themselves. One pass over the running requests.
    """
    worker = workers[w]
    if worker.role == PREFILL_ROLE:
        return 0.0
    now_s = cluster[0].now_s
    boundary_s = now_s + rest_of_step(workers, w, now_s)
    step_s = step_after(workers, requests, laws, w, r)
    stall_s, stall_steps = 0.0, 0.0
    if worker.role != DECODE_ROLE:
        stall_s = now_s + first_token_in_s - boundary_s
        stall_steps = _steps_of_stall(workers, requests, cluster, types, w, r)
    worst = 0.0
    i = worker.run_head
    while i != NONE:
        request = requests[i]
        first_s = boundary_s  # of one whose prefill ends with the current step
        if not np.isnan(request.first_token_s):
            first_s = request.first_token_s - laws[worker.type_index, law.OVERHEAD]
        generated = tokens_of(workers, requests, w, i)
        expected = expected_output(memory, table, request.prompt_tokens, request.predicted_tokens, generated)
        generated += tokens_under_way(workers, w) if request.decoding else 1
        rest = max(1.0, expected - generated)
        during = min(rest, stall_steps)
        stalled_s = stall_s * during / stall_steps if stall_steps > 0.0 else stall_s
        seconds = boundary_s - first_s + stalled_s + (rest - during) * step_s
        worst = max(worst, seconds / (slo[request.klass, 1] * (generated + rest - 1.0)))
        i = request.next
    return worst


@inlined
def _kv_load(workers: Array, requests: Array, laws: Array, memory: Array, w: int, r: int) -> float:
    """Constraint 4: the KV peak over what it may reach, 0 where the bound says that it holds."""
    room = kv_room(workers, w, memory[_GAMMA], 1.0)
    longest = max(memory[_LONGEST], max(memory[_FLOOR], requests[r].predicted_tokens))
    bound = kv_bound(workers, requests, laws, w, r, longest)
    if bound <= room:
        return 0.0
    if workers[w].role != PREFILL_ROLE:
        bound = kv_peak(workers, requests, laws, memory, _TABLE, _SPACE, int(memory[_STRIDE]), w, r)
    return float(bound / max(1.0, room))


@compiled
def violation(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, memory: Array,
    w: int, r: int, pace: float, limit: float,
) -> float:  # fmt: skip
    """By how much the worst of the constraints is exceeded, as a share of what it allows; feasible at 0 or less.

    Looks no further once ``limit`` is exceeded, nor at memory where there is no place: who waits for one holds none.
    """
    worker = workers[w]
    places = batch_after(workers, w) / worker.max_num_seqs
    worst = max(pace, places) - 1.0
    if worst > limit:
        return float(worst)
    first_token_s, queue_spare_s = first_token_after(workers, requests, cluster, types, laws, slo, w, r)
    if worker.role != DECODE_ROLE:
        own_spare_s = ttft_spare(requests, cluster, laws, slo, worker.type_index, r, first_token_s)
        worst = max(worst, -min(own_spare_s, queue_spare_s) / slo[requests[r].klass, 0])
    if worst <= limit:
        promise = promise_load(workers, requests, cluster, types, laws, slo, memory, _TABLE, w, r, first_token_s)
        worst = max(worst, promise - 1.0)
    if worst <= limit and places <= 1.0:
        worst = max(worst, _kv_load(workers, requests, laws, memory, w, r) - 1.0)
    return float(worst)


@placement_kernel("aladdin_literal", needs_progress=True)
def kernel(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The fullest worker on which all four constraints hold; where there is none, the one of the least violation."""
    keep_table(cluster, lengths, memory, _LONGEST, _RENEWED, _TABLE)
    best, second = HOLD, HOLD
    best_load, best_norm, best_error = -1.0, 0.0, 0.0
    least = np.inf
    for w in range(workers.shape[0]):
        if not can_place(workers, requests, w, r):
            continue
        pace = pace_of_decodes(workers, requests, laws, slo, w, r, memory[_THETA])
        load, norm = loads(workers, requests, w, r, pace, memory[_GAMMA])
        error = workers[w].prediction_error_tokens
        if best != HOLD and not fuller(load, norm, error, best_load, best_norm, best_error):
            continue
        limit = least if best == HOLD else 0.0
        excess = violation(workers, requests, cluster, types, laws, slo, memory, w, r, pace, limit)
        if excess <= 0.0:
            best, best_load, best_norm, best_error = w, load, norm, error
        elif excess < least:
            second, least = w, excess
    return best if best != HOLD else second


def make(scenario: Scenario, theta: float = 0.9, gamma: float = 0.95) -> TunableKernel:
    """The literal Aladdin placement for ``scenario``; ``theta`` and ``gamma`` as in :mod:`aladdin_agents.aladdin`."""
    stride = max(kind.max_num_seqs for kind in scenario.fleet.types) + 1
    parameters = {"theta": theta, "gamma": gamma}
    at = len(parameters)
    rest = np.zeros(_SPACE - at + 2 * stride)
    rest[_STRIDE - at] = stride
    # An oracle's predictions are no means: the bound on the KV peak knows nothing of them.
    rest[_FLOOR - at] = scenario.predictor.prior_tokens if scenario.predictor.kind == "bucket_mean" else 1e12
    return TunableKernel.of(kernel, parameters, rest)
