"""Laws of requests that change half way, or that are drawn from a recorded trace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from aladdin_traces import RequestLaw, Trace, Workload, merge, thin


@dataclass(frozen=True)
class Shift(RequestLaw):
    """One workload, then another: lengths, rate and classes change at once.

    Attributes:
        before: The first workload.
        after: The second one.
        share: Of the time, which belongs to the first.
    """

    before: Workload
    after: Workload
    share: float = 0.5
    kind: ClassVar[str] = "shift"

    @property
    def mean_rate_rps(self) -> float:
        """Mean over both, requests per second."""
        return self.share * self.before.mean_rate_rps + (1.0 - self.share) * self.after.mean_rate_rps

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        before, after = (one.with_rate(factor * one.mean_rate_rps) for one in (self.before, self.after))
        return replace(self, before=before, after=after)

    def _requests(self, rng: np.random.Generator, horizon_s: float) -> Trace:
        at_s = self.share * horizon_s
        first, second = self.before.sample(rng, at_s), self.after.sample(rng, horizon_s - at_s)
        return merge([first, replace(second, arrival_s=second.arrival_s + at_s)])


@dataclass(frozen=True)
class Recorded(RequestLaw):
    """Requests of a recorded trace, drawn one by one: episodes differ, what the trace has of bursts stays.

    Attributes:
        trace: The recorded requests.
        share: Of them, which are drawn.
        speed: How much faster than recorded.
    """

    trace: Trace
    share: float = 0.5
    speed: float = 1.0
    kind: ClassVar[str] = "recorded"

    @property
    def mean_rate_rps(self) -> float:
        """Mean over the whole trace, requests per second."""
        return self.speed * self.share * self.trace.rate_rps

    def scaled(self, factor: float) -> Self:
        """Return the same law at ``factor`` > 0 times the speed."""
        return replace(self, speed=self.speed * factor)

    def _requests(self, rng: np.random.Generator, horizon_s: float) -> Trace:
        drawn = thin(self.trace, self.share, int(rng.integers(2**32)))
        return drawn.scale_rate(self.speed).window(0.0, horizon_s)
