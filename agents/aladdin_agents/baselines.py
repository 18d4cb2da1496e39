"""The routers that people really run, as compiled placements. Ties go to the lowest slot.

Loads are those after placement, multiplied by a weight per worker type (:func:`aladdin_agents.tunable.type_weights`) so
that a fleet of several types is filled in proportion to speed; in a fleet of one type every weight is 1. Each
function is the kernel of one policy; its arguments are those of :func:`aladdin_env.policy.placement_kernel`.
"""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import inlined
from aladdin_env.policy import placement_kernel
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import HOLD, Array


@inlined
def count_candidates(workers: Array, requests: Array, r: int) -> int:
    """How many workers may take request ``r``."""
    count = 0
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            count += 1
    return count


@inlined
def nth_candidate(workers: Array, requests: Array, r: int, n: int) -> int:
    """The ``n``-th worker, counted from 0, that may take request ``r``."""
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            if n == 0:
                return w
            n -= 1
    return HOLD


@inlined
def coin_of(requests: Array, r: int) -> float:
    """The request's coin in [0, 1); another one for its second placement and after every loss of a worker."""
    turn = requests[r].stage - 1.0 + 2.0 * requests[r].retries
    return float((requests[r].coin * (1.0 + 1048573.0 * turn)) % 1.0)


@placement_kernel("random")
def random(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """Any candidate, all equally likely."""
    count = count_candidates(workers, requests, r)
    return nth_candidate(workers, requests, r, int(coin_of(requests, r) * count))


@placement_kernel("round_robin")
def round_robin(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The next candidate after the last choice, in a circle; each stage has its own (memory: next slots)."""
    slots = workers.shape[0]
    turn = requests[r].stage - 1
    start = int(memory[turn])
    for i in range(slots):
        w = start + i
        if w >= slots:
            w -= slots
        if can_place(workers, requests, w, r):
            memory[turn] = w + 1.0 if w + 1 < slots else 0.0
            return w
    return HOLD


@inlined
def fewest_members(workers: Array, requests: Array, r: int) -> int:
    """The candidate with the fewest requests; the lowest slot in ties. Most workers cost one comparison."""
    best = HOLD
    least = 1 << 30
    for w in range(workers.shape[0]):
        if workers[w].members < least and can_place(workers, requests, w, r):
            least = workers[w].members
            best = w
    return best


@placement_kernel("least_request")
def least_request(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """Join the shortest queue: fewest requests. Touches the first cache line of a worker only (memory: weights)."""
    if types.shape[0] == 1:  # one weight for all: whole numbers will do
        return fewest_members(workers, requests, r)
    best = HOLD
    least = np.inf
    for w in range(workers.shape[0]):
        load = (workers[w].members + 1.0) * memory[workers[w].type_index]
        if load < least and can_place(workers, requests, w, r):
            least = load
            best = w
    return best


@placement_kernel("power_of_two")
def power_of_two(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The one with fewer requests of two different random candidates; the first drawn in ties (memory: weights)."""
    count = count_candidates(workers, requests, r)
    draw = coin_of(requests, r) * count
    first = int(draw)
    a = nth_candidate(workers, requests, r, first)
    if count < 2:
        return a
    second = int((draw - first) * (count - 1))
    if second >= first:
        second += 1
    b = nth_candidate(workers, requests, r, second)
    load_a = (workers[a].members + 1.0) * memory[workers[a].type_index]
    load_b = (workers[b].members + 1.0) * memory[workers[b].type_index]
    return b if load_b < load_a else a


@inlined
def outstanding_tokens(workers: Array, w: int) -> float:
    """Prompt and predicted output tokens of a worker's requests, less what is done of them, and one for the newcomer.

    What is done is the context of the decoding ones. No request counts for less than one token.
    """
    worker = workers[w]
    members = worker.member_prompt_tokens + worker.member_predicted_tokens - worker.context_tokens
    floor = worker.waiting_prefill_tokens + float(worker.members)
    return float(max(members, floor) + 1.0)


@placement_kernel("least_tokens", needs_progress=True)
def least_tokens(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """Fewest outstanding tokens; see :func:`outstanding_tokens` (memory: weights)."""
    best = HOLD
    least = np.inf
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            load = outstanding_tokens(workers, w) * memory[workers[w].type_index]
            if load < least:
                least = load
                best = w
    return best


@placement_kernel("prefix_affinity", needs_progress=True)
def prefix_affinity(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """Prefix affinity, then fewest outstanding tokens: llm-d's default, in our reconstruction.

    Only workers that have cached at least ``memory[0]`` of the prompt are looked at, if there are any and the fleet is
    not out of balance: the busiest candidate has at most ``memory[1]`` requests more than the idlest, or at most
    ``memory[2]`` times as many (thresholds of vllm-router's and SGLang's ``cache_aware``; behind: weights).
    """
    wanted = max(memory[0] * requests[r].prompt_tokens, 1.0)
    fewest, most = 1 << 30, 0
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            fewest, most = min(fewest, workers[w].members), max(most, workers[w].members)
    if most - fewest > memory[1] and most > memory[2] * fewest:
        wanted = np.inf
    best = near = HOLD
    least = least_near = np.inf
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            load = outstanding_tokens(workers, w) * memory[3 + workers[w].type_index]
            if load < least:
                least, best = load, w
            if workers[w].prefix_hit_tokens >= wanted and load < least_near:
                least_near, near = load, w
    return best if near == HOLD else near


@placement_kernel("least_kv", needs_progress=True)
def least_kv(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """Lowest share of the KV memory in use, prompts that still wait there counted in."""
    best = HOLD
    least = np.inf
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            worker = workers[w]
            blocks = worker.kv_used_blocks + worker.waiting_prefill_tokens / worker.block_size
            load = blocks / worker.kv_blocks
            if load < least:
                least = load
                best = w
    return best


@placement_kernel("lmetric")
def lmetric(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """LMetric (arXiv 2603.15202): least product of prefill tokens to do and batch size, both with ``r`` counted in.

    Of ``r`` only what the worker has not cached counts.
    A prefilled request adds its context instead of prefill work (our reconstruction), which makes it a shortest queue
    (memory: weights).
    """
    best = HOLD
    least = np.inf
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            worker = workers[w]
            tokens = worker.waiting_prefill_tokens + requests[r].prompt_tokens - worker.prefix_hit_tokens
            load = tokens * (workers[w].members + 1.0) * memory[worker.type_index]
            if load < least:
                least = load
                best = w
    return best
