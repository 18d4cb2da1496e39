"""The load: connections that each send a request as soon as the answer before it is there."""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import cast

from aladdin_env.bench.bridge.wire import message_bytes, new_loop
from aladdin_env.bridge.conformance.scripts import MODEL

BODY_BYTES = 2048
_GRACE_S = 10.0


def request_bytes(port: int) -> bytes:
    """A chat request of 2 KB."""
    message = {"role": "user", "content": ""}
    fixed = {"model": MODEL, "messages": [message], "max_tokens": 16, "temperature": 0}
    message["content"] = ("what does a genie want? " * 100)[: BODY_BYTES - len(json.dumps(fixed))]
    body = json.dumps(fixed).encode()
    lines = ("POST /v1/chat/completions HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json")
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


@dataclass(frozen=True)
class Job:
    """So many connections to a port of this machine, for so many seconds."""

    port: int
    connections: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
        p50_us: Median time from sending a request to having its whole answer, microseconds.
        rps: Answers per second.
        failed: Requests that got no 200.
    """

    p50_us: float
    rps: float
    failed: int


class _Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, end_s: float) -> None:
        self._request, self._end_s = request, end_s
        self._held = b""
        self.times_s: list[float] = []
        self.failed = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._send(time.perf_counter())

    def _send(self, now_s: float) -> None:
        self._sent_s = now_s
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        held = self._held + data if self._held else data
        if not message_bytes(held):
            self._held = held
            return
        now_s = time.perf_counter()
        self._held = b""
        self.times_s.append(now_s - self._sent_s)
        self.failed += not held.startswith(b"HTTP/1.1 200")
        if now_s < self._end_s:
            self._send(now_s)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed += time.perf_counter() < self._end_s  # closed by the other end
        if not self.done.done():
            self.done.set_result(None)


async def _run(job: Job) -> Result:
    loop, request = asyncio.get_running_loop(), request_bytes(job.port)
    start_s = time.perf_counter()
    callers = []
    for _ in range(job.connections):
        connect = loop.create_connection(lambda: _Caller(request, start_s + job.seconds), "127.0.0.1", job.port)
        try:
            callers.append((await connect)[1])
        except OSError:  # nobody listens, or not yet
            return Result(float("nan"), 0.0, job.connections)
    await asyncio.wait([caller.done for caller in callers], timeout=job.seconds + _GRACE_S)
    elapsed_s = time.perf_counter() - start_s
    times_s = [seconds for caller in callers for seconds in caller.times_s]
    failed = sum(caller.failed + (not caller.done.done()) for caller in callers)
    return Result(statistics.median(times_s or [float("nan")]) * 1e6, len(times_s) / elapsed_s, failed)


def serve(jobs: Connection) -> None:
    """Do jobs as they come, until the other end of ``jobs`` is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    loop = new_loop()
    while True:
        try:
            job = jobs.recv()
        except EOFError:
            return
        jobs.send(loop.run_until_complete(_run(job)))
