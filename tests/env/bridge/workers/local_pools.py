"""Pools of real processes of a small server, for tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp

from aladdin_env.bridge.workers.local import LocalPool, LocalSettings
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.restarts import RestartSettings
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.simulator.state import OFF, READY

from .pretend import soon

SCRIPT = Path(__file__).with_name("fake_worker.py")
WATCH = WatchSettings(health_s=0.1, health_timeout_s=0.5, first_backoff_s=0.05, max_backoff_s=0.2)
Story = Callable[[LocalPool], Awaitable[None]]


def command(options: str = "") -> str:
    return f"{sys.executable} {SCRIPT} --port {{port}} {options}"


def pool_of(folder: Path, limits: Limits, text: str = command(), initial: int | None = None, **local) -> LocalPool:
    given = {
        "gpus": [],
        "logs": folder / "logs",
        "ready_poll_s": 0.05,
        "grace_s": 10.0,
        "drain_s": 30.0,
        "restarts": RestartSettings(first_s=0.05, longest_s=0.2),
        **local,
    }
    return LocalPool(text, limits, initial=initial, local=LocalSettings(**given), settings=WATCH)


def while_there(flag: Path) -> str:
    """A command whose workers load as long as ``flag`` is there."""
    return f"sh -c 'while [ -e {flag} ]; do sleep 0.02; done; exec {command()}'"


def tell(pool: LocalPool, story: Story) -> None:
    async def whole() -> None:
        await pool.start()
        try:
            await story(pool)
        finally:
            await pool.stop(0.0)
        assert [worker.status for worker in pool.workers] == [OFF] * len(pool.workers)

    asyncio.run(whole())


def states(pool: LocalPool) -> list[int]:
    return [worker.status for worker in pool.workers]


async def all_ready(pool: LocalPool, count: int) -> None:
    await soon(lambda: states(pool).count(READY) == count)


async def ask(worker: LiveWorker, path: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as session, session.get(worker.url + path) as response:
        return await response.json()


async def be(worker: LiveWorker, **wish: object) -> None:
    with suppress(aiohttp.ClientError, TimeoutError):  # one that is told to crash does not answer
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(worker.url + "/be", json=wish):
            pass
