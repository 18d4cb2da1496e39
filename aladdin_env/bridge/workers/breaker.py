"""A circuit breaker: what fails several times in a row is left alone for a while, and longer each time."""

from __future__ import annotations

from typing import Literal

from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.timing import Timing

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"
#: Requests and checks are counted apart: a server whose /health is well may yet fail every request.
Source = Literal["request", "check"]


class Breaker:
    """The breaker of one worker.

    Closed, the worker serves. Open, it is left alone until ``retry_s``. Half-open, a single check is on its way to it;
    if that is answered the breaker closes, but the first request that fails opens it again, until one has succeeded.

    Attributes:
        state: CLOSED, OPEN or HALF_OPEN.
        retry_s: When an open one may be tried again, on the clock; what else it is means nothing.
    """

    def __init__(self, settings: WatchSettings, timing: Timing) -> None:
        self._settings = settings
        self._timing = timing
        self.reset()

    def reset(self) -> None:
        """Closed, and nothing known: another server is here now."""
        self.state = CLOSED
        self.retry_s = 0.0
        self._failures: dict[Source, int] = {"request": 0, "check": 0}
        self._opened = 0  # times in a row
        self._closed_s = self._timing.clock()

    def success(self, source: Source) -> None:
        """A request or a check was answered."""
        if self.state != CLOSED:
            return
        self._failures[source] = 0
        well_s = self._timing.clock() - self._closed_s if self._opened else 0.0
        if source == "request" or well_s > self._settings.max_backoff_s:
            self._opened = 0

    def failure(self, source: Source) -> bool:
        """A request or a check failed; whether that opens it."""
        if self.state != CLOSED:
            return False
        self._failures[source] += 1
        on_trial = source == "request" and self._opened > 0
        if not on_trial and self._failures[source] < self._settings.failures:
            return False
        self.open()
        return True

    def open(self) -> None:
        """Leave the worker alone for a while."""
        settings = self._settings
        backoff_s = min(settings.max_backoff_s, settings.first_backoff_s * 2.0 ** min(self._opened, 60))
        self._opened += 1
        self.state = OPEN
        self.retry_s = self._timing.clock() + self._timing.longer(backoff_s)

    def half_open(self) -> None:
        """The one check is on its way."""
        self.state = HALF_OPEN

    def close(self) -> None:
        """The worker is admitted; one that was left alone before is on trial."""
        self.state = CLOSED
        self._failures = {"request": 0, "check": 0}
        self._closed_s = self._timing.clock()
