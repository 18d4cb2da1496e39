"""The event loop: from event to event, in the order of docs/simulator.md, "Order of events at the same instant"."""

from __future__ import annotations

import numpy as np
from numba import from_dtype
from numba import types as nbtypes

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator.batch import leave_decode, new_blocks, pop_finished, sync_worker
from aladdin_env.simulator.fleet import (
    become_ready_or_restart,
    end_transfer,
    fail_worker,
    stop_if_drained,
    wake,
)
from aladdin_env.simulator.lists import reschedule
from aladdin_env.simulator.prefix import evict_to, note_hits
from aladdin_env.simulator.requests import end_served, finish_prefill, note_heartbeat, remove_pending
from aladdin_env.simulator.router import answer, arrive, can_place, expire_first_held, has_candidate, wake_or_cut
from aladdin_env.simulator.schedulers import begin_step
from aladdin_env.simulator.state import (
    BOUNDARY,
    CLUSTER,
    DECODING,
    DRAINING,
    HOLD,
    IDLE,
    LARGEST_MAX_NUM_SEQS,
    LOG_CAPACITY,
    MIXING,
    NONE,
    OFF,
    PREFILLING,
    REJECT,
    REQUEST,
    TYPE,
    WORKER,
    World,
)

# Why advance() came back
DONE, TIME, BEAT, ASK, LOG_FULL, BAD_ANSWER = 0, 1, 2, 3, 4, 5

_LOG_ROOM = LOG_CAPACITY - 2 * LARGEST_MAX_NUM_SEQS - 64


def _records(dtype: np.dtype[np.void]) -> nbtypes.Array:
    return nbtypes.Array(from_dtype(dtype), 1, "C", aligned=True)


_TABLE = nbtypes.Array(nbtypes.float64, 2, "C")
#: Types of the arguments of a placement kernel; see aladdin_env.policy.placement_kernel.
KERNEL_SIGNATURE = nbtypes.int64(
    _records(WORKER),
    _records(REQUEST),
    _records(CLUSTER),
    _records(TYPE),
    _TABLE,
    _TABLE,
    nbtypes.Array(nbtypes.float64, 3, "C"),
    nbtypes.Array(nbtypes.float64, 1, "C"),
    nbtypes.int64,
)


@inlined
def _end_decode_steps(world: World, w: int, steps: int) -> None:
    """Book ``steps`` decode steps of the whole batch: tokens, context, blocks."""
    worker = world.workers[w]
    engine = world.engines[w]
    world.control[0].decode_steps += steps
    if worker.step == DECODING:
        engine.free_blocks -= new_blocks(world.phases, w, worker.block_size, engine.base_steps, worker.decoding, steps)
        worker.decode_steps = engine.base_steps + steps
        worker.context_tokens = engine.base_context + steps * worker.decoding
        if engine.cache_idle > 0:
            evict_to(world, w, engine.free_blocks)
    else:  # a mixed step has taken its blocks at its start
        worker.decode_steps += steps
        worker.context_tokens += steps * worker.decoding


@inlined
def _end_prefills(world: World, w: int, now_s: float) -> None:
    """Book the prompt chunks of the step: from engine.taken to the end of the running list, those that had one."""
    engine = world.engines[w]
    engine.partial = NONE
    r = engine.taken
    while r != NONE:
        after = world.requests[r].next
        if world.requests[r].decoding == 0:
            world.requests[r].computed += world.truth[r].chunk
            if world.requests[r].computed == world.requests[r].prompt_tokens + world.requests[r].generated:
                finish_prefill(world, w, r, now_s)
            else:
                engine.partial = r
        r = after


@inlined
def end_step(world: World, w: int, now_s: float) -> None:
    """The current step (or run of decode steps) of worker ``w`` is over."""
    worker = world.workers[w]
    step = worker.step
    if step == DECODING or (step == MIXING and world.engines[w].decodes):
        _end_decode_steps(world, w, world.engines[w].run_steps if step == DECODING else 1)
        while True:
            r = pop_finished(world, w)
            if r == NONE:
                break
            leave_decode(world, w, r)
            end_served(world, w, r, now_s)
    if step != DECODING:
        _end_prefills(world, w, now_s)
    worker.step = IDLE
    if worker.status == DRAINING:
        stop_if_drained(world, w, now_s)


@inlined
def _router_time(world: World) -> float:
    """When the router acts next: now if something is queued for it, else at the next arrival."""
    control = world.control[0]
    if control.pending_head != NONE or (control.offer and control.hold_head != NONE):
        return float(world.cluster[0].now_s)
    if control.next_arrival < control.total:
        return float(world.requests[control.next_arrival].arrival_s)
    return np.inf


@inlined
def _is_alone(world: World, now_s: float, control_s: float) -> bool:
    """Whether nothing else happens at this instant, so that the worker on top of the heap may go on at once."""
    heap = world.heap
    slots = heap.shape[1]
    if slots > 1 and world.event_s[heap[0, 1]] <= now_s:
        return False
    if slots > 2 and world.event_s[heap[0, 2]] <= now_s:
        return False
    return control_s > now_s and _router_time(world) > now_s


@inlined
def _worker_event(world: World, w: int, now_s: float, control_s: float) -> None:
    """The next event of worker ``w`` is due: the end of its step, of its cold start or of its repair."""
    worker = world.workers[w]
    if worker.step < PREFILLING:
        become_ready_or_restart(world, w, now_s)
        return
    end_step(world, w, now_s)
    if worker.status == OFF:
        return
    if _is_alone(world, now_s, control_s):
        begin_step(world, w, now_s)
    else:  # others act first at this instant: a request may yet be placed here
        reschedule(world.heap, world.event_s, w, np.inf)
        wake(world, w)


@inlined
def _begin_steps(world: World, now_s: float) -> None:
    """Every engine at a boundary begins its next step (one that was lost or stopped meanwhile does not)."""
    control = world.control[0]
    count = control.boundaries
    control.boundaries = 0
    for i in range(count):
        w = world.heap[2, i]
        if world.workers[w].step == BOUNDARY:
            begin_step(world, w, now_s)


@inlined
def _next_control(world: World) -> float:
    """Time of the next transfer end, failure, hold deadline or heartbeat."""
    control = world.control[0]
    soonest = world.cluster[0].next_heartbeat_s
    if control.transits > 0:
        soonest = min(soonest, world.transit_s[0])
    if control.next_failure < world.failures.shape[0]:
        soonest = min(soonest, world.failures[control.next_failure].time_s)
    if control.hold_head != NONE:
        soonest = min(soonest, world.truth[control.hold_head].hold_until_s)
    return soonest


@compiled
def _control_event(world: World, now_s: float) -> bool:
    """The control event that is due, in the documented order; whether it was a heartbeat."""
    control = world.control[0]
    if control.transits > 0 and world.transit_s[0] <= now_s:
        w = world.requests[world.transit_request[0]].worker
        end_transfer(world, now_s)
        wake_or_cut(world, w, now_s)
        return False
    if control.next_failure < world.failures.shape[0] and world.failures[control.next_failure].time_s <= now_s:
        fail_worker(world, world.failures[control.next_failure].slot, now_s)
        control.next_failure += 1
        return False
    if control.hold_head != NONE and world.truth[control.hold_head].hold_until_s <= now_s:
        expire_first_held(world, now_s)
        return False
    note_heartbeat(world)
    control.offer = 1
    return True


@compiled
def sync_all(world: World, now_s: float) -> None:
    """Bring what a policy sees of every worker up to ``now_s``, those that have just become empty included."""
    for w in range(world.workers.shape[0]):
        if world.workers[w].status != OFF:
            sync_worker(world.workers, world.engines, world.phases, w, now_s)


@inlined
def _next_to_decide(world: World, now_s: float) -> int:
    """The request whose placement is to be decided now (taken from the queue of returned ones), or NONE."""
    control = world.control[0]
    if control.pending_head != NONE:
        r = control.pending_head
        remove_pending(world, r)
        return int(r)
    if control.offer:
        if control.hold_head != NONE:
            return int(control.hold_head)
        control.offer = 0
    r = control.next_arrival
    if r < control.total and world.requests[r].arrival_s <= now_s:
        arrive(world, r)
        return int(r)
    return NONE


@inlined
def _is_answer(world: World, r: int, slot: int) -> bool:
    """Whether ``slot`` is HOLD, REJECT or a worker that may take ``r``."""
    if slot in (HOLD, REJECT):
        return True
    return bool(0 <= slot < world.workers.shape[0] and can_place(world.workers, world.requests, slot, r))


@compiled
def advance(world: World, until_s: float, kernel: object, use_kernel: bool, needs_progress: bool) -> int:
    """Run until all requests have ended (DONE), ``until_s`` is reached (TIME), or Python is needed.

    With ``use_kernel`` placements are decided by ``kernel`` without leaving compiled code. Otherwise the call returns
    ASK with the request in ``control.asked``; the answer goes into ``control.answer`` before the next call. BEAT: a
    heartbeat has passed (only where ``control.beat_returns``). LOG_FULL: read the event log and reset its count.
    BAD_ANSWER: the policy named ``control.error_slot`` for request ``control.asked``, which is not a candidate.
    """
    cluster = world.cluster[0]
    control = world.control[0]
    if control.asked != NONE:
        slot = control.answer
        r = control.asked
        if not _is_answer(world, r, slot):
            control.error_slot = slot
            return BAD_ANSWER
        control.asked = NONE
        answer(world, r, slot, cluster.now_s)
    while control.remaining > 0:
        if control.log_count > _LOG_ROOM:
            return LOG_FULL
        worker_s = world.event_s[world.heap[0, 0]]
        control_s = _next_control(world)
        router_s = _router_time(world)
        next_s = min(worker_s, control_s, router_s)
        if control.boundaries > 0 and next_s > cluster.now_s:
            _begin_steps(world, cluster.now_s)
            continue
        if next_s > cluster.now_s:
            control.offer = 0  # an offer is for this instant; had anybody been held, the router would have acted
        if next_s > until_s:
            cluster.now_s = until_s
            return TIME
        cluster.now_s = next_s
        if worker_s <= next_s:
            _worker_event(world, world.heap[0, 0], next_s, control_s)
        elif control_s <= next_s:
            if _control_event(world, next_s) and control.beat_returns:
                return BEAT
        else:
            r = _next_to_decide(world, next_s)
            if r == NONE:
                continue
            slot = HOLD
            if has_candidate(world, r):
                control.decisions += 1
                if needs_progress:
                    sync_all(world, next_s)
                if control.prefix_tokens > 0:
                    note_hits(world, r, next_s)
                if not use_kernel:
                    control.asked = r
                    return ASK
                slot = kernel(  # type: ignore[operator]
                    world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, world.lengths,
                    world.memory, r,
                )  # fmt: skip
                if not _is_answer(world, r, slot):
                    control.asked = r
                    control.error_slot = slot
                    return BAD_ANSWER
            answer(world, r, slot, next_s)
    return DONE
