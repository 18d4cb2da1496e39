"""Backends that do as they are told and remember all that they saw."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import web
from multidict import CIMultiDictProxy

from aladdin_env.errors import InputError

MARK = re.compile(rb"mark-[0-9a-f]{8}-\d+")
_MOST_BODY_BYTES = 1 << 30
_MOST_HEADER_BYTES = 1 << 22  # what a router lets through must be seen, not refused here
JSON = {"Content-Type": "application/json"}
EVENTS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


class Exchange:
    """A request as a backend saw it, and the means to answer it.

    Attributes:
        backend: Number of the backend.
        method: The method.
        target: Path and query, as sent.
        headers: The headers.
        body: The bytes of the body.
        mark: What the suite had written into body or target to know the request again; empty where there is none.
        idle_s: Seconds for which this connection had lain idle before; None on a new connection.
        dropped: Whether the router closed the connection before the answer was out.
        ended: Whether nothing more will happen.
    """

    def __init__(self, backend: int, request: web.Request, body: bytes, idle_s: float | None) -> None:
        self.backend = backend
        self.method, self.target = request.method, request.raw_path
        self.headers: CIMultiDictProxy[str] = request.headers
        self.body = body
        found = MARK.search(request.raw_path.encode()) or MARK.search(body)
        self.mark = found[0].decode() if found else ""
        self.idle_s = idle_s
        self.dropped = False
        self.ended = False
        self.response: web.StreamResponse = web.Response(status=500)
        self._request = request

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @cached_property
    def json(self) -> dict[str, Any] | None:
        """The body as a JSON object; None where it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    async def reply(self, status: int, body: bytes, headers: Mapping[str, str] = JSON) -> None:
        """Answer at once."""
        self.response = web.Response(status=status, body=body, headers=headers)

    async def begin(self, status: int = 200, headers: Mapping[str, str] = EVENTS) -> None:
        """Send the headers; a body of unknown length follows."""
        self.response = web.StreamResponse(status=status, headers=headers)
        await self.response.prepare(self._request)

    async def send(self, data: bytes) -> None:
        """Send a piece of the body; returns once the system has taken it."""
        await self.response.write(data)

    def die(self) -> None:
        """Close the connection, as a worker that is killed does."""
        if self._request.transport is not None:
            self._request.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


class Backend:
    """A server on one port.

    Args:
        number: Which of the backends it is, from 0.
        host: Where it listens.
        port: Where it listens; 0 takes a free one.
        script: How it answers.

    Attributes:
        exchanges: All that it saw.
        is_open: Whether it takes connections.
    """

    def __init__(self, number: int, host: str, port: int, script: Script) -> None:
        self.number, self.host, self.port = number, host, port
        self.exchanges: list[Exchange] = []
        self.is_open = False
        self._script = script
        self._closing = False
        self._last_s: WeakKeyDictionary[asyncio.BaseTransport, float] = WeakKeyDictionary()
        app = web.Application(client_max_size=_MOST_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,  # how a hang-up is seen
            access_log=None,
            auto_decompress=False,
            max_line_size=_MOST_HEADER_BYTES,
            max_field_size=_MOST_HEADER_BYTES,
            shutdown_timeout=1.0,
        )

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            InputError: The port is taken.
        """
        await self._runner.setup()
        await self.open()

    async def open(self) -> None:
        """Take connections, as before the first start or after :meth:`refuse`."""
        site = web.TCPSite(self._runner, self.host, self.port)
        try:
            await site.start()
        except OSError as error:
            raise InputError("--backend-port", self.port, f"give a free port ({error.strerror or error})") from None
        if self.port == 0:
            self.port = int(self._runner.addresses[0][1])
        self._site, self._closing, self.is_open = site, False, True

    async def refuse(self) -> None:
        """Refuse connections and close those that there are, as when the process is gone."""
        self._closing, self.is_open = True, False
        await self._site.stop()
        server = self._runner.server
        for connection in list(server.connections if server is not None else ()):
            if connection.transport is not None:
                connection.transport.abort()

    async def stop(self) -> None:
        """End for good."""
        self._closing = True
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None  # it is the request's own, and has just been read from
        last_s = self._last_s.get(transport)
        idle_s = None if last_s is None else time.monotonic() - last_s
        exchange = Exchange(self.number, request, await request.read(), idle_s)
        self.exchanges.append(exchange)
        try:
            await self._script(exchange)
        except asyncio.CancelledError:
            exchange.dropped = not self._closing
            raise
        except ConnectionError:  # seen when writing
            exchange.dropped = not self._closing
        finally:
            exchange.ended = True
            self._last_s[transport] = time.monotonic()
        return exchange.response
