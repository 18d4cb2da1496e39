"""What the bridge says of itself while it is under load."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from experiments.bridge.soak.processes import Serve, cpu_s

_LINE = re.compile(r"^(\w[\w:]*)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting")
_LIMIT_S = 10.0


@dataclass(frozen=True)
class Sample:
    """The bridge at one moment.

    Attributes:
        at_s: When, by the monotonic clock.
        rss_bytes: Its resident memory.
        fds: Its open file descriptors.
        tasks: Tasks of its event loop.
        in_flight: Requests that it has not ended.
        held: Of these, those that wait for a worker.
        cpu_s: CPU time of bridge, workers and this process so far, seconds.
    """

    at_s: float
    rss_bytes: float
    fds: float
    tasks: float
    in_flight: float
    held: float
    cpu_s: float


class Eyes:
    """Looks at a bridge.

    Args:
        serve: The bridge.
        session: Carries the questions.
    """

    def __init__(self, serve: Serve, session: aiohttp.ClientSession) -> None:
        self._serve = serve
        self._session = session
        self._cpu_s: dict[int, float] = {}

    async def sample(self) -> Sample:
        """The bridge now."""
        found = _values(await self._text(self._serve.url + "/metrics"))
        return Sample(
            at_s=time.monotonic(),
            rss_bytes=found["aladdin_process_resident_memory_bytes"],
            fds=found["aladdin_process_open_fds"],
            tasks=found["aladdin_asyncio_tasks"],
            in_flight=found["aladdin_requests_in_flight"],
            held=found["aladdin_hold_queue_requests"],
            cpu_s=self._cpu(),
        )

    async def status(self) -> dict[str, Any]:
        """Its whole status."""
        async with self._session.get(self._serve.url + "/status", timeout=_limit()) as response:
            found: dict[str, Any] = await response.json()
            return found

    async def busy(self, status: dict[str, Any]) -> float | None:
        """Requests that the workers themselves say they have; None: one does not answer."""
        total = 0.0
        for worker in status["workers"]:
            try:
                found = _values(await self._text(worker["url"] + "/metrics"))
            except (aiohttp.ClientError, OSError):
                return None
            total += sum(found[name] for name in _BUSY)
        return total

    async def _text(self, url: str) -> str:
        async with self._session.get(url, timeout=_limit()) as response:
            return await response.text()

    def _cpu(self) -> float:
        """Of those that are gone, too, as far as they were seen."""
        for pid in self._serve.pids():
            self._cpu_s[pid] = max(cpu_s(pid), self._cpu_s.get(pid, 0.0))
        return sum(self._cpu_s.values()) + time.process_time()


def ready(status: dict[str, Any]) -> list[dict[str, Any]]:
    """The workers that serve."""
    return [worker for worker in status["workers"] if worker["state"] == "ready"]


def at_rest(status: dict[str, Any]) -> bool:
    """Whether the bridge has no request any more, and none on any worker."""
    counts = [status["requests"]["in_flight"], status["queue"]["held"], *(w["in_flight"] for w in status["workers"])]
    return not any(counts)


def _values(page: str) -> dict[str, float]:
    """Sum over the labels of each metric."""
    found: dict[str, float] = {}
    for name, value in _LINE.findall(page):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def _limit() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=_LIMIT_S)
