"""``/events``: a stream of server-sent events for the page; what happened in half a second goes into one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import orjson
from aiohttp import web

from aladdin_env.bridge.gateway.problems import Problem
from aladdin_env.bridge.watch.journal import Journal
from aladdin_env.bridge.watch.recent import STEP_S, Recent
from aladdin_env.bridge.watch.status import Fields, Status

_log = logging.getLogger(__name__)
_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # or proxies keep events back
    "X-Content-Type-Options": "nosniff",
}
_RETRY_MS = 1000
_QUEUED = 16  # events that a client may be behind
_POINTS, _STEPS = 90, 2  # of the page's curves: 15 minutes in spans of 10 s
_BEATS = 12


class _Client:
    """Somebody who reads the stream; one who is too slow is dropped."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED)
        self._transport = transport

    def offer(self, data: bytes | None) -> bool:
        """Send it soon, or None to end the stream; False: it was dropped instead."""
        try:
            self.queue.put_nowait(data)
        except asyncio.QueueFull:
            if self._transport is not None:
                self._transport.abort()  # it may be blocked in the middle of a write
            return False
        return True


class Feed:
    """Sends the state of the bridge to whoever listens. Costs nothing while nobody does.

    Args:
        status: Describes the bridge.
        journal: What came last.
        recent: The last hour.
        clock: Seconds since the bridge began.
        every_s: From one event to the next, seconds.
        most_clients: More are refused.
    """

    def __init__(
        self,
        status: Status,
        journal: Journal,
        recent: Recent,
        clock: Callable[[], float],
        every_s: float = 0.5,
        most_clients: int = 32,
    ) -> None:
        self._status, self._journal, self._recent, self._clock = status, journal, recent, clock
        self._every_s = every_s
        self._most_clients = most_clients
        self._clients: set[_Client] = set()
        self._ticker: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def clients(self) -> int:
        """How many listen."""
        return len(self._clients)

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._end_all()
        if self._ticker is not None:
            self._ticker.cancel()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The stream, until the client leaves or :meth:`close`."""
        if self._closed or len(self._clients) >= self._most_clients:
            return Problem(503, "too_many_listeners", "too many listen already", 5.0).response()
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        client = _Client(request.transport)
        client.offer(b"retry: %d\n\n" % _RETRY_MS + self._news(0))
        self._clients.add(client)
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())
        try:
            while (data := await client.queue.get()) is not None:
                await response.write(data)
        except ConnectionResetError:  # it has left, or was too slow
            pass
        finally:
            self._clients.discard(client)
        return response

    async def _tick(self) -> None:
        told = self._journal.noted
        try:
            while self._clients:
                await asyncio.sleep(self._every_s)
                data, told = self._news(told), self._journal.noted
                self._clients = {client for client in self._clients if client.offer(data)}
        except Exception:
            _log.exception("the page's stream failed")
        finally:
            self._ticker = None
            self._end_all()  # they connect again

    def _news(self, after: int) -> bytes:
        """How it is now, and the decisions since the one with this number, as one event."""
        fields = {
            **self._status.now(),
            "decisions": self._status.decisions(after),
            "decisions_noted": self._journal.noted,
            "heartbeats": self._status.heartbeats(_BEATS),
            "series": self._series(),
        }
        return b"data: " + orjson.dumps(fields) + b"\n\n"

    def _series(self) -> Fields:
        """The page's curves: null for spans before the beginning."""
        spans = self._recent.series(_POINTS, _STEPS, self._clock())
        return {
            "span_s": STEP_S * _STEPS,
            "arrived": [None if span is None else span[0] for span in spans],
            "judged": [None if span is None else span[1].judged for span in spans],
            "met": [None if span is None else span[1].met for span in spans],
        }

    def _end_all(self) -> None:
        for client in self._clients:
            client.offer(None)
        self._clients = set()
