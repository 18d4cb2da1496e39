"""Means over seeds and their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval (Student t); without an interval the bounds are the mean.

    Attributes:
        mean: Mean over the seeds that have a value; NaN when none has.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2


def estimate(values: Sequence[float], *, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """Mean and 95 % interval of independent ``values``; the interval is cut to what is possible.

    NaN (a run that has no such measure) is left out. One value gives an interval of length 0.
    """
    known = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    if len(known) == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(known.mean())
    if len(known) == 1 or not math.isfinite(mean):
        return Estimate(mean, mean, mean)
    half = student_t(len(known) - 1) * float(known.std(ddof=1)) / math.sqrt(len(known))
    return Estimate(mean, max(least, mean - half), min(most, mean + half))


def student_t(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t."""
    from scipy.special import stdtrit  # takes a while to import, and one seed needs none of it

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))
