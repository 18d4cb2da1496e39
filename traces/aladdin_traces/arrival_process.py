"""What every arrival process has in common."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np

from aladdin_traces import checks
from aladdin_traces.columns import FloatArray
from aladdin_traces.point_processes import check_size


class ArrivalProcess(ABC):
    """A law of arrival times. Subclasses are frozen dataclasses of plain numbers."""

    kind: ClassVar[str]
    """Name of the law in a workload's table."""

    @property
    @abstractmethod
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests; the times at which the rate changes stay."""

    @abstractmethod
    def _times(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        """Draw sorted times >= 0; `sample` has checked the horizon and cuts off what lies beyond it."""

    def sample(self, rng: np.random.Generator, horizon_s: float) -> FloatArray:
        """Draw the arrival times in [0, ``horizon_s``), in seconds, ascending; there may be none.

        Raises:
            InputError: ``horizon_s`` is not a finite number > 0, or too many requests would be drawn.
        """
        horizon = checks.number("horizon_s", horizon_s, above=0.0)
        check_size(self.mean_rate_rps * horizon, horizon)
        times = self._times(rng, horizon)
        return times[: np.searchsorted(times, horizon)]

    def with_rate(self, rate_rps: float) -> Self:
        """Return the same law with this long-run mean.

        Raises:
            InputError: ``rate_rps`` is not a number > 0.
        """
        return self.scaled(checks.number("rate_rps", rate_rps, above=0.0) / self.mean_rate_rps)

    def _check(self, name: str, *, above: float = -math.inf, low: float = -math.inf, high: float = math.inf) -> None:
        value = checks.number(name, getattr(self, name), above=above, low=low, high=high)
        object.__setattr__(self, name, value)
