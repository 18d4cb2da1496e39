"""How closely workers are watched."""

from __future__ import annotations

from dataclasses import dataclass

from aladdin_traces import checks


@dataclass(frozen=True)
class WatchSettings:
    """How often a worker is looked at and what counts as failing. All times in seconds.

    Attributes:
        scrape_s: Shortest time between two looks at a worker's metrics, 1 or more.
        scrape_timeout_s: Longest wait for them.
        stale_s: Metrics older than this are stale.
        health_s: Shortest time between two health checks of a worker that is well; after a failed one it is a fifth.
        health_timeout_s: Longest wait for the answer to one.
        failures: So many failures in a row (of requests, or of checks) and a worker is taken out of service.
        first_backoff_s: Until it is tried again for the first time; then twice as long each time.
        max_backoff_s: The longest such time. A worker that is well for as long is trusted again.
    """

    scrape_s: float = 1.0
    scrape_timeout_s: float = 2.0
    stale_s: float = 5.0
    health_s: float = 5.0
    health_timeout_s: float = 5.0
    failures: int = 3
    first_backoff_s: float = 1.0
    max_backoff_s: float = 30.0

    def __post_init__(self) -> None:
        checks.number("scrape_s", self.scrape_s, low=1.0)
        for name in ("scrape_timeout_s", "stale_s", "health_s", "health_timeout_s", "first_backoff_s"):
            checks.number(name, getattr(self, name), above=0.0)
        checks.whole("failures", self.failures, low=1, high=1000)
        checks.number("max_backoff_s", self.max_backoff_s, low=self.first_backoff_s)


USUAL = WatchSettings()
