"""Beginning a step: who is admitted, who is preempted, how long it takes (docs/simulator.md, "Steps")."""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.batch import (
    join_decode,
    kv_overhead,
    mark_admitted,
    new_blocks,
    preempt_last,
    steps_with_memory,
)
from aladdin_env.simulator.lists import reschedule, run_append, wait_remove
from aladdin_env.simulator.prefix import (
    admit_prefix,
    blocks_to_take,
    evict_to,
    hit_tokens,
    hold_prefix,
    prefix_span,
)
from aladdin_env.simulator.state import CHUNKED, DECODING, IDLE, MIXING, NONE, PREFILLING, World


@inlined
def _begin_single(world: World, w: int, step: int, now_s: float, duration_s: float) -> None:
    """A step with prompt tokens in it: always one step at a time."""
    worker = world.workers[w]
    worker.step = step
    worker.step_end_s = now_s + duration_s
    reschedule(world.heap, world.event_s, w, worker.step_end_s)


@inlined
def _begin_decode(world: World, w: int, now_s: float, only_one: bool) -> None:
    """Decode steps up to the next end of a request or lack of a block; ``only_one`` step after a preemption."""
    worker = world.workers[w]
    engine = world.engines[w]
    kind = worker.type_index
    batch = worker.decoding
    start = worker.decode_steps
    steps = 1
    if not only_one:
        steps = (world.finish_heap[w, 0] >> 32) - start
        if batch * ((steps + worker.block_size - 1) // worker.block_size) > engine.free_blocks:
            affordable = steps_with_memory(world.phases, w, worker.block_size, start, batch, engine.free_blocks)
            steps = max(min(steps, affordable), 1)
    table = min(batch, int(world.laws[kind, law.LARGEST_BATCH]))
    beta = law.decode_beta(world.laws, kind, table)
    engine.run_start_s = now_s
    engine.run_first_s = law.decode_alpha(world.laws, kind, table) + beta * worker.context_tokens
    engine.run_growth_s = beta * batch
    engine.run_steps = steps
    engine.base_steps = start
    engine.base_context = worker.context_tokens
    worker.step = DECODING
    worker.step_end_s = now_s + engine.run_first_s
    worker.kv_used_blocks = worker.kv_blocks - engine.free_blocks
    end = now_s + law.run_time(engine.run_first_s, engine.run_growth_s, float(steps))
    reschedule(world.heap, world.event_s, w, end)


@inlined
def cut_run(world: World, w: int, now_s: float) -> None:
    """End the run of worker ``w`` at its next step boundary, so that a newly placed request can be admitted there."""
    engine = world.engines[w]
    elapsed = now_s - engine.run_start_s
    steps = law.steps_within(engine.run_first_s, engine.run_growth_s, elapsed)
    if law.run_time(engine.run_first_s, engine.run_growth_s, float(steps)) < elapsed or steps == 0:
        steps += 1
    if steps < engine.run_steps:
        engine.run_steps = steps
        end = engine.run_start_s + law.run_time(engine.run_first_s, engine.run_growth_s, float(steps))
        reschedule(world.heap, world.event_s, w, end)


@inlined
def _admit(world: World, w: int, r: int, blocks: int, now_s: float) -> None:
    wait_remove(world.workers, world.requests, w, r)
    run_append(world.workers, world.requests, w, r)
    world.engines[w].free_blocks -= blocks
    mark_admitted(world, r, now_s)


@inlined
def _begin_prefill_first(world: World, w: int, now_s: float) -> None:
    """VLLM V0's rule; also the rule of both roles of ``split``: transferred requests join without a prefill."""
    worker = world.workers[w]
    engine = world.engines[w]
    limits = world.types[worker.type_index]
    overhead = kv_overhead(world, w)
    caches = prefix_span(world, w) > 0
    tokens = 0
    squares = 0.0
    engine.taken = NONE
    while worker.wait_head != NONE and worker.running < limits.max_num_seqs:
        r = worker.wait_head
        request = world.requests[r]
        if request.computed > 0:  # its KV came from a prefill worker
            blocks = law.blocks_for(request.computed + overhead, worker.block_size)
            if blocks > engine.free_blocks:
                break
            _admit(world, w, r, blocks, now_s)
            join_decode(world, w, r)
            continue
        total = request.prompt_tokens + request.generated
        past = hit_tokens(world, w, r) if caches else 0
        need = total - past
        if engine.taken != NONE and tokens + need > limits.max_num_batched_tokens:
            break
        blocks = blocks_to_take(world, w, r, 0, total, overhead)
        if blocks > engine.free_blocks:
            break
        _admit(world, w, r, blocks, now_s)
        if caches:
            admit_prefix(world, w, r, past)
            hold_prefix(world, w, r, total)
        worker.waiting_prefill_tokens -= total
        world.truth[r].chunk = need
        tokens += need
        squares += float(need) * (2.0 * past + need)
        if engine.taken == NONE:
            engine.taken = r
    if engine.taken != NONE:
        engine.decodes = 0
        duration = law.prefill_time(world.laws, worker.type_index, float(tokens), squares)
        world.control[0].prefill_steps += 1
        _begin_single(world, w, PREFILLING, now_s, duration)
    elif worker.decoding > 0:
        preempted = False
        while world.phases[w, (-worker.decode_steps) % worker.block_size] > engine.free_blocks:
            if caches:
                evict_to(world, w, 0)  # those before the one who lacks a block have taken all there was
            preempt_last(world, w)
            preempted = True
        _begin_decode(world, w, now_s, preempted)
    else:
        worker.step = IDLE
        reschedule(world.heap, world.event_s, w, np.inf)


@inlined
def _admit_chunks(world: World, w: int, now_s: float, budget: int) -> tuple[int, float]:
    """Admit waiting requests while budget, blocks and places last; returns prompt tokens and sum of squares."""
    worker = world.workers[w]
    engine = world.engines[w]
    overhead = kv_overhead(world, w)
    caches = prefix_span(world, w) > 0
    places = world.types[worker.type_index].max_num_seqs
    tokens = 0
    squares = 0.0
    while worker.wait_head != NONE and worker.running < places and budget > 0:
        r = worker.wait_head
        past = hit_tokens(world, w, r) if caches else 0
        total = world.requests[r].prompt_tokens + world.requests[r].generated
        if blocks_to_take(world, w, r, 0, total, overhead) > engine.free_blocks:
            break
        chunk = min(total - past, budget)
        _admit(world, w, r, blocks_to_take(world, w, r, 0, past + chunk, overhead), now_s)
        if caches:
            admit_prefix(world, w, r, past)
            hold_prefix(world, w, r, past + chunk)
        worker.waiting_prefill_tokens -= past + chunk
        world.truth[r].chunk = chunk
        if engine.taken == NONE:
            engine.taken = r
        tokens += chunk
        squares += float(chunk) * (2.0 * past + chunk)
        budget -= chunk
    return tokens, squares


@inlined
def _begin_chunked(world: World, w: int, now_s: float) -> None:
    """VLLM V1's rule: decodes first, prompt chunks in arrival order within the rest of the token budget."""
    worker = world.workers[w]
    engine = world.engines[w]
    kind = worker.type_index
    overhead = kv_overhead(world, w)
    caches = prefix_span(world, w) > 0
    budget = world.types[kind].max_num_batched_tokens
    preempted = False
    while True:
        chunk = 0
        past = 0
        decoders = new_blocks(world.phases, w, worker.block_size, worker.decode_steps, worker.decoding, 1)
        blocks = decoders
        partial = engine.partial
        if partial != NONE:
            past = world.requests[partial].computed
            rest = world.requests[partial].prompt_tokens + world.requests[partial].generated - past
            chunk = min(rest, budget - worker.decoding)
            blocks += blocks_to_take(world, w, partial, past, past + chunk, overhead)
        if blocks <= engine.free_blocks:
            break
        if caches:
            evict_to(world, w, max(engine.free_blocks - decoders, 0))  # the decoders took theirs first
        preempt_last(world, w)
        preempted = True
    engine.taken = partial
    tokens = chunk
    squares = float(chunk) * (2.0 * past + chunk)
    engine.free_blocks -= blocks  # what the running requests take comes first
    if partial != NONE:
        worker.waiting_prefill_tokens -= chunk
        world.truth[partial].chunk = chunk
        if caches:
            hold_prefix(world, w, partial, past + chunk)
    elif caches:
        evict_to(world, w, engine.free_blocks)
    budget -= worker.decoding + chunk
    if not preempted and worker.wait_head != NONE and budget > 0:
        more, more_squares = _admit_chunks(world, w, now_s, budget)
        tokens += more
        squares += more_squares
    if tokens == 0:
        engine.free_blocks += blocks  # a run of decode steps takes them at its end
    if tokens > 0:
        engine.decodes = 1 if worker.decoding > 0 else 0
        context = float(worker.context_tokens)
        if worker.decoding > 0:
            duration = law.mixed_time(world.laws, kind, float(tokens), squares, worker.decoding, context)
            world.control[0].mixed_steps += 1
        else:
            duration = law.prefill_time(world.laws, kind, float(tokens), squares)
            world.control[0].prefill_steps += 1
        _begin_single(world, w, MIXING, now_s, duration)
    elif worker.decoding > 0:
        _begin_decode(world, w, now_s, preempted)
    else:
        worker.step = IDLE
        reschedule(world.heap, world.event_s, w, np.inf)


@compiled
def begin_step(world: World, w: int, now_s: float) -> None:
    """Let the engine of worker ``w``, at a boundary, begin its next step; it idles where there is nothing to do."""
    if world.types[world.workers[w].type_index].scheduler == CHUNKED:
        _begin_chunked(world, w, now_s)
    else:
        _begin_prefill_first(world, w, now_s)
