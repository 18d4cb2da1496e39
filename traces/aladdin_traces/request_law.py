"""Laws of whole requests: those whose times, lengths and prefixes cannot be drawn apart from each other."""

from abc import abstractmethod

import numpy as np

from aladdin_traces import checks
from aladdin_traces.point_processes import check_size
from aladdin_traces.rate_law import RateLaw
from aladdin_traces.trace import Trace


class RequestLaw(RateLaw):
    """A law of requests. Subclasses are frozen dataclasses."""

    @abstractmethod
    def _requests(self, rng: np.random.Generator, horizon_s: float) -> Trace:
        """Draw the requests in [0, ``horizon_s``), which `sample` has checked."""

    def sample(self, rng: np.random.Generator, horizon_s: float) -> Trace:
        """Draw the requests that arrive in [0, ``horizon_s``); there may be none.

        Raises:
            InputError: ``horizon_s`` is not a finite number > 0, or too many requests would be drawn.
        """
        horizon = checks.number("horizon_s", horizon_s, above=0.0)
        check_size(self.mean_rate_rps * horizon, horizon)
        return self._requests(rng, horizon)
