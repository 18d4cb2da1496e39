"""Arrival processes: when requests come. Every draw takes its randomness from the generator it is given."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.columns import FloatArray
from aladdin_traces.diurnal import Diurnal
from aladdin_traces.point_processes import OnWindows, check_size, gamma_renewal_times, poisson_times

_CV_MAX = 100.0  # beyond it nearly every gamma gap is 0 in float64


@dataclass(frozen=True)
class Poisson(ArrivalProcess):
    """Independent arrivals at a constant rate.

    Attributes:
        rate_rps: Requests per second, > 0.
    """

    rate_rps: float
    kind: ClassVar[str] = "poisson"

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._check("rate_rps", above=0.0)

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return self.rate_rps

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        return dataclasses.replace(self, rate_rps=self.rate_rps * factor)

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        return poisson_times(rng, self.rate_rps, horizon_s)


@dataclass(frozen=True)
class GammaRenewal(ArrivalProcess):
    """Independent gamma-distributed gaps: bursty for CV > 1, regular for CV < 1, Poisson at 1.

    Attributes:
        rate_rps: Requests per second, > 0.
        cv: Standard deviation over mean of the gaps, 0.001 to 100.
    """

    rate_rps: float
    cv: float
    kind: ClassVar[str] = "gamma"

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._check("rate_rps", above=0.0)
        self._check("cv", low=1e-3, high=_CV_MAX)

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return self.rate_rps

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        return dataclasses.replace(self, rate_rps=self.rate_rps * factor)

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        return gamma_renewal_times(rng, self.rate_rps, self.cv, horizon_s)


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
        self._check("on_cv", low=1e-3, high=_CV_MAX)

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


ARRIVALS: dict[str, type[ArrivalProcess]] = {law.kind: law for law in (Poisson, GammaRenewal, OnOff, Diurnal, Flood)}
"""All arrival laws by their name in a workload's table."""
