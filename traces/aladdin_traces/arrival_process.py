"""What every arrival process has in common."""

import math
from abc import abstractmethod
from typing import Self

import numpy as np

from aladdin_traces import checks
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError
from aladdin_traces.point_processes import check_size
from aladdin_traces.rate_law import RateLaw
from aladdin_traces.stats import index_of_dispersion

_SAMPLED_REQUESTS, _SAMPLED_WINDOWS = 500_000, 20_000
_STRETCH_MAX = 1000.0


class ArrivalProcess(RateLaw):
    """A law of arrival times. Subclasses are frozen dataclasses of plain numbers."""

    @abstractmethod
    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        """Draw sorted times >= 0; `sample` has checked the horizon and cuts off what lies beyond it."""

    @abstractmethod
    def _burstier(self, factor: float) -> Self:
        """Return the law with its burstiness turned up (``factor`` > 1) or down, at the same mean rate.

        Parameters stop at the ends of their ranges. The index of dispersion grows with ``factor``.
        """

    def dispersion(self, window_s: float) -> float:
        """Return the index of dispersion: variance over mean of the number of arrivals per window; Poisson has 1.

        Exact where the law has a closed form, else that of a long sample of fixed seed (a few per cent).

        Args:
            window_s: Length of a window in seconds, > 0.

        Raises:
            InputError: ``window_s`` is not a number > 0.
        """
        return self._dispersion(checks.number("window_s", window_s, above=0.0))

    def _dispersion(self, window_s: float) -> float:
        windows = max(200.0, min(_SAMPLED_WINDOWS, _SAMPLED_REQUESTS / (self.mean_rate_rps * window_s)))
        horizon = windows * window_s
        return index_of_dispersion(self.sample(np.random.default_rng(0), horizon), window_s, horizon)

    def with_dispersion(self, index: float, window_s: float) -> Self:
        """Return the law with this index of dispersion at windows of ``window_s`` seconds, at the same mean rate.

        What is turned: the gaps' CV (gamma, weibull), the length of bursts and silences (onoff), the contrast between
        the rates (mmpp, flood), the noise (diurnal).

        Raises:
            InputError: No value of that parameter gives this index; says which can be had.
        """
        from scipy.optimize import brentq  # half a second to import

        window = checks.number("window_s", window_s, above=0.0)
        target = checks.number("index", index, above=0.0)
        ends = [self._burstier(factor)._dispersion(window) for factor in (1 / _STRETCH_MAX, _STRETCH_MAX)]
        if not ends[0] <= target <= ends[1]:
            mend = f"{self.kind} can have {ends[0]:.3g} to {ends[1]:.3g} here; choose one of these or another law"
            raise InputError("index", index, mend)
        if target in ends:
            return self._burstier(1 / _STRETCH_MAX if target == ends[0] else _STRETCH_MAX)
        end = math.log(_STRETCH_MAX)
        found = brentq(lambda log: self._burstier(math.exp(log))._dispersion(window) - target, -end, end, xtol=1e-6)
        return self._burstier(math.exp(found))

    def sample(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        """Draw the arrival times in [0, ``horizon_s``), in seconds, ascending; there may be none.

        Raises:
            InputError: ``horizon_s`` is not a finite number > 0, or too many requests would be drawn.
        """
        horizon = checks.number("horizon_s", horizon_s, above=0.0)
        check_size(self.mean_rate_rps * horizon, horizon)
        times = self._times(rng, horizon)
        return times[: np.searchsorted(times, horizon)]

    def _check(self, name: str, *, above: float = -math.inf, low: float = -math.inf, high: float = math.inf) -> None:
        value = checks.number(name, getattr(self, name), above=above, low=low, high=high)
        object.__setattr__(self, name, value)
