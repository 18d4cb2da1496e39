"""Runs a bridge until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aladdin_env.bridge.record.recorder import Recorder, RecordSettings
from aladdin_env.bridge.server import Bridge, BridgeSettings
from aladdin_env.bridge.workers.pool import WorkerPool

Announce = Callable[[str, str], None]


@dataclass(frozen=True)
class Recording:
    """Where decisions are recorded, and how much of them.

    Attributes:
        path: The log.
        level: ``requests`` or ``events``.
    """

    path: Path
    level: str = "requests"


def run(pool: WorkerPool, settings: BridgeSettings, announce: Announce, recording: Recording | None = None) -> None:
    """Serve until SIGINT or SIGTERM; a second one stops at once.

    Args:
        pool: The workers.
        settings: Of the bridge.
        announce: Given the addresses for clients and for admin calls ("": none) when clients can connect.
        recording: Where decisions are recorded; None: nowhere.
    """
    _run(_serve(pool, settings, announce, recording))


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ModuleNotFoundError:  # not on Windows
        asyncio.run(main)
        return
    uvloop.run(main)


async def _serve(pool: WorkerPool, settings: BridgeSettings, announce: Announce, recording: Recording | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None

    def asked() -> None:
        if stop.is_set():
            this.cancel()
        stop.set()

    with contextlib.suppress(NotImplementedError):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asked)
    bridge = Bridge(pool, settings)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(asyncio.CancelledError))
        if recording is not None:
            chosen = RecordSettings(level=recording.level)
            recorder = stack.enter_context(
                contextlib.closing(Recorder(recording.path, bridge.cluster, bridge.regime(), chosen))
            )
            bridge.watch(recorder)
        async with bridge:
            announce(bridge.url, bridge.admin_url)
            await stop.wait()
