"""The reward of the environments: minus what GPU time costs, minus weighted misses of the SLOs.

The reward of a step covers the time from one decision of the agent to the next (the first one from time 0), the last
one to the end of the episode, so that the rewards of an episode sum to

    - (cost x weights.cost + late first tokens x weights.ttft_miss + slow requests x weights.atgt_miss
       + unserved x weights.unserved)

with the totals of the episode's summary: ``cost``, ``ttft_missed``, ``atgt_missed``, and ``rejected`` + ``failed`` +
``truncated``. A late first token counts when it appears, a pace when the request ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aladdin_env.compiled import inlined
from aladdin_env.scenario import RewardWeights
from aladdin_env.simulator.state import Array

TERMS = ("cost", "ttft_missed", "atgt_missed", "unserved")


def weights_row(weights: RewardWeights) -> NDArray[np.float64]:
    """The weights in the order of :data:`TERMS`."""
    return np.array([weights.cost, weights.ttft_miss, weights.atgt_miss, weights.unserved])


@inlined
def settle(cluster: Array, now_s: float, weights: Array, booked: Array) -> float:
    """Reward for what has happened since the last call; ``booked`` (one number per term) keeps the totals.

    The cost runs up to ``now_s``; nothing in ``cluster`` is changed.
    """
    state = cluster[0]
    cost = state.cost + (now_s - state.accrued_s) * state.cost_rate_per_s
    ttft, atgt, unserved = float(state.ttft_missed), float(state.atgt_missed), float(state.unserved)
    loss = weights[0] * (cost - booked[0]) + weights[1] * (ttft - booked[1])
    loss += weights[2] * (atgt - booked[2]) + weights[3] * (unserved - booked[3])
    booked[0], booked[1], booked[2], booked[3] = cost, ttft, atgt, unserved
    return float(-loss)
