"""What a server says of itself at ``/metrics`` (vLLM's names)."""

from __future__ import annotations

import asyncio
import time

from aladdin_calibration.server.client import Client, ServerFault
from aladdin_env.bridge.workers.scrape import METRICS_PATH, Scrape, parse

__all__ = ["Scrape", "Watch", "idle", "scrape"]

_SETTLE_S = 5.0  # a server takes a moment to notice that we hung up
_POLL_S = 0.05


async def scrape(client: Client) -> Scrape | None:
    """The server's metrics now; None when it has none that we know.

    Raises:
        ServerFault: No whole answer came.
        InputError: prometheus-client is not installed.
    """
    status, text = await client.get(METRICS_PATH)
    return parse(text) if status == 200 else None


async def idle(client: Client) -> Scrape | None:
    """The metrics once the server works for nobody, to be called while we want nothing of it.

    Raises:
        ServerFault: It still works after some seconds, hence for others.
    """
    until = time.perf_counter() + _SETTLE_S
    while True:
        seen = await scrape(client)
        if seen is None or seen.busy == 0:
            return seen
        if time.perf_counter() > until:
            raise ServerFault(f"others use {client.url} ({seen.busy} requests): measure while it serves nobody else")
        await asyncio.sleep(_POLL_S)


class Watch:
    """Finds out whether others used the server between ``begin`` and ``end``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before: Scrape | None = None
        self._sent = self._finished = 0

    async def begin(self) -> Scrape | None:
        """Start on a server that is idle; ServerFault if it is not."""
        self._before = await idle(self._client)
        self._sent, self._finished = self._client.sent, self._client.finished
        return self._before

    async def end(self) -> Scrape | None:
        """The metrics afterwards; ServerFault if others were served meanwhile, or the server is not idle."""
        after = await idle(self._client)
        if after is not None and self._before is not None:
            strangers = max(
                _more(self._before.finished, after.finished, self._client.finished - self._finished),
                # Whoever hangs up early is in no count of finished ones. Not all of ours need have begun.
                _more(self._before.begun, after.begun, self._client.sent - self._sent),
                # Nor is who hangs up before a first token counted by the engine, only by the front end.
                _more(self._before.asked, after.asked, self._client.sent - self._sent),
            )
            if strangers > 0:
                raise ServerFault(
                    f"others use {self._client.url} ({strangers:g} requests came in between): "
                    "measure while it serves nobody else"
                )
        return after


def _more(before: float | None, after: float | None, ours: int) -> float:
    """By how much a counter has moved beyond ``ours``; 0 where the server does not count."""
    return 0.0 if before is None or after is None else after - before - ours
