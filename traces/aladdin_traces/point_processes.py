"""Vectorised building blocks of the arrival processes; all times in seconds, all rates in requests per second."""

import math
from collections.abc import Callable
from itertools import accumulate

import numpy as np

from aladdin_traces.checks import REQUESTS_MAX
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError


def check_size(expected: float, horizon_s: float, field: str = "horizon_s") -> None:
    """Refuse a draw that would not fit in memory.

    Raises:
        InputError: More than `REQUESTS_MAX` requests (or rate segments) are expected.
    """
    if expected > REQUESTS_MAX:
        mend = f"it asks for about {expected:.3g} draws; shorten it or lower the rate to stay below {REQUESTS_MAX:.0e}"
        raise InputError(field, horizon_s, mend)


def poisson_times(rng: np.random.Generator, rate: float, span: float) -> FloatArray:
    """Draw a homogeneous Poisson process on [0, span): its count, then its times as sorted uniforms."""
    times = rng.random(rng.poisson(rate * span))
    times.sort()
    times *= span
    return times


def renewal_times(
    rng: np.random.Generator,
    length_biased: float,
    gaps: Callable[[int], FloatArray],
    rate: float,
    cv: float,
    span: float,
) -> FloatArray:
    """Draw a stationary renewal process on [0, span).

    The first arrival follows the law of the residual gap (a uniform part of a length-biased gap), so that the expected
    count is exactly ``rate * span`` from the first second on.

    Args:
        rng: Source of randomness.
        length_biased: A gap drawn from the law whose density is that of the gaps times their length.
        gaps: Draws so many gaps.
        rate: One over the mean gap.
        cv: Standard deviation over mean of the gaps; it only sizes the blocks in which they are drawn.
        span: Seconds.
    """
    last = rng.random() * length_biased
    blocks = [np.array([last])]
    while last < span:
        expected = (span - last) * rate
        block = gaps(math.ceil(expected + 3.0 * cv * math.sqrt(expected)) + 64)
        block[0] += last
        np.cumsum(block, out=block)
        blocks.append(block)
        last = float(block[-1])
    times = np.concatenate(blocks)
    return times[: np.searchsorted(times, span)]


class OnWindows:
    """The ON windows of a two-state process within [0, span), and the clock that runs only inside them."""

    def __init__(self, rng: np.random.Generator, on_mean: float, off_mean: float, span: float) -> None:
        """Draw alternating exponential ON and OFF times, started in equilibrium."""
        starts_on = rng.random() < on_mean / (on_mean + off_mean)
        begin = 0.0 if starts_on else rng.exponential(off_mean)
        starts, lengths = [], []
        while begin < span:
            count = math.ceil((span - begin) / (on_mean + off_mean) * 1.2) + 16
            on = rng.exponential(on_mean, count)
            cycle_ends = begin + np.cumsum(on + rng.exponential(off_mean, count))
            starts.append(np.concatenate(([begin], cycle_ends[:-1])))
            lengths.append(on)
            begin = float(cycle_ends[-1])
        start = np.concatenate([np.empty(0), *starts])
        inside = start < span
        self._starts = start[inside]
        self._lengths = np.minimum(np.concatenate([np.empty(0), *lengths])[inside], span - self._starts)
        self._ends_on_clock = np.cumsum(self._lengths)

    @property
    def total(self) -> float:
        """Seconds spent ON."""
        return float(self._ends_on_clock[-1]) if len(self._ends_on_clock) else 0.0

    def to_time(self, clock: FloatArray) -> FloatArray:
        """Turn ascending readings of the ON clock, each in [0, total), into times."""
        # Rounding may leave a reading at the very end of the last window.
        window = np.minimum(np.searchsorted(self._ends_on_clock, clock, side="right"), len(self._starts) - 1)
        lengths: FloatArray = self._lengths[window]
        into_window = clock - (self._ends_on_clock[window] - lengths)
        times: FloatArray = self._starts[window] + np.clip(into_window, 0.0, lengths)
        return times


def piecewise_linear_times(
    rng: np.random.Generator, edges: FloatArray, left: FloatArray, right: FloatArray
) -> FloatArray:
    """Draw an inhomogeneous Poisson process whose rate is linear on each segment.

    Args:
        rng: Source of randomness.
        edges: Ascending times, n + 1 of them.
        left: Rate at the start of each of the n segments, >= 0.
        right: Rate at the end of each segment, >= 0.
    """
    lengths = np.diff(edges)
    counts = rng.poisson(0.5 * (left + right) * lengths)
    # 1 - random() is never 0, so nothing is divided by 0 even where the rate starts from 0.
    part = _part_of_segment(np.repeat(left, counts), np.repeat(right, counts), 1.0 - rng.random(int(counts.sum())))
    times = np.repeat(edges[:-1], counts) + part * np.repeat(lengths, counts)
    times.sort()
    return times[: np.searchsorted(times, edges[-1])]


def warped_times(
    edges: FloatArray, left: FloatArray, right: FloatArray, draw: Callable[[float], FloatArray]
) -> FloatArray:
    """Draw a process whose clock runs at the speed of a rate that is linear on each segment.

    Args:
        edges: Ascending times, n + 1 of them.
        left: Rate at the start of each of the n segments, >= 0.
        right: Rate at the end of each segment, >= 0.
        draw: Draws ascending times of a process of rate 1 on [0, span).
    """
    lengths = np.diff(edges)
    expected = 0.5 * (left + right) * lengths
    ends = np.cumsum(expected)
    clock = draw(float(ends[-1])) if ends[-1] > 0 else np.empty(0)
    segment = np.minimum(np.searchsorted(ends, clock, side="right"), len(ends) - 1)
    inside = clock - (ends[segment] - expected[segment])
    share = np.clip(inside / np.maximum(expected[segment], np.finfo(np.float64).tiny), np.finfo(np.float64).tiny, 1.0)
    times: FloatArray = edges[segment] + _part_of_segment(left[segment], right[segment], share) * lengths[segment]
    return times


def _part_of_segment(left: FloatArray, right: FloatArray, share: FloatArray) -> FloatArray:
    """Return where, in [0, 1], a rate that runs from ``left`` to ``right`` has made ``share`` > 0 of its arrivals."""
    # Inverse of the cumulative rate, in the form that does not cancel when left = right.
    part: FloatArray = share * (left + right) / (left + np.sqrt(left * left + (right * right - left * left) * share))
    return part


def lognormal_ar1(rng: np.random.Generator, steps: int, sd: float, acf: float) -> FloatArray:
    """Draw ``steps`` positive factors of mean 1 whose logarithms are a stationary AR(1).

    Args:
        rng: Source of randomness.
        steps: Number of factors.
        sd: Standard deviation of the logarithm, >= 0.
        acf: Correlation of neighbouring logarithms, in [0, 1).
    """
    shocks = rng.normal(0.0, sd, steps)
    shocks[1:] *= math.sqrt(1.0 - acf**2)
    logs = np.fromiter(accumulate(shocks.tolist(), lambda log, shock: acf * log + shock), np.float64, steps)
    return np.exp(logs - 0.5 * sd**2)
