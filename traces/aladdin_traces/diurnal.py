"""Arrivals that follow the hour of the day."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from aladdin_traces import checks
from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError, suggest
from aladdin_traces.point_processes import check_size, lognormal_ar1, piecewise_linear_times, warped_times
from aladdin_traces.renewals import CV_MAX, CV_MIN, GammaRenewal, gamma_renewal_times

# Mean requests per second by hour of a working day, UTC 0 to 23: Azure LLM inference trace 2024 (CC-BY 4.0). Only the
# shape is used.
PROFILES: dict[str, tuple[float, ...]] = {
    "azure-conv-weekday": (
        *(45.84, 50.05, 49.15, 40.8, 41.35, 45.0, 51.84, 55.91, 57.15, 55.61, 50.18, 52.98),
        *(59.34, 65.59, 68.87, 64.06, 58.22, 55.84, 55.62, 52.16, 47.42, 39.66, 35.7, 37.23),
    ),
    "azure-code-weekday": (
        *(24.24, 23.53, 22.08, 18.02, 14.49, 11.83, 10.24, 8.68, 8.06, 8.39, 9.02, 13.24),
        *(24.11, 41.0, 57.98, 62.42, 59.19, 68.24, 75.09, 76.62, 70.9, 52.37, 37.78, 28.43),
    ),
}
"""Named profiles of `Diurnal`."""

_NOISE_STEPS_PER_PERIOD = 144  # ten minutes of a day
_SPIKE_LOW, _SPIKE_HIGH = 1.5, 3.0
_DAYS, _WORKING_DAYS = 7, 5


@dataclass(frozen=True)
class Diurnal(ArrivalProcess):
    """A day: arrivals at a rate that follows the hour and drifts around it; Poisson unless ``cv`` says otherwise.

    The rate is ``mean_rps`` times the profile (scaled to mean 1, linear between the middles of its hours, periodic)
    times a noise factor of mean 1, constant over a 144th of the period (10 minutes of a day), whose logarithm is an
    AR(1). With the default noise the logarithm moves by 0.15 (standard deviation) from step to step; clients of the
    ServeGen study move by 0.11 to 0.22, with an autocorrelation of 0.83 to 0.92. A spike multiplies the rate of one
    such step by 1.5 to 3.

    Attributes:
        mean_rps: Mean requests per second over a period, > 0.
        profile: A name in `PROFILES`, or at least two numbers >= 0, one per equal part of the period.
        noise_sd: Standard deviation of the logarithm of the noise, 0 to 2; 0 switches it off.
        noise_acf: Autocorrelation of that logarithm from step to step, 0 to 0.9999.
        start_s: Where in the period time 0 lies, seconds, >= 0.
        period_s: Length of the day in seconds, > 0; a smaller one compresses the day, noise included.
        cv: Standard deviation over mean of the gaps at a constant rate, 0.001 to 100: gamma gaps whose clock runs at
            the speed of the rate; 1 gives Poisson arrivals.
        weekend: Rate on the sixth and seventh of every seven days over that of the others, 0 to 1; the Azure traces of
            2024 have 0.57 (conv) and 0.32 (code).
        spike_share: Share of the noise steps that are spikes, 0 to 1.
    """

    mean_rps: float
    profile: str | tuple[float, ...] = "azure-conv-weekday"
    noise_sd: float = 0.3
    noise_acf: float = 0.88
    start_s: float = 0.0
    period_s: float = 86400.0
    cv: float = 1.0
    weekend: float = 1.0
    spike_share: float = 0.0
    kind: ClassVar[str] = "diurnal"

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._check("mean_rps", above=0.0)
        self._check("noise_sd", low=0.0, high=2.0)
        self._check("noise_acf", low=0.0, high=0.9999)
        self._check("start_s", low=0.0)
        self._check("period_s", above=0.0)
        self._check("cv", low=CV_MIN, high=CV_MAX)
        self._check("weekend", low=0.0, high=1.0)
        self._check("spike_share", low=0.0, high=1.0)
        if isinstance(self.profile, str):
            if self.profile not in PROFILES:
                raise InputError("profile", self.profile, suggest(self.profile, PROFILES))
            return
        profile = checks.numbers("profile", self.profile, low=0.0)
        if len(profile) < 2 or not 0.0 < sum(profile) < math.inf:
            raise InputError("profile", self.profile, "give at least two numbers, not all 0")
        object.__setattr__(self, "profile", profile)

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return self.mean_rps

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        return dataclasses.replace(self, mean_rps=self.mean_rps * factor)

    def rate_rps(self, t_s: FloatArray) -> FloatArray:
        """Return the rate without noise at times ``t_s`` (seconds), requests per second."""
        return self._of_hour(t_s) * self._of_day(t_s)

    def _of_hour(self, t_s: FloatArray) -> FloatArray:
        hours = self._hours
        middles = (np.arange(len(hours)) + 0.5) * (self.period_s / len(hours))
        of_day = (t_s + self.start_s) % self.period_s
        relative: FloatArray = np.interp(of_day, middles, hours / hours.mean(), period=self.period_s)
        return self.mean_rps * relative

    def _of_day(self, t_s: FloatArray) -> FloatArray:
        day = np.floor((t_s + self.start_s) / self.period_s) % _DAYS
        mean = (_WORKING_DAYS + (_DAYS - _WORKING_DAYS) * self.weekend) / _DAYS
        return np.where(day < _WORKING_DAYS, 1.0, self.weekend) / mean

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        step = self.period_s / _NOISE_STEPS_PER_PERIOD
        check_size(horizon_s / self.period_s * (_NOISE_STEPS_PER_PERIOD + len(self._hours)), horizon_s)
        edges = self._edges(horizon_s, step)
        noise = self._noise(rng, math.ceil(horizon_s / step) + 1)
        middles = 0.5 * (edges[:-1] + edges[1:])
        factor = noise[(middles / step).astype(np.int64)] * self._of_day(middles)
        rate = self._of_hour(edges)
        left, right = rate[:-1] * factor, rate[1:] * factor
        if self.cv == 1.0:
            return piecewise_linear_times(rng, edges, left, right)
        return warped_times(edges, left, right, lambda span: gamma_renewal_times(rng, 1.0, self.cv, span))

    def _noise(self, rng: np.random.Generator, steps: int) -> FloatArray:
        noise = lognormal_ar1(rng, steps, self.noise_sd, self.noise_acf)
        if self.spike_share == 0.0:
            return noise
        spikes = np.where(rng.random(steps) < self.spike_share, rng.uniform(_SPIKE_LOW, _SPIKE_HIGH, steps), 1.0)
        return noise * spikes / (1.0 + self.spike_share * (0.5 * (_SPIKE_LOW + _SPIKE_HIGH) - 1.0))

    def _dispersion(self, window_s: float) -> float:
        """Take the variance of the rate as that of its values at one time: windows are short beside a noise step."""
        hours = self._hours / self._hours.mean()
        days = (_WORKING_DAYS + (_DAYS - _WORKING_DAYS) * self.weekend) / _DAYS
        day_square = (_WORKING_DAYS + (_DAYS - _WORKING_DAYS) * self.weekend**2) / _DAYS / days**2
        a, b = hours, np.roll(hours, -1)
        square = float(((a * a + a * b + b * b) / 3.0).mean()) * math.exp(self.noise_sd**2) * day_square
        spike = 0.5 * (_SPIKE_LOW + _SPIKE_HIGH)
        spike_square = (_SPIKE_LOW**2 + _SPIKE_LOW * _SPIKE_HIGH + _SPIKE_HIGH**2) / 3.0
        square *= (1.0 + self.spike_share * (spike_square - 1.0)) / (1.0 + self.spike_share * (spike - 1.0)) ** 2
        gaps = 1.0 if self.cv == 1.0 else GammaRenewal(self.mean_rps, self.cv).dispersion(window_s)
        return gaps + self.mean_rps * window_s * (square - 1.0)

    def _burstier(self, factor: float) -> Self:
        return dataclasses.replace(self, noise_sd=min(max(self.noise_sd, 1e-2) * factor, 2.0))

    @property
    def _hours(self) -> FloatArray:
        return np.asarray(PROFILES[self.profile] if isinstance(self.profile, str) else self.profile)

    def _edges(self, horizon_s: float, step: float) -> FloatArray:
        """Return the times in [0, horizon] at which the noise jumps or the profile bends, ends included."""
        hour = self.period_s / len(self._hours)
        first_bend = (0.5 * hour - self.start_s) % hour
        jumps = np.arange(1, math.ceil(horizon_s / step)) * step
        bends = np.arange(first_bend, horizon_s, hour)
        days = np.arange(-self.start_s % self.period_s, horizon_s if self.weekend < 1.0 else 0.0, self.period_s)
        inner = np.unique(np.concatenate((jumps, bends, days)))
        return np.concatenate(([0.0], inner[(inner > 0.0) & (inner < horizon_s)], [horizon_s]))
