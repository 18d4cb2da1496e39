"""The router's side: which worker may take a request, and what each answer of a policy does."""

from __future__ import annotations

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator.fleet import free_source, remove_held, wake
from aladdin_env.simulator.lists import link_last, transit_push, wait_append
from aladdin_env.simulator.predictor import bounded, noisy_length, predict_length
from aladdin_env.simulator.requests import end_unserved
from aladdin_env.simulator.schedulers import cut_run
from aladdin_env.simulator.state import (
    BUCKET_MEAN,
    DECODING,
    HELD,
    HOLD,
    NEW,
    NOISY_ORACLE,
    NONE,
    PREFILL_ROLE,
    REJECTED,
    TRANSFER,
    WAITING,
    Array,
    World,
)


@inlined
def can_place(workers: Array, requests: Array, w: int, r: int) -> bool:
    """Whether request ``r`` may be placed on slot ``w`` now: READY, of the right role, and large enough.

    A prefilled request needs room for one token more than its prompt.
    """
    worker = workers[w]
    request = requests[r]
    stage = request.stage
    return bool(worker.accepts & stage and request.prompt_tokens + stage - NEW <= worker.kv_capacity_tokens)


@inlined
def has_candidate(world: World, r: int) -> bool:
    """Whether any worker may take ``r``. O(1) unless ``r`` is too large for some worker type."""
    request = world.requests[r]
    control = world.control[0]
    accepting = control.accepting_new if request.stage == NEW else control.accepting_prefilled
    if accepting == 0:
        return False
    if request.prompt_tokens < control.smallest_capacity:
        return True
    for w in range(world.workers.shape[0]):  # noqa: SIM110 (compiled: a generator would not be)
        if can_place(world.workers, world.requests, w, r):
            return True
    return False


@inlined
def arrive(world: World, r: int) -> None:
    """``r`` has reached the router: count it and predict its output, within bounds."""
    request = world.requests[r]
    cluster = world.cluster[0]
    control = world.control[0]
    cluster.arrived += 1
    cluster.in_flight += 1
    cluster.arrived_prompt_tokens += request.prompt_tokens
    tokens = float(world.truth[r].output_tokens)
    if control.predictor == BUCKET_MEAN:
        tokens = predict_length(world.lengths, request.prompt_tokens, control.prior_tokens, control.prior_weight)
    elif control.predictor == NOISY_ORACLE:
        tokens = noisy_length(world.truth[r].output_tokens, request.predicted_tokens)
    seen = bounded(tokens)
    if seen != tokens:  # also where it is no number
        cluster.bounded_predictions += 1
    request.predicted_tokens = seen
    control.next_arrival = r + 1


@inlined
def _dispatch(world: World, r: int, w: int, now_s: float) -> None:
    """Place ``r`` on worker ``w``: into its queue, or onto the wire if its KV must come from a prefill worker."""
    worker = world.workers[w]
    request = world.requests[r]
    output = world.truth[r].output_tokens
    request.worker = w
    worker.members += 1
    worker.member_prompt_tokens += request.prompt_tokens
    worker.member_predicted_tokens += request.predicted_tokens
    room = worker.kv_capacity_tokens - request.prompt_tokens + 1
    world.truth[r].limit = output if worker.role == PREFILL_ROLE else min(output, room)
    if request.stage == NEW:
        request.status = WAITING
        wait_append(world.workers, world.requests, w, r)
        worker.waiting_prefill_tokens += request.prompt_tokens
        wake_or_cut(world, w, now_s)
    else:
        request.status = TRANSFER
        worker.inbound += 1
        control = world.control[0]
        source = world.workers[world.truth[r].source]
        size = request.prompt_tokens * world.types[source.type_index].kv_bytes_per_token
        end = now_s + size / control.bandwidth + control.latency_s
        transit_push(world.transit_s, world.transit_request, control.transits, end, r)
        control.transits += 1


@inlined
def wake_or_cut(world: World, w: int, now_s: float) -> None:
    """Make the engine of ``w`` see a request that has just joined its queue at its next boundary.

    Where others wait already, the head of the queue is blocked until a request leaves, and the newcomer behind it.
    """
    if world.workers[w].step == DECODING:
        if world.workers[w].waiting == 1:
            cut_run(world, w, now_s)
    else:
        wake(world, w)


@inlined
def _hold(world: World, r: int, now_s: float) -> None:
    control = world.control[0]
    if control.max_hold_s <= 0.0:
        _reject(world, r, now_s)
        return
    world.requests[r].status = HELD
    link_last(world.requests, control.hold_tail, r)
    if control.hold_head == NONE:
        control.hold_head = r
    control.hold_tail = r
    world.cluster[0].held += 1
    world.truth[r].hold_until_s = now_s + control.max_hold_s


@inlined
def _reject(world: World, r: int, now_s: float) -> None:
    if world.truth[r].source != NONE:
        free_source(world, r, now_s)
    end_unserved(world, r, REJECTED, now_s)


@compiled
def expire_first_held(world: World, now_s: float) -> None:
    """The head of the hold queue has waited for ``max_hold_s``."""
    r = world.control[0].hold_head
    remove_held(world, r)
    _reject(world, r, now_s)


@compiled
def answer(world: World, r: int, slot: int, now_s: float) -> None:
    """Carry out a policy's answer for ``r``: a slot that may take it, HOLD or REJECT."""
    if world.requests[r].status == HELD:
        if slot == HOLD:
            world.control[0].offer = 0  # first come first served: who stands behind is not asked
            return
        remove_held(world, r)
    if slot >= 0:
        _dispatch(world, r, slot, now_s)
    elif slot == HOLD:
        _hold(world, r, now_s)
    else:
        _reject(world, r, now_s)
