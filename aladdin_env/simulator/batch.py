"""A worker's decode batch and its KV blocks: who is in it, what it holds, what the next steps will need."""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.lists import heap_discard, run_remove, sift_down, sift_up, wait_push_front
from aladdin_env.simulator.prefix import clear_cache, prefix_span, release_kv
from aladdin_env.simulator.state import (
    DECODING,
    MAX_CLASSES,
    NONE,
    RUNNING,
    WAITING,
    Array,
    World,
)

_REQUEST_MASK = 0xFFFFFFFF


@inlined
def kv_overhead(world: World, w: int) -> int:
    """J of the KV law, in tokens."""
    return int(world.laws[world.workers[w].type_index, law.KV_OVERHEAD])


@inlined
def new_blocks(phases: Array, w: int, block_size: int, start: int, batch: int, steps: int) -> int:
    """Blocks that ``steps`` decode steps take, from decode step ``start`` on.

    A request whose length modulo the block size has residue c relative to step 0 takes a block at the steps u with
    (c + u) % block_size == 0, so that a count by residue is all that is needed.
    """
    cycles = steps // block_size
    blocks = cycles * batch
    residue = (-start) % block_size
    for _ in range(steps - cycles * block_size):
        blocks += phases[w, residue]
        residue = residue - 1 if residue > 0 else block_size - 1
    return blocks


@inlined
def steps_with_memory(phases: Array, w: int, block_size: int, start: int, batch: int, free: int) -> int:
    """The most decode steps from ``start`` on that ``free`` blocks allow."""
    cycles = free // batch
    left = free - cycles * batch
    steps = cycles * block_size
    residue = (-start) % block_size
    for _ in range(block_size):
        left -= phases[w, residue]
        if left < 0:
            break
        residue = residue - 1 if residue > 0 else block_size - 1
        steps += 1
    return steps


@inlined
def join_decode(world: World, w: int, r: int) -> None:
    """``r`` has its prefill behind it and decodes from the next step on; ``generated`` and ``computed`` are exact."""
    worker = world.workers[w]
    request = world.requests[r]
    steps = worker.decode_steps
    joined = steps - request.generated
    request.joined_step = joined
    request.decoding = 1
    worker.decoding += 1
    worker.context_tokens += request.prompt_tokens + request.generated
    block_size = worker.block_size
    world.phases[w, (request.computed + kv_overhead(world, w) - steps) % block_size] += 1
    size = world.engines[w].finishing
    world.engines[w].finishing = size + 1
    sift_up(world.finish_heap[w], size, ((joined + world.truth[r].limit) << 32) | r)
    klass = request.klass
    key = request.first_token_s - world.laws[worker.type_index, law.OVERHEAD] - world.slo[klass, 1] * joined
    if key < worker.slack_key_s[klass]:
        worker.slack_key_s[klass] = key
        worker.slack_owner[klass] = r


@compiled
def refresh_slack(workers: Array, requests: Array, laws: Array, slo: Array, w: int, klass: int) -> None:
    """Find the decoding request with the least slack again, after its owner has left."""
    worker = workers[w]
    overhead = laws[worker.type_index, law.OVERHEAD]
    best = np.inf
    owner = NONE
    r = worker.run_head
    while r != NONE:
        request = requests[r]
        if request.decoding and request.klass == klass:
            key = request.first_token_s - overhead - slo[klass, 1] * request.joined_step
            if key < best:
                best = key
                owner = r
        r = request.next
    worker.slack_key_s[klass] = best
    worker.slack_owner[klass] = owner


@inlined
def leave_decode(world: World, w: int, r: int) -> None:
    """``r`` stops decoding after the steps done so far: its counts become exact. It stays in the running list."""
    worker = world.workers[w]
    request = world.requests[r]
    steps = worker.decode_steps
    request.generated = steps - request.joined_step
    request.computed = request.prompt_tokens + request.generated - 1
    request.decoding = 0
    worker.decoding -= 1
    worker.context_tokens -= request.prompt_tokens + request.generated
    world.phases[w, (request.computed + kv_overhead(world, w) - steps) % worker.block_size] -= 1


@inlined
def pop_finished(world: World, w: int) -> int:
    """The decoding request that ends after the steps done so far, taken off the heap; NONE if there is none."""
    engine = world.engines[w]
    size = engine.finishing
    if size == 0:
        return NONE
    key = world.finish_heap[w, 0]
    if (key >> 32) != world.workers[w].decode_steps:
        return NONE
    size -= 1
    engine.finishing = size
    if size > 0:
        sift_down(world.finish_heap[w], 0, size, world.finish_heap[w, size])
    return int(key & _REQUEST_MASK)


@inlined
def release_slack(world: World, w: int, r: int) -> None:
    """After ``r`` left the running list: keep the least slack of its class right."""
    klass = world.requests[r].klass
    if world.workers[w].slack_owner[klass] == r:
        refresh_slack(world.workers, world.requests, world.laws, world.slo, w, klass)


@compiled
def preempt_last(world: World, w: int) -> None:
    """Put the most recently admitted request back to the head of the waiting list; its blocks are freed."""
    worker = world.workers[w]
    engine = world.engines[w]
    r = worker.run_tail
    request = world.requests[r]
    if request.decoding:
        heap_discard(world.finish_heap[w], engine.finishing, ((request.joined_step + world.truth[r].limit) << 32) | r)
        engine.finishing -= 1
        leave_decode(world, w, r)
        worker.waiting_prefill_tokens += request.prompt_tokens + request.generated
    else:  # an unfinished chunked prefill: the rest of it is counted already
        worker.waiting_prefill_tokens += request.computed
        engine.partial = NONE
    release_kv(world, w, r, kv_overhead(world, w))
    run_remove(world.workers, world.requests, w, r)
    release_slack(world, w, r)
    request.computed = 0
    request.status = WAITING
    request.preemptions += 1
    world.cluster[0].preemptions += 1
    wait_push_front(world.workers, world.requests, w, r)


@inlined
def mark_admitted(world: World, r: int, now_s: float) -> None:
    """``r`` has joined the running list."""
    request = world.requests[r]
    request.status = RUNNING
    if np.isnan(request.admitted_s):
        request.admitted_s = now_s


@inlined
def sync_worker(workers: Array, engines: Array, phases: Array, w: int, now_s: float) -> None:
    """Bring what a policy sees of worker ``w`` up to ``now_s``: steps done, context, KV, end of the current step."""
    worker = workers[w]
    engine = engines[w]
    if worker.step == DECODING:
        if now_s < worker.step_end_s:  # still the step of the last call, or the first one of the run
            return
        elapsed = now_s - engine.run_start_s
        known = worker.decode_steps - engine.base_steps
        steps = known + 1  # the common case: one more than at the last call
        if law.run_time(engine.run_first_s, engine.run_growth_s, known + 2.0) <= elapsed:
            steps = law.steps_within(engine.run_first_s, engine.run_growth_s, elapsed)
        steps = min(steps, engine.run_steps)
        taken = new_blocks(phases, w, worker.block_size, worker.decode_steps, worker.decoding, steps - known)
        worker.kv_used_blocks += taken
        worker.decode_steps = engine.base_steps + steps
        worker.context_tokens = engine.base_context + steps * worker.decoding
        ends = min(steps + 1, engine.run_steps)
        worker.step_end_s = engine.run_start_s + law.run_time(engine.run_first_s, engine.run_growth_s, float(ends))
    else:
        worker.kv_used_blocks = worker.kv_blocks - engine.free_blocks


@inlined
def clear_worker(world: World, w: int) -> None:
    """An engine without requests, as after a start."""
    worker = world.workers[w]
    engine = world.engines[w]
    worker.step = 0
    worker.members = 0
    worker.running = 0
    worker.waiting = 0
    worker.inbound = 0
    worker.outbound = 0
    worker.decoding = 0
    worker.kv_used_blocks = 0
    worker.waiting_prefill_tokens = 0
    worker.context_tokens = 0
    worker.decode_steps = 0
    worker.member_prompt_tokens = 0
    worker.member_predicted_tokens = 0.0
    worker.prediction_error_tokens = 0.0
    worker.run_head = NONE
    worker.run_tail = NONE
    worker.wait_head = NONE
    worker.wait_tail = NONE
    for klass in range(MAX_CLASSES):
        worker.slack_key_s[klass] = np.inf
        worker.slack_owner[klass] = NONE
    engine.finishing = 0
    engine.partial = NONE
    engine.taken = NONE
    engine.free_blocks = worker.kv_blocks
    if prefix_span(world, w) > 0:
        clear_cache(world, w)
    world.phases[w, :] = 0
