"""Routing by predicted latency: the pipeline of llm-d's latency scorer over our laws, compiled.

What llm-d runs (``llm-d-router``: plugins ``predicted-latency-producer``, ``slo-headroom-tier-filter``,
``latency-scorer``, ``weighted-random-picker``) and what stands for it here:

- A model, learnt online, predicts the 90th percentile of TTFT and of the time per output token on every worker. Here
  the latency laws predict both, see :func:`pace_p90`; TTFT is the prediction of the first token itself, and what
  a full worker adds, see :func:`wait_for_place`.
- Headroom is the objective less the prediction. Workers with headroom in both are one tier, and are preferred; 1 % of
  the requests go to the other tier, so that its predictions are seen to recover. In the other tier idle workers come
  first, then those that are short of pace only, of TTFT only, of both.
- Within the tier both headrooms are normalised to [0, 1] and blended, 0.8 of TTFT and 0.2 of pace; one that is equal
  everywhere is left out. The weight of a worker is ``2 + 99 (1 - blend)`` under the strategy "least", ``2 + 99 blend``
  under "most" and in the tier without headroom; the request's coin picks a worker in proportion to it.

llm-d's gates for cached prefixes are left out (``prefix_affinity`` has them in another form).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aladdin_agents.baselines import coin_of
from aladdin_agents.constraints import strictest_pace
from aladdin_agents.predictions import (
    batch_after,
    computed_share,
    context_now,
    first_token_after,
    prefill_cost,
    steady_pace,
    step_after,
    typical_lengths,
)
from aladdin_agents.tunable import TunableKernel
from aladdin_env.compiled import compiled, inlined
from aladdin_env.policy import Kernel, placement_kernel
from aladdin_env.scenario import Scenario
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import DECODE_ROLE, HOLD, LENGTH_BINS, LENGTH_BUCKETS, MIXED_ROLE, PREFILL_ROLE, Array

#: Parameters, with llm-d's defaults. ``sigmas``: the quantile of the predicted pace, 1.2816 for the 90th percentile.
PARAMETERS: Mapping[str, float] = {"ttft_weight": 0.8, "pace_weight": 0.2, "explore": 0.01, "sigmas": 1.2816}
_TTFT_WEIGHT, _PACE_WEIGHT, _EXPLORE, _SIGMAS, _REFRESHED, _SPREAD = range(6)
_FULL_WEIGHT, _LEAST_WEIGHT = 99.0, 2.0
# Tiers, the preferred ones first.
_BOTH_HOLD, _IDLE, _PACE_SHORT, _TTFT_SHORT, _BOTH_SHORT, _NO_CANDIDATE = range(6)


@inlined
def _refresh(cluster: Array, lengths: Array, memory: Array) -> None:
    """Mean square of finished prompts over their squared mean, from the predictor's table of octaves."""
    finished = cluster[0].finished
    if finished < 1.05 * memory[_REFRESHED] + 16.0 and finished >= memory[_REFRESHED]:
        return
    memory[_REFRESHED] = finished
    count, mean, square = 0.0, 0.0, 0.0
    for bucket in range(LENGTH_BUCKETS):
        seen = lengths[bucket, LENGTH_BINS, 0]
        middle = 1.5 * 2.0**bucket
        count, mean, square = count + seen, mean + seen * middle, square + seen * middle * middle
    memory[_SPREAD] = square * count / (mean * mean) if mean > 0.0 else 1.0


@inlined
def pace_p90(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, memory: Array, w: int, r: int
) -> float:
    """90th percentile of the time per token that ``r`` would see on ``w``, seconds (our reconstruction).

    While ``r`` gets its ``o`` tokens, ``N ~ Poisson(b' o / m)`` other prompts are prefilled there, each of ``p``
    seconds, hence ``steady pace + 1.28 sqrt(b' E[p^2] / (m o))``; ``m`` typical decoded tokens, ``E[p^2]`` from the
    spread of prompts.
    """
    pace_s = steady_pace(workers, requests, cluster, types, laws, w, r)
    kind = workers[w].type_index
    if types[kind].role != MIXED_ROLE:
        return float(pace_s)
    prompt, decoded = typical_lengths(cluster, requests, r)
    decode_s = step_after(workers, requests, laws, w, r)
    one_s = prefill_cost(types, laws, kind, prompt * computed_share(cluster), decode_s)
    own = max(1.0, requests[r].predicted_tokens)
    squares = (workers[w].members + 1.0) * one_s * one_s * max(1.0, memory[_SPREAD]) / (decoded * own)
    return float(pace_s + memory[_SIGMAS] * np.sqrt(squares))


@inlined
def wait_for_place(workers: Array, requests: Array, cluster: Array, w: int, r: int, pace_s: float) -> float:
    """Seconds until ``w`` has a place and memory for ``r`` (our reconstruction): 0 while it has.

    One of its ``n`` places is free every ``m pace / n`` seconds, ``m`` typical decoded tokens; ``n`` is the largest
    batch, or what the KV memory holds at the present mean context if that is less. llm-d's model learns this from the
    requests that wait and the share of KV memory in use.
    """
    worker = workers[w]
    batch = batch_after(workers, w)
    each = max(1.0, context_now(workers, requests, w, r) / batch)
    places = max(1.0, min(float(worker.max_num_seqs), worker.kv_blocks * worker.block_size / each))
    _, decoded = typical_lengths(cluster, requests, r)
    return float(max(0.0, batch - places) * decoded * pace_s / places)


@inlined
def _tier(ttft_room: float, pace_room: float, members: int) -> int:
    if ttft_room >= 0.0 and pace_room >= 0.0:
        return _BOTH_HOLD
    if members == 0:
        return _IDLE
    if ttft_room >= 0.0:
        return _PACE_SHORT
    return _TTFT_SHORT if pace_room >= 0.0 else _BOTH_SHORT


@inlined
def _look(
    workers: Array,
    requests: Array,
    cluster: Array,
    types: Array,
    laws: Array,
    slo: Array,
    memory: Array,
    w: int,
    r: int,
) -> int:
    """Write both headrooms of ``w`` (seconds) behind the parameters; its tier."""
    ttft_room, pace_room, waiting_s = 0.0, 0.0, 0.0
    if workers[w].role != PREFILL_ROLE:
        pace_s = pace_p90(workers, requests, cluster, types, laws, memory, w, r)
        pace_room = strictest_pace(workers, requests, slo, w, r) - pace_s
        waiting_s = wait_for_place(workers, requests, cluster, w, r, pace_s)
    if workers[w].role != DECODE_ROLE:
        now_s = cluster[0].now_s
        seconds, _ = first_token_after(workers, requests, cluster, types, laws, slo, w, r)
        done_s = now_s + waiting_s + seconds + laws[workers[w].type_index, law.OVERHEAD]
        ttft_room = requests[r].arrival_s + slo[requests[r].klass, 0] - done_s
    at = _SPREAD + 1 + 3 * w
    memory[at], memory[at + 1] = ttft_room, pace_room
    return _tier(ttft_room, pace_room, workers[w].members)


@inlined
def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high - low > 1e-9 else 0.5


@compiled
def _weigh(memory: Array, slots: int, tier: int, packs: bool) -> float:
    """Turn the headrooms of the workers of ``tier`` into weights, in place; their sum."""
    low_ttft, high_ttft, low_pace, high_pace = np.inf, -np.inf, np.inf, -np.inf
    for w in range(slots):
        at = _SPREAD + 1 + 3 * w
        if memory[at + 2] == tier:
            low_ttft, high_ttft = min(low_ttft, memory[at]), max(high_ttft, memory[at])
            low_pace, high_pace = min(low_pace, memory[at + 1]), max(high_pace, memory[at + 1])
    ttft_weight = memory[_TTFT_WEIGHT] if high_ttft - low_ttft > 1e-9 else 0.0
    pace_weight = memory[_PACE_WEIGHT] if high_pace - low_pace > 1e-9 else 0.0
    both = max(1e-12, ttft_weight + pace_weight)
    total = 0.0
    for w in range(slots):
        at = _SPREAD + 1 + 3 * w
        if memory[at + 2] == tier:
            ttft = ttft_weight * _share(memory[at], low_ttft, high_ttft)
            blend = (ttft + pace_weight * _share(memory[at + 1], low_pace, high_pace)) / both
            if packs and tier == _BOTH_HOLD:
                blend = 1.0 - blend
            memory[at] = _LEAST_WEIGHT + _FULL_WEIGHT * blend
            total += memory[at]
    return total


@compiled
def _by_headroom(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int, packs: bool,
) -> int:  # fmt: skip
    """The pipeline of the module; ``packs``: strategy "least"."""
    _refresh(cluster, lengths, memory)
    slots = workers.shape[0]
    best, other = _NO_CANDIDATE, _NO_CANDIDATE  # the preferred tier, and that of the workers without headroom
    for w in range(slots):
        tier = _NO_CANDIDATE
        if can_place(workers, requests, w, r):
            tier = _look(workers, requests, cluster, types, laws, slo, memory, w, r)
        memory[_SPREAD + 3 + 3 * w] = tier
        best = min(best, tier)
        if tier != _BOTH_HOLD:
            other = min(other, tier)
    coin = coin_of(requests, r)
    explore = memory[_EXPLORE] if best == _BOTH_HOLD and other != _NO_CANDIDATE else 0.0
    if coin < explore:
        best, coin = other, coin / explore
    else:
        coin = (coin - explore) / (1.0 - explore)
    left = coin * _weigh(memory, slots, best, packs)
    chosen = HOLD
    for w in range(slots):
        at = _SPREAD + 1 + 3 * w
        if best != _NO_CANDIDATE and memory[at + 2] == best:
            chosen = w
            left -= memory[at]
            if left < 0.0:
                return chosen
    return chosen


@placement_kernel("least_headroom", needs_progress=True)
def least_headroom(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """llm-d's latency scorer, strategy "least": packs requests where the least headroom is left."""
    return _by_headroom(workers, requests, cluster, types, laws, slo, lengths, memory, r, True)


@placement_kernel("most_headroom", needs_progress=True)
def most_headroom(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """llm-d's latency scorer, strategy "most": spreads requests to where the most headroom is left."""
    return _by_headroom(workers, requests, cluster, types, laws, slo, lengths, memory, r, False)


def make(scenario: Scenario, kernel: Kernel) -> TunableKernel:
    """``kernel`` of this module with llm-d's settings, and room to compare the workers of ``scenario``."""
    space = np.zeros(_SPREAD + 1 - len(PARAMETERS) + 3 * scenario.fleet.slots)
    space[_SPREAD - len(PARAMETERS)] = 1.0
    return TunableKernel.of(kernel, PARAMETERS, space)
