"""The pages of a stage behind a real server, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from aiohttp import web

from aladdin_env.bridge.gateway.front import runner_of

from .stage import Stage

T = TypeVar("T")
_LONG_S = 30.0


class Served:
    """A server that a test starts and stops, and a loop in which alone the stage may be touched."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._runner: web.AppRunner | None = None
        self._stage: Stage | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, stage: Stage) -> None:
        self._stage = stage
        asyncio.run_coroutine_threadsafe(self._start(stage), self._loop).result(_LONG_S)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_LONG_S)

    def do(self, what: Callable[[], T]) -> T:
        """``what()`` in the server's loop."""

        async def done() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(_LONG_S)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LONG_S)
        self._loop.close()

    async def _start(self, stage: Stage) -> None:
        app = web.Application()
        app.router.add_routes([web.get(path, handler) for path, handler in stage.watch.pages().items()])
        self._runner = runner_of(app, 5.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        if self._runner is not None and self._stage is not None:
            self._stage.watch.close()
            await self._runner.cleanup()
            self._runner = None


@contextmanager
def served(stage: Stage) -> Iterator[Served]:
    """The pages of ``stage`` on some port until the block ends."""
    server = Served()
    server.start(stage)
    try:
        yield server
    finally:
        server.close()
