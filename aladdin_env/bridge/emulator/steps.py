"""What the emulated engine needs in compiled code: requests that enter and leave, and the tokens that a step made.

The simulator knows its requests beforehand and none of them ever gives up; an engine behind a server learns of a
request when it comes, and clients hang up. All functions concern the only worker, in slot 0. Rows of the request arrays
are used again and again.
"""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.batch import kv_overhead, leave_decode, new_blocks, release_slack, sync_worker
from aladdin_env.simulator.core import end_step
from aladdin_env.simulator.lists import heap_discard, reschedule, run_remove, wait_remove
from aladdin_env.simulator.prefix import evict_to, release_kv
from aladdin_env.simulator.requests import end_unserved, leave_worker
from aladdin_env.simulator.router import answer, arrive
from aladdin_env.simulator.schedulers import begin_step, cut_run
from aladdin_env.simulator.setup import write_request
from aladdin_env.simulator.state import (
    BOUNDARY,
    DECODING,
    IDLE,
    LOG_FINISH,
    LOST,
    MIXING,
    NONE,
    WAITING,
    Array,
    World,
)

#: A token that a request got: when, how many it has with it, whether it was the last.
HEARD = np.dtype([("time_s", "f8"), ("row", "i8"), ("generated", "i8"), ("ended", "i8")])
#: What is remembered of a row between steps: tokens told so far, and when the last one was made.
TOLD = np.dtype([("tokens", "i8"), ("last_s", "f8")])
#: Sums over all tokens: of times between two of a request, and how many tokens there were.
SUMS = np.dtype([("gaps_s", "f8"), ("tokens", "i8")])


@compiled
def enter(world: World, told: Array, r: int, now_s: float, prompt_tokens: int, output_tokens: int) -> None:
    """Row ``r`` becomes a request that arrives now; all earlier ends of steps must have been simulated."""
    worker = world.workers[0]
    if worker.step == IDLE and worker.members == 0:
        worker.decode_steps = 0  # a server runs for months: the keys of the finish heap have 31 bits for it
    world.cluster[0].now_s = now_s
    told[r].tokens = 0
    write_request(world.requests, world.truth, r, now_s, prompt_tokens, output_tokens, 0, 0.0, 0.0)
    arrive(world, r)
    answer(world, r, 0, now_s)


@inlined
def _end_run_with_step(world: World) -> None:
    """Book what a run of decode steps has done, so that it begins and ends with the step under way."""
    worker = world.workers[0]
    engine = world.engines[0]
    if engine.run_steps > 1:
        done = worker.decode_steps - engine.base_steps
        end_s = engine.run_start_s + law.run_time(engine.run_first_s, engine.run_growth_s, float(done + 1))
        engine.free_blocks -= new_blocks(world.phases, 0, worker.block_size, engine.base_steps, worker.decoding, done)
        engine.run_start_s += law.run_time(engine.run_first_s, engine.run_growth_s, float(done))
        engine.run_first_s += done * engine.run_growth_s
        engine.run_steps = 1
        engine.base_steps = worker.decode_steps
        worker.step_end_s = end_s
        reschedule(world.heap, world.event_s, 0, end_s)
    if engine.cache_idle > 0:  # as the step under way began, and took its blocks
        taken = new_blocks(world.phases, 0, worker.block_size, engine.base_steps, worker.decoding, 1)
        evict_to(world, 0, engine.free_blocks - taken)


@inlined
def _leave_queue(world: World, r: int, now_s: float) -> None:
    worker = world.workers[0]
    request = world.requests[r]
    was_next = worker.wait_head == r
    wait_remove(world.workers, world.requests, 0, r)
    worker.waiting_prefill_tokens -= request.prompt_tokens + request.generated
    if was_next and worker.waiting > 0 and worker.step == DECODING:
        cut_run(world, 0, now_s)  # who stood behind may fit


@inlined
def _leave_batch(world: World, r: int) -> None:
    worker = world.workers[0]
    engine = world.engines[0]
    request = world.requests[r]
    if worker.step == DECODING:
        _end_run_with_step(world)
    if request.decoding:
        key = ((request.joined_step + world.truth[r].limit) << 32) | r
        heap_discard(world.finish_heap[0], engine.finishing, key)
        engine.finishing -= 1
        leave_decode(world, 0, r)
        if worker.step == MIXING:
            request.computed += 1  # a mixed step takes the blocks of its tokens at its start
    else:
        request.computed += world.truth[r].chunk  # so does a prefill
        worker.waiting_prefill_tokens -= request.prompt_tokens + request.generated - request.computed
        if engine.partial == r:
            engine.partial = NONE
        if engine.taken == r:
            engine.taken = request.next
    release_kv(world, 0, r, kv_overhead(world, 0))
    run_remove(world.workers, world.requests, 0, r)
    release_slack(world, 0, r)
    engine.base_context = worker.context_tokens
    worker.kv_used_blocks = worker.kv_blocks - engine.free_blocks


@compiled
def leave(world: World, r: int, now_s: float) -> None:
    """The client of ``r`` is gone: its place and its KV are free at once, for the step after the one under way.

    That one takes as long as if nobody had left. Steps that have ended by ``now_s`` must have been simulated.
    """
    world.cluster[0].now_s = now_s
    if world.requests[r].status == WAITING:
        _leave_queue(world, r, now_s)
    else:
        _leave_batch(world, r)
    leave_worker(world, 0, r)
    end_unserved(world, r, LOST, now_s)


@inlined
def _tell(
    told: Array, heard: Array, at: int, r: int, generated: int, ended: int, now_s: float,
    edges_s: Array, counts: Array, sums: Array,
) -> None:  # fmt: skip
    entry = heard[at]
    entry.time_s = now_s
    entry.row = r
    entry.generated = generated
    entry.ended = ended
    known = told[r]
    sums[0].tokens += generated - known.tokens
    if known.tokens > 0:
        gap_s = now_s - known.last_s
        sums[0].gaps_s += gap_s
        counts[np.searchsorted(edges_s, gap_s)] += 1
    known.tokens = generated
    known.last_s = now_s


@compiled
def begin_first_step(world: World) -> None:
    """An idle engine has got work: it begins a step at the instant at which that came."""
    world.control[0].boundaries = 0
    begin_step(world, 0, world.cluster[0].now_s)
    sync_worker(world.workers, world.engines, world.phases, 0, world.cluster[0].now_s)


@inlined
def _finish_step(
    world: World, told: Array, heard: Array, n: int, now_s: float, edges_s: Array, counts: Array, sums: Array
) -> int:
    """The step under way ends at ``now_s`` and the next one begins; returns how many entries ``heard`` has then."""
    worker = world.workers[0]
    control = world.control[0]
    world.cluster[0].now_s = now_s
    if world.event_s[0] <= now_s:  # else it was one of a run of decode steps
        end_step(world, 0, now_s)
        begin_step(world, 0, now_s)
    sync_worker(world.workers, world.engines, world.phases, 0, now_s)
    for i in range(control.log_count):
        entry = world.log[i]
        if entry.kind == LOG_FINISH:
            r = entry.request
            _tell(told, heard, n, r, world.requests[r].generated, 1, now_s, edges_s, counts, sums)
            n += 1
    control.log_count = 0
    r = worker.run_head
    while r != NONE:
        request = world.requests[r]
        generated = worker.decode_steps - request.joined_step if request.decoding else request.generated
        if generated > told[r].tokens:
            _tell(told, heard, n, r, generated, 0, now_s, edges_s, counts, sums)
            n += 1
        r = request.next
    r = worker.wait_head
    while r != NONE and world.requests[r].generated > 0:  # preempted as the next step began; they stand in front
        if world.requests[r].generated > told[r].tokens:
            _tell(told, heard, n, r, world.requests[r].generated, 0, now_s, edges_s, counts, sums)
            n += 1
        r = world.requests[r].next
    return n


@inlined
def _due_s(world: World) -> float:
    """When the step under way ends; infinity where there is none."""
    worker = world.workers[0]
    return np.inf if worker.step in (IDLE, BOUNDARY) else float(worker.step_end_s)


@compiled
def finish_steps(
    world: World, told: Array, heard: Array, room: int, until_s: float, inclusive: bool, edges_s: Array, counts: Array,
    sums: Array,
) -> int:  # fmt: skip
    """Simulate what ends before ``until_s`` (or then, if ``inclusive``), up to ``room`` tokens and a step more.

    Returns how many entries of ``heard`` were filled with their tokens. The times since each request's token before are
    counted in ``counts`` by upper edge: ``edges_s``, then all above them.
    """
    n = 0
    due_s = _due_s(world)
    while n <= room and (due_s < until_s or (inclusive and due_s == until_s)):
        n = _finish_step(world, told, heard, n, due_s, edges_s, counts, sums)
        due_s = _due_s(world)
    return n
