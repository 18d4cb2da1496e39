"""A bridge over real HTTP, its workers and a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from aladdin_env.bridge.dispatcher import Queueing
from aladdin_env.bridge.gateway.settings import GatewaySettings
from aladdin_env.bridge.server import Bridge, BridgeSettings, Listening
from aladdin_env.bridge.workers.static import StaticPool

from .backend import Backend

SETTINGS = BridgeSettings(
    policy="least_request",
    listening=Listening(port=0, admin_port=0),
    queueing=Queueing(max_hold_s=0.5),
    gateway=GatewaySettings(drain_s=5.0),
    rows=64,
)


class Scene:
    """A bridge, its workers and a client."""

    def __init__(self, bridge: Bridge, backends: list[Backend], client: aiohttp.ClientSession) -> None:
        self.bridge, self.backends, self.client = bridge, backends, client

    def ask(self, body: Any = None, path: str = "/v1/completions", **more: Any) -> Any:
        """A completion."""
        given = {"prompt": "hello"} if body is None else body
        kind = {"data": given} if isinstance(given, bytes) else {"json": given}
        if isinstance(given, bytes):
            more.setdefault("headers", {"Content-Type": "application/json"})
        return self.client.post(self.bridge.url + path, **kind, **more)

    async def settled(self) -> None:
        """Every trace of every request is gone: from the arrays and from the workers' counts."""
        view = self.bridge.cluster.view
        for _ in range(200):
            left = int(view.workers["members"].sum()) + int(view.cluster["in_flight"]) + self.bridge.dispatcher.held
            if left + sum(worker.in_flight for worker in self.bridge.pool.workers) == 0:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("something of a request is left")


@asynccontextmanager
async def scene(workers: int = 2, settings: BridgeSettings = SETTINGS) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        backends = [await stack.enter_async_context(Backend()) for _ in range(workers)]
        pool = StaticPool([backend.url for backend in backends])
        bridge = await stack.enter_async_context(Bridge(pool, settings))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Scene(bridge, backends, client)


def run(course: Callable[[Scene], Awaitable[None]], workers: int = 2, settings: BridgeSettings = SETTINGS) -> None:
    async def whole() -> None:
        async with scene(workers, settings) as made:
            await asyncio.wait_for(course(made), 30.0)
            await made.settled()

    asyncio.run(whole())
