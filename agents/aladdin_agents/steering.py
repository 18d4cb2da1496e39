"""How a learned policy steers the Aladdin scaler: factors on what it plans with, chosen by the situation (ours).

The sizing formulas say what a fleet serves, whatever the requests' lengths, objectives and workers are. What they
leave open is how far to trust a forecast, how long to fear a surprise, and how soon to let go of workers. A steer
answers these at every heartbeat; as published all factors are 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LIMIT = 3.0

#: Settings of the placement that are steered, too: shares, and then others.
SHARES = ("theta", "gamma", "hold_share", "affinity")
LEARNED = (*SHARES, "fresh_ahead", "rebalance", "shed")
#: Numbers that say how much room the objectives leave, see :func:`aladdin_agents.learned.steered.objectives`.
OBJECTIVES = 3


class Steering(NamedTuple):
    """Factors above 0 for one heartbeat.

    Attributes:
        forecast: On the rate to be ready for, when workers are started.
        remembered: On the level of remembered surprises.
        release: On the rate to be ready for, when workers are stopped.
        patience: On the time for which a smaller fleet must have been enough before workers are stopped; at most 2.
    """

    forecast: float = 1.0
    remembered: float = 1.0
    release: float = 1.0
    patience: float = 1.0


class Situation(NamedTuple):
    """What a steer sees: numbers without units, mostly between -1 and 1, so that it carries over to other clusters.

    Attributes:
        filled: log of the forecast over what the fleet serves.
        growing: log of the forecast over the rate of the window.
        remembered: The level of surprises over the forecast, less one half.
        misses: log10 of the misses of the window over the allowed share (a tenth more, against nothing).
        past_misses: The same over three windows.
        margin: rho less 0.85, in tenths.
        arrivals: log10 of the arrivals of the window, less 2.5; within +-1, so that a larger cluster than any that was
            trained on looks like a large one.
        workers: log of the workers that serve or are to come, less 2; within +-1.
        cold_start: log of the longest cold start (at least a second) over a minute.
        prompts: Mean square of the prompts over their squared mean, over 3, less 1.
        batch: log of the largest batch that the formulas allow on a worker, less 3.5.
        queue: Requests that wait over those that run, times 3.
        failed: Workers that are FAILED.
    """

    filled: float
    growing: float
    remembered: float
    misses: float
    past_misses: float
    margin: float
    arrivals: float
    workers: float
    cold_start: float
    prompts: float
    batch: float
    queue: float
    failed: float

    def features(self) -> NDArray[np.float64]:
        """As an array, clipped to [-3, 3]."""
        return np.clip(np.array(self, dtype=np.float64), -_LIMIT, _LIMIT)


#: Chooses the factors of a heartbeat.
Steer = Callable[[Situation], Steering]
