"""Compiled changes of the arrays of a live cluster: what each event of live traffic does to them."""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.batch import clear_worker, kv_overhead, refresh_slack
from aladdin_env.simulator.fleet import accept, accrue, count_worker, make_ready, remove_held, switch_off
from aladdin_env.simulator.lists import link_last, run_append, run_remove, wait_append, wait_remove
from aladdin_env.simulator.requests import (
    end_unserved,
    judge_first_token,
    judge_served,
    leave_worker,
    note_heartbeat,
    settle,
)
from aladdin_env.simulator.router import arrive, can_place, has_candidate
from aladdin_env.simulator.setup import write_request
from aladdin_env.simulator.state import (
    DECODING,
    FAILURE,
    FINISHED,
    HELD,
    IDLE,
    LOST,
    NEW,
    NONE,
    OFF,
    PENDING,
    READY,
    REJECTED,
    RUNNING,
    WAITING,
    Array,
    World,
)


def no_failures() -> Array:
    """Workers fail when they do."""
    return np.zeros(0, dtype=FAILURE)


# --- requests -------------------------------------------------------------------------------------------------------


@compiled
def enter(world: World, r: int, now_s: float, prompt_tokens: int, klass: int, coin: float) -> None:
    """Row ``r`` is a new request's, which has just arrived; how long its answer will be nobody knows."""
    write_request(world.requests, world.truth, r, now_s, prompt_tokens, 0, klass, coin, 0.0)
    arrive(world, r)


@compiled
def arrived(world: World, r: int) -> None:
    """Count it, and predict its output."""
    arrive(world, r)


@compiled
def send(world: World, r: int, w: int) -> None:
    """``r`` is on its way to the queue of ``w``."""
    worker = world.workers[w]
    request = world.requests[r]
    _unhold(world, r)
    request.worker = w
    request.status = WAITING
    worker.members += 1
    worker.member_prompt_tokens += request.prompt_tokens
    worker.member_predicted_tokens += request.predicted_tokens
    worker.waiting_prefill_tokens += request.prompt_tokens
    wait_append(world.workers, world.requests, w, r)


@compiled
def hold(world: World, r: int) -> None:
    """``r`` waits at the router; one that does already keeps its place."""
    request = world.requests[r]
    control = world.control[0]
    if request.status == HELD:
        return
    request.status = HELD
    link_last(world.requests, control.hold_tail, r)
    if control.hold_head == NONE:
        control.hold_head = r
    control.hold_tail = r
    world.cluster[0].held += 1


@inlined
def _unhold(world: World, r: int) -> None:
    if world.requests[r].status == HELD:
        remove_held(world, r)
        world.requests[r].status = PENDING


@compiled
def tokens(world: World, r: int, now_s: float, count: int) -> None:
    """More tokens of ``r``: the first ends its prefill; a later one may show a decode step not seen before."""
    request = world.requests[r]
    w = request.worker
    worker = world.workers[w]
    for _ in range(count):
        request.generated += 1
        if request.status == WAITING:
            _begin_decode(world, w, r, now_s)
        elif worker.decode_steps - request.joined_step < request.generated:
            worker.decode_steps += 1
            worker.context_tokens += worker.decoding
    _expect_step(world, w, now_s)
    _count_kv(world, w)


@inlined
def _step_s(world: World, w: int) -> float:
    """Seconds of the next decode step of ``w``; 0 where nobody decodes."""
    worker = world.workers[w]
    if worker.decoding == 0:
        return 0.0
    return float(law.decode_time(world.laws, worker.type_index, worker.decoding, float(worker.context_tokens)))


@inlined
def _expect_step(world: World, w: int, now_s: float) -> None:
    """Tokens have just come, so that a step has ended: the next one ends when the laws say."""
    worker = world.workers[w]
    worker.step = DECODING
    worker.step_end_s = now_s - world.laws[worker.type_index, law.OVERHEAD] + _step_s(world, w)


@compiled
def _begin_decode(world: World, w: int, r: int, now_s: float) -> None:
    worker = world.workers[w]
    request = world.requests[r]
    wait_remove(world.workers, world.requests, w, r)
    run_append(world.workers, world.requests, w, r)
    request.status = RUNNING
    request.admitted_s = now_s
    judge_first_token(world, r, now_s)
    request.decoding = 1
    request.computed = request.prompt_tokens
    request.joined_step = worker.decode_steps - 1
    worker.waiting_prefill_tokens -= request.prompt_tokens
    worker.decoding += 1
    worker.context_tokens += request.prompt_tokens + 1
    key = now_s - world.laws[worker.type_index, law.OVERHEAD] - world.slo[request.klass, 1] * request.joined_step
    if key < worker.slack_key_s[request.klass]:
        worker.slack_key_s[request.klass] = key
        worker.slack_owner[request.klass] = r


@compiled
def _count_kv(world: World, w: int) -> None:
    """Blocks of the running requests: each holds its prompt and all tokens but the last."""
    worker = world.workers[w]
    size = worker.block_size
    blocks = 0
    r = worker.run_head
    while r >= 0:
        request = world.requests[r]
        held = request.prompt_tokens + request.generated - 1 + kv_overhead(world, w)
        blocks += (held + size - 1) // size
        r = request.next
    worker.kv_used_blocks = blocks


@compiled
def finish(world: World, r: int, now_s: float) -> None:
    """``r`` has its last token."""
    w = world.requests[r].worker
    before_s = _step_s(world, w)
    _leave_worker(world, r)
    world.workers[w].step_end_s += _step_s(world, w) - before_s  # it left between two steps: the next is without it
    judge_served(world, w, r, FINISHED, now_s)
    settle(world, r, FINISHED, now_s)


@compiled
def came_whole(world: World, r: int, first_s: float, now_s: float, count: int) -> None:
    """``r`` has all its ``count`` tokens at once; the first is dated back."""
    tokens(world, r, first_s, 1)
    tokens(world, r, now_s, count - 1)
    finish(world, r, now_s)


@compiled
def lose(world: World, r: int, now_s: float) -> None:
    """``r`` is no longer on its worker."""
    world.requests[r].finish_s = now_s
    _leave_worker(world, r)


@compiled
def retry(world: World, r: int) -> None:
    """``r``, lost by a worker, looks for another one."""
    request = world.requests[r]
    request.status = PENDING
    request.worker = NONE
    request.generated = 0
    request.computed = 0
    request.retries += 1
    world.cluster[0].retries += 1


@compiled
def unserved(world: World, r: int, status: int, now_s: float) -> None:
    """``r`` ends without an answer: a missed SLO."""
    end_unserved(world, r, status, now_s)


@compiled
def reject(world: World, r: int, now_s: float) -> None:
    """``r`` was never placed."""
    _unhold(world, r)
    end_unserved(world, r, REJECTED, now_s)


@compiled
def leave(world: World, r: int, now_s: float) -> None:
    """The client of ``r`` has hung up."""
    status = world.requests[r].status
    if status in (WAITING, RUNNING):
        _leave_worker(world, r)
    _unhold(world, r)
    settle(world, r, LOST, now_s)


@inlined
def _leave_worker(world: World, r: int) -> None:
    request = world.requests[r]
    w = request.worker
    worker = world.workers[w]
    leave_worker(world, w, r)
    if request.status == WAITING:
        wait_remove(world.workers, world.requests, w, r)
        worker.waiting_prefill_tokens -= request.prompt_tokens
    else:
        run_remove(world.workers, world.requests, w, r)
        worker.decoding -= 1
        if worker.decoding == 0:
            worker.step = IDLE
        worker.context_tokens -= request.prompt_tokens + worker.decode_steps - request.joined_step
        request.decoding = 0
        if worker.slack_owner[request.klass] == r:
            refresh_slack(world.workers, world.requests, world.laws, world.slo, w, request.klass)
        _count_kv(world, w)


# --- the fleet ------------------------------------------------------------------------------------------------------


@compiled
def empty_slot(world: World, w: int) -> None:
    """There is no worker in this slot."""
    if world.workers[w].status != OFF:
        switch_off(world, w, world.cluster[0].now_s)


@compiled
def set_worker(world: World, w: int, status: int, now_s: float, ready_in_s: float) -> None:
    """The worker in slot ``w`` has become what it is."""
    worker = world.workers[w]
    if status == worker.status:
        worker.ready_s = now_s + ready_in_s
        return
    if status == OFF:
        switch_off(world, w, now_s)
        return
    if worker.status == OFF:
        count_worker(world, w, 1, now_s)
        clear_worker(world, w)
    if status == READY:
        make_ready(world, w, now_s)
        return
    accept(world, w, 0)
    worker.status = status
    worker.ready_s = now_s + ready_in_s


@compiled
def has_taker(world: World, r: int) -> bool:
    """Whether any worker may take ``r``."""
    return bool(has_candidate(world, r))


@compiled
def can_take(world: World, w: int, r: int) -> bool:
    """Whether there is a worker in slot ``w``, and it may take ``r``."""
    return bool(0 <= w < world.workers.shape[0] and can_place(world.workers, world.requests, w, r))


@compiled
def shut(world: World, w: int) -> None:
    """A READY worker takes nobody."""
    accept(world, w, 0)


@compiled
def unshut(world: World, w: int) -> None:
    """It takes new requests again."""
    accept(world, w, NEW)


@compiled
def see_kv(world: World, w: int, used: float) -> None:
    """KV in use as the worker says, where that is more than what is known to be on it."""
    _count_kv(world, w)
    worker = world.workers[w]
    worker.kv_used_blocks = min(worker.kv_blocks, max(worker.kv_used_blocks, int(used * worker.kv_blocks)))


@compiled
def heartbeat(world: World, now_s: float) -> None:
    """Note what happened since the heartbeat before, and what the fleet has cost."""
    accrue(world.cluster, now_s)
    note_heartbeat(world)
