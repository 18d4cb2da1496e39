"""How well a log determines the coefficients: the fit again and again, to other weights and other expectations.

Errors of neighbouring requests go together (they share the engine's steps), so the weights are drawn for whole blocks
of consecutive requests: exponential ones, the Bayesian bootstrap (Rubin 1981). What is known beforehand is drawn anew as
well, from its own spread, so that a direction in which the log says nothing shows that spread and not the illusion of
certainty that a fixed expectation would give (randomised maximum a posteriori).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aladdin_calibration.request_log.objective import Objective
from aladdin_calibration.request_log.parameters import Space
from aladdin_calibration.request_log.search import Point, best_of, local

Array = npt.NDArray[np.float64]

_BLOCKS = 15  # of consecutive requests
_TRIED = 2  # KV rooms from which each replicate starts


def block_weights(counted: npt.NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """Random weights of mean 1, equal within blocks of consecutive requests, 0 for those not counted: shape (n,)."""
    rows = np.flatnonzero(counted)
    drawn_weights = rng.exponential(size=_BLOCKS)
    weights = np.zeros(len(counted))
    weights[rows] = drawn_weights[np.arange(len(rows)) * _BLOCKS // len(rows)]
    return np.asarray(weights / weights[rows].mean(), dtype=np.float64)


def replicates(
    objective: Objective,
    space: Space,
    points: list[Point],
    counted: npt.NDArray[np.bool_],
    count: int,
    rng: np.random.Generator,
) -> list[Point]:
    """``count`` fits, each to its own weights and expectations, beginning at the likeliest of ``points``."""
    found = []
    for _ in range(count):
        weights, centres = block_weights(counted, rng), space.drawn(rng)
        losses = [np.square(objective.errors(p.x, space, p.blocks, weights)).sum() for p in points]
        likely = [points[i] for i in np.argsort(losses, kind="stable")[:_TRIED]]
        found.append(best_of([local(objective, space, p.x, p.blocks, weights, centres) for p in likely]))
    return found
