"""Arrivals whose rate jumps at random times between a few values."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from aladdin_traces import checks
from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError
from aladdin_traces.point_processes import OnWindows, check_size, piecewise_linear_times, poisson_times
from aladdin_traces.renewals import CV_MAX, CV_MIN, GammaRenewal, gamma_renewal_times

_CONTRAST_MAX = 1e12  # between the highest and the lowest rate
_GRID, _DRAWN_WINDOWS, _LONG = 65, 4000, 200.0


@dataclass(frozen=True)
class OnOff(ArrivalProcess):
    """Bursts between silences: exponential ON and OFF times, gamma gaps inside ON.

    The gaps are drawn on a clock that runs only while ON, so a gap may span a silence. The defaults are those of the
    Azure 2023 code trace.

    Attributes:
        on_mean_s: Mean length of a burst in seconds, > 0.
        off_mean_s: Mean length of a silence in seconds, > 0.
        on_rate_rps: Requests per second within a burst, > 0.
        on_cv: Standard deviation over mean of the gaps within a burst, 0.001 to 100.
    """

    on_mean_s: float = 23.0
    off_mean_s: float = 52.8
    on_rate_rps: float = 8.3
    on_cv: float = 3.0
    kind: ClassVar[str] = "onoff"

    def __post_init__(self) -> None:
        """Check the parameters."""
        for name in ("on_mean_s", "off_mean_s", "on_rate_rps"):
            self._check(name, above=0.0)
        self._check("on_cv", low=CV_MIN, high=CV_MAX)

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return self.on_rate_rps * self.on_mean_s / (self.on_mean_s + self.off_mean_s)

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        return dataclasses.replace(self, on_rate_rps=self.on_rate_rps * factor)

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        check_size(horizon_s / (self.on_mean_s + self.off_mean_s), horizon_s)
        windows = OnWindows(rng, self.on_mean_s, self.off_mean_s, horizon_s)
        if windows.total == 0.0:
            return np.empty(0)
        return windows.to_time(gamma_renewal_times(rng, self.on_rate_rps, self.on_cv, windows.total))

    def _dispersion(self, window_s: float) -> float:
        # The ON time of a window and the renewal process on the ON clock are independent, so the variance is that of
        # Poisson arrivals with the same bursts, plus what the gaps add over an ON time.
        bursts = modulated_dispersion((self.on_rate_rps, 0.0), (self.on_mean_s, self.off_mean_s), window_s)
        if self.on_cv == 1.0:
            return bursts
        gaps = GammaRenewal(self.on_rate_rps, self.on_cv)
        on, weights = _on_times(self.on_mean_s, self.off_mean_s, window_s)
        grid = np.linspace(0.0, window_s, _GRID)
        per_second = np.array([0.0, *(span * gaps.dispersion(span) for span in grid[1:].tolist())])
        return bursts - 1.0 + float(weights @ np.interp(on, grid, per_second) / (weights @ on))

    def _burstier(self, factor: float) -> Self:
        return dataclasses.replace(self, on_mean_s=self.on_mean_s * factor, off_mean_s=self.off_mean_s * factor)


@dataclass(frozen=True)
class Flood(ArrivalProcess):
    """A quiet Poisson stream that jumps to a much higher rate at random times (as BurstGPT's days do, 10 to 30 times).

    Quiet times and floods are exponentially distributed, and the process starts in equilibrium.

    Attributes:
        base_rps: Requests per second between floods, > 0.
        flood_rps: Requests per second in a flood, > ``base_rps``.
        every_s: Mean time from the start of a flood to the start of the next, seconds, > ``lasts_s``.
        lasts_s: Mean length of a flood in seconds, > 0.
    """

    base_rps: float
    flood_rps: float
    every_s: float
    lasts_s: float
    kind: ClassVar[str] = "flood"

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._check("base_rps", above=0.0)
        self._check("flood_rps", above=self.base_rps)
        self._check("lasts_s", above=0.0)
        self._check("every_s", above=self.lasts_s)

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return self.base_rps + (self.flood_rps - self.base_rps) * self.lasts_s / self.every_s

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        return dataclasses.replace(self, base_rps=self.base_rps * factor, flood_rps=self.flood_rps * factor)

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        check_size(horizon_s / self.every_s, horizon_s)
        floods = OnWindows(rng, self.lasts_s, self.every_s - self.lasts_s, horizon_s)
        base = poisson_times(rng, self.base_rps, horizon_s)
        extra = poisson_times(rng, self.flood_rps - self.base_rps, floods.total)
        both = np.concatenate((base, floods.to_time(extra))) if len(extra) else base
        both.sort()
        return both

    def _dispersion(self, window_s: float) -> float:
        means = (self.every_s - self.lasts_s, self.lasts_s)
        return modulated_dispersion((self.base_rps, self.flood_rps), means, window_s)

    def _burstier(self, factor: float) -> Self:
        share = self.lasts_s / self.every_s
        base, flood = contrasted((self.base_rps, self.flood_rps), (1.0 - share, share), factor)
        return dataclasses.replace(self, base_rps=base, flood_rps=flood)


@dataclass(frozen=True)
class Mmpp(ArrivalProcess):
    """A Markov-modulated Poisson process: Poisson arrivals at a rate that jumps between a few states.

    A state lasts an exponential time; the next is any other one, with equal chances. The process starts in
    equilibrium. Two states give the MMPP-2, states of very different lengths give bursts within bursts.

    Attributes:
        rates_rps: Requests per second in each of at least two states, >= 0, not all 0.
        means_s: Mean time that each state lasts, seconds, > 0.
    """

    rates_rps: tuple[float, ...]
    means_s: tuple[float, ...]
    kind: ClassVar[str] = "mmpp"

    def __post_init__(self) -> None:
        """Check the parameters."""
        object.__setattr__(self, "rates_rps", checks.numbers("rates_rps", self.rates_rps, low=0.0))
        object.__setattr__(self, "means_s", checks.numbers("means_s", self.means_s, above=0.0))
        checks.same_length("means_s", self.means_s, "rates_rps", self.rates_rps)
        if len(self.rates_rps) < 2 or not 0.0 < sum(self.rates_rps) < math.inf:
            raise InputError("rates_rps", self.rates_rps, "give at least two rates, not all 0")

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the time that is spent in each state."""
        return tuple(mean / sum(self.means_s) for mean in self.means_s)

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return math.fsum(rate * share for rate, share in zip(self.rates_rps, self.shares, strict=True))

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        return dataclasses.replace(self, rates_rps=tuple(rate * factor for rate in self.rates_rps))

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        mean = sum(self.means_s) / len(self.means_s)
        check_size(horizon_s / mean, horizon_s)
        states, lengths = [], []
        state, passed = int(rng.choice(len(self.means_s), p=self.shares)), 0.0
        while passed < horizon_s:
            count = math.ceil((horizon_s - passed) / mean * 1.2) + 16
            steps = rng.integers(1, len(self.means_s), count)
            block = (state + np.concatenate(([0], np.cumsum(steps)))) % len(self.means_s)
            states.append(block[:-1])
            lengths.append(rng.exponential(np.asarray(self.means_s)[block[:-1]]))
            state, passed = int(block[-1]), passed + float(lengths[-1].sum())
        edges = np.concatenate(([0.0], np.cumsum(np.concatenate(lengths))))
        last = int(np.searchsorted(edges, horizon_s))
        edges = np.append(edges[:last], horizon_s)
        rate = np.asarray(self.rates_rps)[np.concatenate(states)[:last]]
        return piecewise_linear_times(rng, edges, rate, rate)

    def _dispersion(self, window_s: float) -> float:
        return modulated_dispersion(self.rates_rps, self.means_s, window_s)

    def _burstier(self, factor: float) -> Self:
        return dataclasses.replace(self, rates_rps=contrasted(self.rates_rps, self.shares, factor))


def modulated_dispersion(rates: Sequence[float], means: Sequence[float], window_s: float) -> float:
    """Return the index of dispersion of a Markov-modulated Poisson process with equal chances of the next state.

    The covariance of the rate is a sum of exponentials whose exponents are the eigenvalues of the generator; integrated
    twice it gives the variance of the counts (for two states: Fischer and Meier-Hellstern, Performance Evaluation 18,
    1993).

    Args:
        rates: Requests per second in each state.
        means: Mean seconds that each state lasts.
        window_s: Length of a window in seconds.
    """
    rate, mean = np.asarray(rates, dtype=np.float64), np.asarray(means, dtype=np.float64)
    share = mean / mean.sum()
    generator = (1.0 - np.eye(len(mean))) / (mean[:, None] * (len(mean) - 1)) - np.diag(1.0 / mean)
    root = np.sqrt(share)
    # share[i] * generator[i, j] is symmetric, so this similar matrix is too, and its eigenvalues are real.
    values, vectors = np.linalg.eigh(root[:, None] * generator / root)
    weights = (vectors.T @ (root * rate)) ** 2
    order = np.argsort(-values)[1:]  # without the eigenvalue 0, which stands for the mean
    decay, weights = -values[order] * window_s, weights[order]
    excess = 2.0 * window_s * (weights * (decay + np.expm1(-decay)) / decay**2).sum()
    return float(1.0 + excess / (share @ rate))


def contrasted(rates: Sequence[float], shares: Sequence[float], power: float) -> tuple[float, ...]:
    """Return the rates raised to ``power`` and scaled back to their mean; their ratio stays below a trillion."""
    rate, share = np.asarray(rates), np.asarray(shares)
    with np.errstate(divide="ignore"):
        logs = power * np.log(rate / rate.max())
    raised = np.where(rate > 0, np.exp(np.maximum(logs, -math.log(_CONTRAST_MAX))), 0.0)
    return tuple((raised * ((share @ rate) / (share @ raised))).tolist())


def _on_times(on_mean: float, off_mean: float, window_s: float) -> tuple[FloatArray, FloatArray]:
    """Draw ON times of windows, from a fixed seed, and their weights; half of the windows start ON, for precision."""
    duty = on_mean / (on_mean + off_mean)
    if window_s > _LONG * (on_mean + off_mean):  # the law of large numbers
        return np.array([duty * window_s]), np.ones(1)
    rng = np.random.default_rng(0)
    is_on = np.arange(_DRAWN_WINDOWS) % 2 == 0
    weights = np.where(is_on, duty, 1.0 - duty)
    passed, on = np.zeros(_DRAWN_WINDOWS), np.zeros(_DRAWN_WINDOWS)
    while (passed < window_s).any():
        stay = np.minimum(rng.exponential(np.where(is_on, on_mean, off_mean)), window_s - passed)
        on += np.where(is_on, stay, 0.0)
        passed = passed + stay
        is_on = ~is_on
    return on, weights
