"""Life cycle of workers: starting, draining, failing, and what they cost meanwhile (docs/simulator.md, "Workers")."""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator.batch import clear_worker, kv_overhead
from aladdin_env.simulator.lists import reschedule, run_remove, transit_remove, unlink, wait_append, wait_remove
from aladdin_env.simulator.prefix import release_kv
from aladdin_env.simulator.requests import (
    leave_worker,
    log_event,
    remove_pending,
    return_to_router,
)
from aladdin_env.simulator.state import (
    BOUNDARY,
    DECODE_ROLE,
    DRAINING,
    FAILED,
    HELD,
    IDLE,
    LOG_WORKER_LOST,
    NEW,
    NONE,
    OFF,
    PENDING,
    PREFILLED,
    READY,
    STARTING,
    TRANSFER,
    WAITING,
    Array,
    World,
)


@inlined
def accrue(cluster: Array, now_s: float) -> None:
    """Bring GPU-seconds and cost up to ``now_s``."""
    state = cluster[0]
    elapsed = now_s - state.accrued_s
    state.gpu_seconds += elapsed * state.gpus
    state.cost += elapsed * state.cost_rate_per_s
    state.accrued_s = now_s


@inlined
def count_worker(world: World, w: int, workers: int, now_s: float) -> None:
    """One worker like ``w`` more (+1) or less (-1) is to be paid for."""
    accrue(world.cluster, now_s)
    kind = world.types[world.workers[w].type_index]
    world.cluster[0].gpus += workers * kind.gpus
    world.cluster[0].cost_rate_per_s += workers * kind.price_per_s


@inlined
def accept(world: World, w: int, stages: int) -> None:
    """Let worker ``w`` accept these stages (0: none) and keep the cluster's counts of accepting workers."""
    worker = world.workers[w]
    control = world.control[0]
    control.accepting_new += (1 if stages & NEW else 0) - (1 if worker.accepts & NEW else 0)
    control.accepting_prefilled += (1 if stages & PREFILLED else 0) - (1 if worker.accepts & PREFILLED else 0)
    worker.accepts = stages


@inlined
def make_ready(world: World, w: int, now_s: float) -> None:
    """STARTING (or DRAINING, called back) to READY; held requests get an offer."""
    worker = world.workers[w]
    worker.status = READY
    worker.ready_s = now_s
    accept(world, w, PREFILLED if worker.role == DECODE_ROLE else NEW)
    world.control[0].offer = 1


@inlined
def _begin_start(world: World, w: int, now_s: float) -> None:
    """STARTING, with the next cold start of its type."""
    worker = world.workers[w]
    kind = worker.type_index
    at = world.types[kind].starts % world.cold_starts.shape[1]
    world.types[kind].starts += 1
    clear_worker(world, w)
    worker.status = STARTING
    worker.ready_s = now_s + world.cold_starts[kind, at]
    reschedule(world.heap, world.event_s, w, worker.ready_s)


@inlined
def switch_on(world: World, w: int, now_s: float, ready: bool) -> None:
    """From OFF: READY at once (a fleet that is up at time 0) or STARTING."""
    count_worker(world, w, 1, now_s)
    if ready:
        clear_worker(world, w)
        make_ready(world, w, now_s)
    else:
        _begin_start(world, w, now_s)


@inlined
def switch_off(world: World, w: int, now_s: float) -> None:
    """To OFF: nothing more to pay, no event to come."""
    count_worker(world, w, -1, now_s)
    accept(world, w, 0)
    world.workers[w].status = OFF
    world.workers[w].step = IDLE
    world.workers[w].kv_used_blocks = 0
    reschedule(world.heap, world.event_s, w, np.inf)


@inlined
def is_empty(workers: Array, w: int) -> bool:
    """No request here or on its way from or to here."""
    worker = workers[w]
    return bool(worker.members + worker.outbound == 0)


@inlined
def stop_if_drained(world: World, w: int, now_s: float) -> None:
    """A DRAINING worker goes OFF with its last request."""
    if world.workers[w].status == DRAINING and is_empty(world.workers, w):
        switch_off(world, w, now_s)


@inlined
def wake(world: World, w: int) -> None:
    """An idle engine that got work, or memory for it, begins a step once this instant's events are through."""
    worker = world.workers[w]
    if worker.step == IDLE:
        worker.step = BOUNDARY
        control = world.control[0]
        world.heap[2, control.boundaries] = w
        control.boundaries += 1


@inlined
def become_ready_or_restart(world: World, w: int, now_s: float) -> None:
    """The event of a worker that is not serving: its cold start or its repair is over."""
    if world.workers[w].status == STARTING:
        reschedule(world.heap, world.event_s, w, np.inf)
        make_ready(world, w, now_s)
    else:
        _begin_start(world, w, now_s)


@compiled
def free_source(world: World, r: int, now_s: float) -> None:
    """The prefill worker that holds the KV of ``r`` gets its blocks back."""
    w = world.truth[r].source
    worker = world.workers[w]
    release_kv(world, w, r, kv_overhead(world, w))
    worker.outbound -= 1
    world.truth[r].source = NONE
    world.control[0].offer = 1
    if worker.waiting > 0:
        wake(world, w)
    stop_if_drained(world, w, now_s)


@compiled
def end_transfer(world: World, now_s: float) -> None:
    """The KV transfer that ends next has ended."""
    control = world.control[0]
    r = world.transit_request[0]
    transit_remove(world.transit_s, world.transit_request, control.transits, 0)
    control.transits -= 1
    free_source(world, r, now_s)
    w = world.requests[r].worker
    world.workers[w].inbound -= 1
    world.requests[r].status = WAITING
    wait_append(world.workers, world.requests, w, r)


@inlined
def _lose_transfer(world: World, r: int) -> None:
    control = world.control[0]
    at = 0
    while world.transit_request[at] != r:
        at += 1
    transit_remove(world.transit_s, world.transit_request, control.transits, at)
    control.transits -= 1


@inlined
def remove_held(world: World, r: int) -> None:
    """Take ``r`` out of the hold queue."""
    control = world.control[0]
    if control.hold_head == r:
        control.hold_head = world.requests[r].next
    if control.hold_tail == r:
        control.hold_tail = world.requests[r].prev
    unlink(world.requests, r)
    world.cluster[0].held -= 1


@inlined
def _lose_split_requests(world: World, w: int, now_s: float) -> None:
    """Requests whose prefilled KV is on ``w``, or on its way to it, by index (``split`` only)."""
    for r in range(world.control[0].next_arrival):
        request = world.requests[r]
        if request.stage != PREFILLED:
            continue
        from_here = world.truth[r].source == w
        if request.status == TRANSFER and (from_here or request.worker == w):
            _lose_transfer(world, r)
            target = request.worker
            leave_worker(world, target, r)
            world.workers[target].inbound -= 1
            if from_here:
                stop_if_drained(world, target, now_s)
            else:
                free_source(world, r, now_s)
        elif request.status == HELD and from_here:
            remove_held(world, r)
        elif request.status == PENDING and from_here:
            remove_pending(world, r)
        else:
            continue
        return_to_router(world, r, now_s)


@compiled
def fail_worker(world: World, w: int, now_s: float) -> None:
    """A READY or DRAINING worker is lost with everything on it; any other does not notice."""
    worker = world.workers[w]
    if worker.status != READY and worker.status != DRAINING:
        return
    log_event(world, LOG_WORKER_LOST, NONE, w, now_s)
    was_draining = worker.status == DRAINING
    worker.status = FAILED  # before its requests leave: not to be stopped as drained
    accept(world, w, 0)
    while worker.run_head != NONE:
        r = worker.run_head
        run_remove(world.workers, world.requests, w, r)
        return_to_router(world, r, now_s)
    while worker.wait_head != NONE:
        r = worker.wait_head
        wait_remove(world.workers, world.requests, w, r)
        return_to_router(world, r, now_s)
    if world.transit_s.shape[0] > 1:
        _lose_split_requests(world, w, now_s)
    clear_worker(world, w)
    if was_draining:
        switch_off(world, w, now_s)
    else:
        worker.ready_s = now_s + world.control[0].repair_s + world.types[worker.type_index].cold_start_s
        reschedule(world.heap, world.event_s, w, now_s + world.control[0].repair_s)


@inlined
def _start_more(world: World, kind: int, missing: int, now_s: float) -> None:
    """DRAINING workers return first, then OFF slots start, lowest slot first, within the fleet's GPU limit."""
    limits = world.types[kind]
    first = limits.first_slot
    last = first + limits.slots
    for w in range(first, last):
        if missing > 0 and world.workers[w].status == DRAINING:
            make_ready(world, w, now_s)
            missing -= 1
    for w in range(first, last):
        fits = world.cluster[0].gpus + limits.gpus <= world.control[0].max_gpus
        if missing > 0 and fits and world.workers[w].status == OFF:
            switch_on(world, w, now_s, False)
            missing -= 1


@inlined
def _emptiest(world: World, first: int, last: int) -> int:
    """The READY worker with the fewest requests; the highest slot in ties; NONE if there is none."""
    best = NONE
    fewest = 0
    for w in range(first, last):
        worker = world.workers[w]
        if worker.status == READY and (best == NONE or worker.members <= fewest):
            best = w
            fewest = worker.members
    return best


@inlined
def _stop_some(world: World, kind: int, surplus: int, now_s: float) -> None:
    """STARTING and FAILED workers stop at once, highest slot first; then the emptiest READY ones drain."""
    first = world.types[kind].first_slot
    last = first + world.types[kind].slots
    for back in range(world.types[kind].slots):
        status = world.workers[last - 1 - back].status
        if surplus > 0 and status in (STARTING, FAILED):
            switch_off(world, last - 1 - back, now_s)
            surplus -= 1
    while surplus > 0:
        w = _emptiest(world, first, last)
        if w == NONE:
            break
        accept(world, w, 0)
        world.workers[w].status = DRAINING
        stop_if_drained(world, w, now_s)
        surplus -= 1


@compiled
def scale_type(world: World, kind: int, wanted: int) -> None:
    """Move type ``kind`` toward ``wanted`` workers, clipped to the limits of the type, now."""
    now_s = world.cluster[0].now_s
    limits = world.types[kind]
    wanted = min(max(wanted, limits.minimum), limits.maximum)
    current = 0
    for w in range(limits.first_slot, limits.first_slot + limits.slots):
        status = world.workers[w].status
        if status in (STARTING, READY, FAILED):
            current += 1
    if wanted > current:
        _start_more(world, kind, wanted - current, now_s)
    elif wanted < current:
        _stop_some(world, kind, current - wanted, now_s)
