"""How much of the prompts a prefix cache would have had: figures of the trace alone, without a simulator."""

from collections import OrderedDict

import numpy as np

from aladdin_traces import checks
from aladdin_traces.errors import InputError
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.trace import Trace

_BLOCKS_MAX = 2**62


def token_hit_ratio(trace: Trace, capacity_blocks: int | None = None) -> float:
    """Return the share of all prompt tokens that a prefix cache holds when they arrive.

    Requests are taken one by one in the order of their arrival, as if each were done before the next. A request hits
    the longest run of blocks from its first on that are all in the cache; its hit tokens are the tokens of those
    blocks, at most its prompt. Then all its blocks are in the cache, used just now, the first block most recently (a
    prefix is worth more than what comes after it), and the least recently used blocks beyond the capacity leave.

    Args:
        trace: Requests with prefix blocks.
        capacity_blocks: Blocks that the cache holds, >= 1; None means without end.

    Raises:
        InputError: The trace has no prefix blocks, or ``capacity_blocks`` is no whole number >= 1.
    """
    blocks, prompt = _blocks_of(trace), trace.prompt_tokens
    if len(prompt) == 0:
        return 0.0
    if capacity_blocks is None:
        hits = _hits_without_end(blocks)
    else:
        hits = _hits_of_lru(blocks, checks.whole("capacity_blocks", capacity_blocks, low=1, high=_BLOCKS_MAX))
    return float(np.minimum(hits * blocks.block_size, prompt).sum() / prompt.sum(dtype=np.int64))


def hit_blocks(trace: Trace) -> "np.typing.NDArray[np.int64]":
    """Return how many blocks of each request, (requests,), a cache without end holds when it arrives.

    Raises:
        InputError: The trace has no prefix blocks.
    """
    return _hits_without_end(_blocks_of(trace))


def _blocks_of(trace: Trace) -> PrefixBlocks:
    if trace.prefix_blocks is None:
        raise InputError("trace", trace, "give a trace whose source says which prompts share a prefix")
    return trace.prefix_blocks


def _hits_without_end(blocks: PrefixBlocks) -> "np.typing.NDArray[np.int64]":
    """Count the leading blocks of each request that a request before it has had."""
    request = np.repeat(np.arange(len(blocks)), blocks.counts)
    distinct, first = np.unique(blocks.ids, return_index=True)
    is_new = request[first[np.searchsorted(distinct, blocks.ids)]] == request
    within = np.arange(len(blocks.ids)) - np.repeat(blocks.offsets[:-1], blocks.counts)
    hits = blocks.counts.copy()
    np.minimum.at(hits, request[is_new], within[is_new])
    return hits


def _hits_of_lru(blocks: PrefixBlocks, capacity: int) -> "np.typing.NDArray[np.int64]":
    cache: OrderedDict[int, None] = OrderedDict()
    hits = np.zeros(len(blocks), np.int64)
    ids, offsets = blocks.ids.tolist(), blocks.offsets.tolist()
    for i in range(len(blocks)):
        own = ids[offsets[i] : offsets[i + 1]]
        hit = 0
        while hit < len(own) and own[hit] in cache:
            hit += 1
        hits[i] = hit
        for block in reversed(own):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return hits
