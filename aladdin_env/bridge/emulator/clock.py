"""Time as the emulated worker sees it, which a test may replace."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """It is not."""


class Clock(Protocol):
    """Seconds, and calls at a time to come."""

    def now_s(self) -> float:
        """Seconds since some instant; never less than before."""

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``when_s`` or a little later; soon if that has passed."""


@dataclass(order=True)
class _Call:
    when_s: float
    number: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True

    def run(self) -> None:
        if not self.cancelled:
            self.callback()


class LoopClock:
    """Seconds since it was made; the calls happen in the event loop that runs then.

    A loop's own timers count whole milliseconds, which is too coarse for steps of a few. A thread waits for ours; they
    come about a tenth of that late.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._start_s = time.perf_counter()
        self._calls: list[_Call] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._wait, name="emulator-clock", daemon=True).start()

    def now_s(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._start_s

    def call_at(self, when_s: float, callback: Callable[[], None]) -> Timer:
        """See :class:`Clock`."""
        call = _Call(when_s, next(self._numbers), callback)
        with self._changed:
            heapq.heappush(self._calls, call)
            if self._calls[0] is call:
                self._changed.notify()
        return call

    def close(self) -> None:
        """No more calls."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _wait(self) -> None:
        with self._changed:
            while not self._closed:
                left_s = self._calls[0].when_s - self.now_s() if self._calls else None
                if left_s is None or left_s > 0.0:
                    self._changed.wait(left_s)
                else:
                    self._loop.call_soon_threadsafe(heapq.heappop(self._calls).run)
