"""What every law with a mean rate has in common, be it of arrival times or of whole requests."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from aladdin_traces import checks


class RateLaw(ABC):
    """A law that can be drawn at any mean rate. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]
    """Name of the law in a workload's table."""

    @property
    @abstractmethod
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests; the times at which the rate changes stay."""

    def with_rate(self, rate_rps: float) -> Self:
        """Return the same law with this long-run mean.

        Raises:
            InputError: ``rate_rps`` is not a number > 0.
        """
        return self.scaled(checks.number("rate_rps", rate_rps, above=0.0) / self.mean_rate_rps)
