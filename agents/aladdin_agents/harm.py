"""What a placement would break where no worker satisfies every constraint (our reconstruction)."""

from __future__ import annotations

from aladdin_agents.expectations import expected_rest, tokens_of
from aladdin_agents.predictions import (
    first_token_after,
    own_prefill,
    own_squares,
    prefill_backlog,
    rest_of_step,
    steady_pace,
    step_after,
    tokens_under_way,
)
from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.state import CHUNKED, DECODE_ROLE, NONE, PREFILL_ROLE, Array

# A request that would arrive late costs at least a whole promise; its lateness decides among late ones.
_LATE = 1.0


@inlined
def chance_of_a_miss(late_s: float, gain_s: float, rest_tokens: float) -> float:
    """Chance that a request ends before it has made up for being ``late_s`` behind its pace.

    It gains ``gain_s`` per token, thus needs ``n = late / gain`` tokens; with ``rest_tokens`` still expected it ends
    within them with a chance of about ``n / (n + rest)``.
    """
    if late_s <= 0.0:
        return 0.0
    if gain_s <= 0.0:
        return 1.0
    return late_s / (late_s + gain_s * rest_tokens)


@compiled
def broken_promises(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, memory: Array,
    table: int, w: int, r: int, limit: float,
) -> float:  # fmt: skip
    """Expected number of SLOs that placing ``r`` on ``w`` breaks: those of the running, of the waiting, and its own.

    Of the running: the rise of :func:`chance_of_a_miss` through the prefill of ``r`` and the larger batch. Of the
    waiting: 1 if the next deadline would be missed. Its own: TTFT late, and its pace as the share by which the steady
    pace exceeds ATGT, times the requests that share it. Stops counting at ``limit``.
    """
    worker = workers[w]
    kind = worker.type_index
    now_s = cluster[0].now_s
    klass = requests[r].klass
    total = 0.0
    if worker.role != DECODE_ROLE:
        seconds, spare_s = first_token_after(workers, requests, cluster, types, laws, slo, w, r)
        late_s = now_s + seconds + laws[kind, law.OVERHEAD] - requests[r].arrival_s - slo[klass, 0]
        if late_s > 0.0:
            total += _LATE + late_s
        if spare_s < 0.0:
            total += _LATE
    if worker.role == PREFILL_ROLE:
        return total
    excess = steady_pace(workers, requests, cluster, types, laws, w, r) / slo[klass, 1] - 1.0
    if excess > 0.0:
        total += excess * (worker.members + 1)
    after_s = step_after(workers, requests, laws, w, r)
    before_s = law.decode_time(laws, kind, worker.decoding, float(worker.context_tokens))
    own, squares = 0, 0.0
    if worker.role != DECODE_ROLE:
        own, squares = own_prefill(workers, requests, w, r), own_squares(workers, requests, w, r)
    stalled_s = prefill_backlog(workers, cluster, types, laws, w, own, squares)
    stalled_before_s = prefill_backlog(workers, cluster, types, laws, w, 0, 0.0)
    if types[kind].scheduler == CHUNKED:  # the steps of the prefill give tokens themselves
        stalled_s = max(stalled_s, after_s)
        stalled_before_s = max(stalled_before_s, before_s)
    else:
        stalled_s += after_s
        stalled_before_s += before_s
    boundary_s = now_s + rest_of_step(workers, w, now_s)
    steps = worker.decode_steps + tokens_under_way(workers, w)
    i = worker.run_head
    while i != NONE and total < limit:
        request = requests[i]
        target = slo[request.klass, 1]
        generated = tokens_of(workers, requests, w, i)
        if request.decoding:
            due_s = request.first_token_s - laws[kind, law.OVERHEAD] + target * (steps - request.joined_step)
        else:
            due_s = boundary_s + target
        rest = expected_rest(requests, memory, table, i, generated)
        gain_s = target - after_s
        chance = chance_of_a_miss(boundary_s + stalled_s - due_s, gain_s, rest)
        total += max(0.0, chance - chance_of_a_miss(boundary_s + stalled_before_s - due_s, gain_s, rest))
        i = request.next
    return float(total)
