"""Local processes of real vLLM under load: one is killed, one is stopped, one is started, and nobody is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from aladdin_env.bridge.workers.local import LocalPool, LocalSettings
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.restarts import RestartSettings
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.simulator.state import OFF, READY
from experiments.calibration.local_server import ENVIRONMENT

from .conftest import SETTINGS
from .traffic import OpenLoop, bridged, model_of, settled

pytestmark = pytest.mark.live
RATE_RPS = 6.0


def kill(worker: LiveWorker) -> None:
    """SIGKILL to the server in this slot: whoever has its port on the command line, and nobody of that above it."""
    port = worker.url.rsplit(":", 1)[1]
    pids = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and _words(folder)[1:2] == ["-m"] and ["--port", port] == _port(_words(folder))
    ]
    assert len(pids) == 1
    os.kill(pids[0], signal.SIGKILL)


def _words(folder: Path) -> list[str]:
    try:
        return (folder / "cmdline").read_text().split("\0")
    except OSError:  # it has ended meanwhile
        return []


def _port(words: list[str]) -> list[str]:
    return words[words.index("--port") : words.index("--port") + 2] if "--port" in words else []


async def until(pool: LocalPool, ready: int, within_s: float = 240.0) -> None:
    """So many are READY, and no other is on its way up or down."""
    async with asyncio.timeout(within_s):
        while [w.status == READY for w in pool.workers].count(True) != ready or any(
            w.status not in (READY, OFF) for w in pool.workers
        ):
            await asyncio.sleep(0.2)


def test_a_kill_and_scaling_under_load_lose_nobody(vllm: None, tmp_path: Path) -> None:
    local = LocalSettings(
        gpus=[], environment=ENVIRONMENT, logs=tmp_path, start_timeout_s=240.0, restarts=RestartSettings(0.5, 1.0)
    )
    pool = LocalPool(SETTINGS.command(), Limits(1, 2), initial=2, local=local)

    async def course() -> None:
        async with bridged(pool) as (bridge, client):
            await until(pool, 2)
            model = await model_of(client, bridge.url)
            load = OpenLoop(client, bridge.url, model, RATE_RPS)
            await load.run(60)
            busy = max(pool.workers, key=lambda worker: worker.in_flight)
            streaming = busy.in_flight
            kill(busy)
            await load.run(60)  # on the other one
            await until(pool, 2)  # it was started again
            killed_at = len(load.tasks)

            down = asyncio.create_task(pool.scale_to((1,)))
            await load.run(60)
            await down
            await until(pool, 1)
            up = asyncio.create_task(pool.scale_to((2,)))
            await load.run(120)
            await up
            await until(pool, 2)
            await load.run(30)

            found = await load.ended()
            ended_in_error = [one for one in found if not one.is_whole]
            assert all(one.error == "worker_failed" and one.tokens for one in ended_in_error)
            assert len(ended_in_error) <= streaming
            assert all(one.is_whole for one in found[killed_at:])
            await settled(bridge)
            assert bridge.cluster.view.cluster["finished"] == len(found) - len(ended_in_error)

    asyncio.run(asyncio.wait_for(course(), 600.0))
