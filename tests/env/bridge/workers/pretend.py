"""Time that only a test moves, and an end to waiting for what should happen soon."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count

from aladdin_env.bridge.workers.timing import Timing

_SOON_S = 20.0  # a busy machine is slow; a test that passes never waits as long


class PretendTime:
    """A clock that stands until ``advance``; its jitter is always the least."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timing = Timing(lambda: self.now_s, self._sleep, lambda low, high: low)
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    async def _sleep(self, seconds: float) -> None:
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + seconds, next(self._order), waking))
        await waking

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, and everything happen that happens meanwhile without waiting for the outside."""
        until_s = self.now_s + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            wake_s, _, waking = heapq.heappop(self._sleepers)
            self.now_s = max(self.now_s, wake_s)
            if not waking.done():
                waking.set_result(None)
            await settle()
        self.now_s = until_s


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def soon(happens: Callable[[], object]) -> None:
    """Return when ``happens()`` is true; it must be before long."""
    until = time.monotonic() + _SOON_S
    while not happens():
        assert time.monotonic() < until, f"it did not happen: {happens}"
        await asyncio.sleep(0.01)
