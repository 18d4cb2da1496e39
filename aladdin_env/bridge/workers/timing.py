"""Time as those who keep workers see it: a clock, a sleep and some jitter, all of which a test may replace."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Where time comes from.

    Attributes:
        clock: Seconds on a clock that never goes back; its zero means nothing.
        sleep: Returns after so many seconds of that clock.
        uniform: Draws a number between two; for jitter only.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform

    def longer(self, seconds: float, share: float = 0.2) -> float:
        """``seconds`` and up to ``share`` more, so that many who wait as long do not all come at once."""
        return seconds * self.uniform(1.0, 1.0 + share)

    async def within(self, seconds: float, event: asyncio.Event) -> bool:
        """Wait until ``event`` is set, but no longer than ``seconds``; whether it is set."""
        if event.is_set() or seconds <= 0.0:
            return event.is_set()
        set_ = asyncio.ensure_future(event.wait())
        over = asyncio.ensure_future(self.sleep(seconds))
        try:
            await asyncio.wait((set_, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            set_.cancel()
            over.cancel()
        return event.is_set()


REAL_TIME = Timing()
