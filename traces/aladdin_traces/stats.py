"""How bursty a series of arrivals is: the figures by which generators are compared with recorded traces."""

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from aladdin_traces import checks
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError


def index_of_dispersion(arrival_s: FloatArray, window_s: float, horizon_s: float | None = None) -> float:
    """Return variance over mean of the number of arrivals per window; 1 for a Poisson process.

    Args:
        arrival_s: Arrival times in seconds, >= 0, in any order.
        window_s: Length of a window in seconds, > 0; an incomplete last window is left out.
        horizon_s: Seconds observed, > 0; by default the time of the last arrival.

    Raises:
        InputError: Fewer than two whole windows, or no arrival in them.
    """
    window = checks.number("window_s", window_s, above=0.0)
    observed = float(arrival_s[-1]) if horizon_s is None and len(arrival_s) else horizon_s
    horizon = checks.number("horizon_s", observed, above=0.0)
    windows = int(horizon // window)
    if windows < 2:
        raise InputError("window_s", window_s, f"give less than half of the {horizon:g} s observed")
    inside = arrival_s[arrival_s < windows * window]
    # Only windows with arrivals are counted one by one: there may be billions of empty ones.
    _, counts = np.unique(np.floor(inside / window), return_counts=True)
    if len(counts) == 0:
        raise InputError("arrival_s", "no arrival", "give a series with at least one arrival in a whole window")
    mean = float(counts.sum() / windows)
    return float((counts.astype(np.float64) ** 2).sum() / windows / mean - mean)


def gap_cv(arrival_s: FloatArray) -> float:
    """Return standard deviation over mean of the gaps between arrivals; 1 for a Poisson process.

    Args:
        arrival_s: At least two arrival times in seconds, ascending, not all equal.

    Raises:
        InputError: Fewer than two different times.
    """
    gaps = np.diff(arrival_s)
    if len(gaps) == 0 or gaps.sum() <= 0:
        raise InputError("arrival_s", f"{len(arrival_s)} arrivals", "give at least two different times")
    return float(gaps.std() / gaps.mean())


def ks_distance(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples: the largest gap between their distribution functions."""
    first, second = np.sort(np.asarray(one, dtype=np.float64)), np.sort(np.asarray(other, dtype=np.float64))
    at = np.concatenate((first, second))
    below = np.searchsorted(first, at, side="right") / len(first) - np.searchsorted(second, at, side="right") / len(
        second
    )
    return float(np.abs(below).max())


def spearman(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return Spearman's rank correlation of two columns of one length; NaN where one of them is constant."""
    ranks = [pd.Series(np.asarray(column)).rank().to_numpy() for column in (one, other)]
    if any(len(column) < 2 or column[0] == column.min() == column.max() for column in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
