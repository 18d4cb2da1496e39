"""The prefix cache of a worker: which blocks of prompts it still holds (docs/simulator.md, "Prefix caching").

A block of the workload's prefix ids takes ``prefix_span`` KV blocks. Nodes with references are in use; the others are
idle: kept as long as nobody needs their memory, least recently used first out, and counted as free memory meanwhile.
"""

from __future__ import annotations

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.state import DECODING, NONE, World


@inlined
def prefix_span(world: World, w: int) -> int:
    """KV blocks of a prefix block; 0: worker ``w`` caches no prefixes."""
    return int(world.types[world.workers[w].type_index].prefix_span)


@inlined
def _find(world: World, w: int, key: int) -> int:
    """The node of block ``key`` on worker ``w``, or NONE."""
    node = world.cache_buckets[w, key & world.control[0].cache_mask]
    while node != NONE and world.cache[w, node].key != key:
        node = world.cache[w, node].chain
    return int(node)


@inlined
def _key(world: World, r: int, block: int) -> int:
    return int(world.prefix_ids[world.prefixes[r].first + block])


@inlined
def _leave_idle(world: World, w: int, node: int) -> None:
    """Unlink an idle node from the order of last use."""
    engine = world.engines[w]
    before, after = world.cache[w, node].before, world.cache[w, node].after
    if before != NONE:
        world.cache[w, before].after = after
    else:
        engine.cache_oldest = after
    if after != NONE:
        world.cache[w, after].before = before
    else:
        engine.cache_newest = before
    engine.cache_idle -= 1


@inlined
def _become_idle(world: World, w: int, node: int) -> None:
    """Put a node that nobody holds any more behind all other idle ones."""
    engine = world.engines[w]
    newest = engine.cache_newest
    world.cache[w, node].before = newest
    world.cache[w, node].after = NONE
    if newest != NONE:
        world.cache[w, newest].after = node
    else:
        engine.cache_oldest = node
    engine.cache_newest = node
    engine.cache_idle += 1


@inlined
def _insert(world: World, w: int, key: int) -> None:
    """A new node with one reference. There is a spare one: nodes never take more memory than the worker has."""
    engine = world.engines[w]
    node = engine.cache_spare
    engine.cache_spare = world.cache[w, node].chain
    bucket = key & world.control[0].cache_mask
    entry = world.cache[w, node]
    entry.key = key
    entry.refs = 1
    entry.chain = world.cache_buckets[w, bucket]
    world.cache_buckets[w, bucket] = node


@inlined
def _evict_oldest(world: World, w: int) -> None:
    engine = world.engines[w]
    node = engine.cache_oldest
    _leave_idle(world, w, node)
    bucket = world.cache[w, node].key & world.control[0].cache_mask
    at = world.cache_buckets[w, bucket]
    if at == node:
        world.cache_buckets[w, bucket] = world.cache[w, node].chain
    else:
        while world.cache[w, at].chain != node:
            at = world.cache[w, at].chain
        world.cache[w, at].chain = world.cache[w, node].chain
    world.cache[w, node].chain = engine.cache_spare
    engine.cache_spare = node


@compiled
def evict_to(world: World, w: int, free_blocks: int) -> None:
    """Forget idle nodes, the least recently used first, until what remains fits into ``free_blocks`` KV blocks."""
    span = prefix_span(world, w)
    while world.engines[w].cache_idle * span > free_blocks:
        _evict_oldest(world, w)


@compiled
def clear_cache(world: World, w: int) -> None:
    """An empty cache, as after a start."""
    engine = world.engines[w]
    engine.cache_oldest = NONE
    engine.cache_newest = NONE
    engine.cache_idle = 0
    nodes = world.cache.shape[1]
    for node in range(nodes):
        world.cache[w, node].chain = node + 1 if node + 1 < nodes else NONE
    engine.cache_spare = 0
    world.cache_buckets[w, :] = NONE


@compiled
def hit_tokens(world: World, w: int, r: int) -> int:
    """Prompt tokens of ``r`` whose KV is cached on ``w``: whole blocks from the start; the last token never is."""
    size = world.control[0].prefix_tokens
    most = min(int(world.prefixes[r].count), (world.requests[r].prompt_tokens - 1) // size)
    block = 0
    while block < most and _find(world, w, _key(world, r, block)) != NONE:
        block += 1
    return int(block * size)


@inlined
def _whole_blocks(world: World, r: int, tokens: int) -> int:
    """Prefix blocks that ``tokens`` computed tokens of ``r`` complete."""
    return min(int(world.prefixes[r].count), tokens // world.control[0].prefix_tokens)


@compiled
def blocks_to_take(world: World, w: int, r: int, held_tokens: int, tokens: int, overhead: int) -> int:
    """KV blocks that ``r`` takes on ``w`` when its tokens with KV grow from ``held_tokens`` (0: none) to ``tokens``.

    Prefix blocks that another request holds already take none; completing one gives its share of own memory back.
    """
    size = world.workers[w].block_size
    span = prefix_span(world, w)
    blocks = law.blocks_for(tokens + overhead, size)
    if held_tokens > 0:
        blocks -= law.blocks_for(held_tokens + overhead, size)
    if span > 0:
        for block in range(world.prefixes[r].held, _whole_blocks(world, r, tokens)):
            node = _find(world, w, _key(world, r, block))
            if node != NONE and world.cache[w, node].refs > 0:
                blocks -= span
    return blocks


@compiled
def hold_prefix(world: World, w: int, r: int, tokens: int) -> None:
    """``r`` now holds the prefix blocks within its first ``tokens`` tokens; their memory is taken already.

    Evicts what no longer fits. A block that is being computed counts as cached: who is admitted behind can hit it.
    """
    entry = world.prefixes[r]
    whole = _whole_blocks(world, r, tokens)
    for block in range(entry.held, whole):
        node = _find(world, w, _key(world, r, block))
        if node != NONE:
            if world.cache[w, node].refs == 0:
                _leave_idle(world, w, node)
            world.cache[w, node].refs += 1
    evict_to(world, w, world.engines[w].free_blocks)
    for block in range(entry.held, whole):
        if _find(world, w, _key(world, r, block)) == NONE:
            _insert(world, w, _key(world, r, block))
    entry.held = whole


@compiled
def release_kv(world: World, w: int, r: int, overhead: int) -> None:
    """``r`` gives up its KV on ``w``: own blocks, and its holds of prefix blocks, the deepest becoming idle first."""
    worker = world.workers[w]
    engine = world.engines[w]
    engine.free_blocks += law.blocks_for(world.requests[r].computed + overhead, worker.block_size)
    span = prefix_span(world, w)
    if span == 0:
        return
    held = world.prefixes[r].held
    for back in range(held):
        node = _find(world, w, _key(world, r, held - 1 - back))
        world.cache[w, node].refs -= 1
        if world.cache[w, node].refs > 0:
            engine.free_blocks -= span  # others still hold it
        else:
            _become_idle(world, w, node)
    world.prefixes[r].held = 0


@inlined
def admit_prefix(world: World, w: int, r: int, hit: int) -> None:
    """Book the hit of a request that is being admitted; its KV is computed from there on."""
    world.requests[r].computed = hit
    if world.requests[r].preemptions == 0:
        world.prefixes[r].hit_tokens = hit
        world.cluster[0].prefix_hit_tokens += hit
        world.cluster[0].prefix_asked_tokens += world.requests[r].prompt_tokens


@compiled
def _free_now(world: World, w: int, now_s: float) -> int:
    """Free KV blocks of ``w`` in the step that is under way, which has taken its blocks at its start."""
    engine = world.engines[w]
    worker = world.workers[w]
    if worker.step != DECODING:
        return int(engine.free_blocks)
    elapsed = now_s - engine.run_start_s
    done = law.steps_within(engine.run_first_s, engine.run_growth_s, elapsed)
    between = done > 0 and law.run_time(engine.run_first_s, engine.run_growth_s, float(done)) >= elapsed
    steps = min(done if between else done + 1, engine.run_steps)
    size = worker.block_size
    taken = (steps // size) * worker.decoding
    for step in range(steps - steps % size, steps):
        taken += world.phases[w, (-(engine.base_steps + step)) % size]
    return int(engine.free_blocks - taken)


@compiled
def note_hits(world: World, r: int, now_s: float) -> None:
    """Let policies see how many prompt tokens of ``r`` are cached on each worker that may take it."""
    for w in range(world.workers.shape[0]):
        worker = world.workers[w]
        worker.prefix_hit_tokens = 0
        if prefix_span(world, w) > 0 and worker.accepts & world.requests[r].stage:
            evict_to(world, w, _free_now(world, w, now_s))
            worker.prefix_hit_tokens = hit_tokens(world, w, r)
