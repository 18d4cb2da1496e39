"""Arrivals whose gaps are independent of each other."""

import dataclasses
import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

import numpy as np
from scipy import special

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError
from aladdin_traces.point_processes import poisson_times, renewal_times

CV_MIN, CV_MAX = 1e-3, 100.0
"""Range of the gaps' coefficient of variation; beyond it nearly every gamma gap is 0 in float64."""

_TERMS_MAX, _LONG_WINDOW = 5_000_000, 10_000.0


@dataclass(frozen=True)
class _Stationary(ArrivalProcess):
    """Arrivals at one mean rate."""

    rate_rps: float

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return self.rate_rps

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        return dataclasses.replace(self, rate_rps=self.rate_rps * factor)


@dataclass(frozen=True)
class Poisson(_Stationary):
    """Independent arrivals at a constant rate.

    Attributes:
        rate_rps: Requests per second, > 0.
    """

    kind: ClassVar[str] = "poisson"

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._check("rate_rps", above=0.0)

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        return poisson_times(rng, self.rate_rps, horizon_s)

    def _dispersion(self, window_s: float) -> float:
        return 1.0

    def _burstier(self, factor: float) -> Self:
        raise InputError("kind", self.kind, "it always has the index of dispersion 1; choose gamma, weibull or mmpp")


@dataclass(frozen=True)
class _BurstyRenewal(_Stationary):
    """Independent gaps of one law with a free coefficient of variation."""

    cv: float

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._check("rate_rps", above=0.0)
        self._check("cv", low=CV_MIN, high=CV_MAX)

    def _burstier(self, factor: float) -> Self:
        return dataclasses.replace(self, cv=min(max(self.cv * factor, CV_MIN), CV_MAX))


@dataclass(frozen=True)
class GammaRenewal(_BurstyRenewal):
    """Independent gamma-distributed gaps: bursty for CV > 1, regular for CV < 1, Poisson at 1.

    Attributes:
        rate_rps: Requests per second, > 0.
        cv: Standard deviation over mean of the gaps, 0.001 to 100; the law's shape is 1 / cv**2.
    """

    kind: ClassVar[str] = "gamma"

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        return gamma_renewal_times(rng, self.rate_rps, self.cv, horizon_s)

    def _dispersion(self, window_s: float) -> float:
        # Var N(t) = λt + 2λ ∫ (M(u) - λu) du over [0, t] for a stationary renewal process (Cox, Renewal Theory, 1962,
        # 4.5), where the renewal function M sums the laws of the k-th arrival, Gamma(k shape).
        shape = self.cv**-2
        scaled = self.rate_rps * shape * window_s
        terms = (scaled + 10.0 * math.sqrt(scaled) + 40.0) / shape
        if terms > _TERMS_MAX:
            return self.cv**2  # the limit at long windows
        k = np.arange(1, math.ceil(terms) + 1) * shape
        integral = special.gammainc(k, scaled) - k / scaled * special.gammainc(k + 1.0, scaled)
        return float(1.0 + 2.0 * integral.sum() - self.rate_rps * window_s)


@dataclass(frozen=True)
class WeibullRenewal(_BurstyRenewal):
    """Independent Weibull-distributed gaps: a heavier tail than gamma at the same CV > 1.

    Attributes:
        rate_rps: Requests per second, > 0.
        cv: Standard deviation over mean of the gaps, 0.001 to 100.
    """

    kind: ClassVar[str] = "weibull"

    @property
    def shape(self) -> float:
        """Shape of the Weibull law that has this CV."""
        return weibull_shape(self.cv)

    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        return weibull_renewal_times(rng, self.rate_rps, self.cv, horizon_s)

    def _dispersion(self, window_s: float) -> float:
        # There is no closed form; beyond so many arrivals in a window, take the limit at long windows.
        is_long = self.rate_rps * window_s > _LONG_WINDOW
        return self.cv**2 if is_long else super()._dispersion(window_s)


def gamma_renewal_times(rng: np.random.Generator, rate: float, cv: float, span: float) -> FloatArray:
    """Draw a stationary renewal process on [0, span) with gamma gaps of mean 1/rate and CV ``cv``."""
    shape = cv**-2
    scale = 1.0 / (rate * shape)
    length_biased = rng.gamma(shape + 1.0, scale)
    return renewal_times(rng, length_biased, lambda count: rng.gamma(shape, scale, count), rate, cv, span)


def weibull_renewal_times(rng: np.random.Generator, rate: float, cv: float, span: float) -> FloatArray:
    """Draw a stationary renewal process on [0, span) with Weibull gaps of mean 1/rate and CV ``cv``."""
    power = 1.0 / weibull_shape(cv)
    scale = 1.0 / (rate * special.gamma(1.0 + power))

    def gaps(count: int) -> FloatArray:
        drawn = rng.standard_exponential(count)
        np.power(drawn, power, out=drawn)
        drawn *= scale
        return drawn

    length_biased = scale * rng.gamma(1.0 + power) ** power
    return renewal_times(rng, length_biased, gaps, rate, cv, span)


@cache
def weibull_shape(cv: float) -> float:
    """Return the shape of the Weibull law with this coefficient of variation, 0.001 to 100."""
    from scipy.optimize import brentq  # half a second to import

    def excess(log_shape: float) -> float:
        inverse = math.exp(-log_shape)
        log_ratio = special.gammaln(1.0 + 2.0 * inverse) - 2.0 * special.gammaln(1.0 + inverse)
        return float(log_ratio - math.log1p(cv * cv))

    return math.exp(brentq(excess, math.log(0.05), math.log(1e4), xtol=1e-12))
