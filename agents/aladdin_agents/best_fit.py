"""Best fit [R]: how full a worker would be, and which of two is the fuller (docs/aladdin.md)."""

from __future__ import annotations

from aladdin_agents.predictions import batch_after, context_at_end
from aladdin_env.compiled import inlined
from aladdin_env.simulator.state import Array


@inlined
def loads(workers: Array, requests: Array, w: int, r: int, pace: float, gamma: float) -> tuple[float, float]:
    """How full ``w`` is with ``r``: the largest normalised load (time, memory, places) and the L2 norm of all three."""
    worker = workers[w]
    kv = context_at_end(workers, requests, w, r) / (gamma * worker.kv_blocks * worker.block_size)
    places = batch_after(workers, w) / worker.max_num_seqs
    return max(pace, max(kv, places)), pace * pace + kv * kv + places * places


@inlined
def fuller(load: float, norm: float, error: float, best: float, best_norm: float, best_error: float) -> bool:
    """Order of best fit: load, then norm, then the worker whose outputs ran shortest against their prediction."""
    if load != best:
        return load > best
    if norm != best_norm:
        return norm > best_norm
    return error > best_error
