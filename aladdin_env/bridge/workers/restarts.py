"""When a worker that crashed is started again: later each time, and not too often."""

from __future__ import annotations

from dataclasses import dataclass

from aladdin_env.bridge.workers.timing import Timing
from aladdin_traces import checks


@dataclass(frozen=True)
class RestartSettings:
    """How a crashed worker is started again. All times in seconds.

    Attributes:
        first_s: Until the first restart; then twice as long each time.
        longest_s: The longest such time.
        most: Most restarts in ``window_s``; the next one waits until one of them is as long ago.
        window_s: After as long, a restart is forgotten.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    most: int = 5
    window_s: float = 600.0

    def __post_init__(self) -> None:
        checks.number("restart first_s", self.first_s, above=0.0)
        checks.number("restart longest_s", self.longest_s, low=self.first_s)
        checks.whole("restarts", self.most, low=1, high=1000)
        checks.number("restart window_s", self.window_s, above=0.0)


class Restarts:
    """The restarts of one worker."""

    def __init__(self, settings: RestartSettings, timing: Timing) -> None:
        self._settings = settings
        self._timing = timing
        self._times: list[float] = []

    def next_in_s(self) -> float:
        """It has crashed just now: seconds until it is to be started again."""
        settings, now_s = self._settings, self._timing.clock()
        self._times = [time_s for time_s in self._times if time_s > now_s - settings.window_s]
        backoff_s = min(settings.longest_s, settings.first_s * 2.0 ** len(self._times))
        at_s = now_s + self._timing.longer(backoff_s)
        if len(self._times) >= settings.most:
            at_s = max(at_s, self._times[-settings.most] + settings.window_s)
        self._times.append(at_s)
        return at_s - now_s
