"""Connections to workers: kept for a while, opened where none is free, watched for silence by one timer for all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from urllib.parse import urlsplit

from aladdin_env.bridge.gateway.settings import GatewaySettings
from aladdin_env.bridge.gateway.upstream.answer import Answer
from aladdin_env.bridge.gateway.upstream.connection import Connection, Unanswered
from aladdin_env.bridge.workers.address import authorization

_KEEP_S = 4.0  # vLLM closes idle connections after 5 s: whoever reuses one later sends into a closed one
_TICK_S = 0.25


@dataclass(frozen=True)
class _Place:
    """Where a worker is: what is needed of its address, once."""

    host: str
    port: int
    is_tls: bool
    prefix: str
    netloc: str


class Upstream:
    """Sends requests to workers by HTTP/1.1, between ``open`` and ``close``; for one event loop. No redirects.

    Args:
        settings: How long it waits for a connection, for the first byte, and for the next one.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._key = tuple(authorization(settings.worker_key_env).items())
        self._free: dict[str, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._watch: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None

    @property
    def connections(self) -> int:
        """Open ones, in use or kept."""
        return len(self._all)

    async def open(self) -> None:
        """Begin; an event loop must be running."""
        self._watch = asyncio.create_task(self._watched(), name="connections to workers")

    async def close(self) -> None:
        """Close all connections."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        for connection in self._all:
            connection.close()
        self._all.clear()
        self._free.clear()

    async def send(
        self,
        method: str,
        url: str,
        path: str,
        headers: Iterable[tuple[str, str]],
        body: bytes | None,
        *,
        whole: bool = True,
    ) -> Answer:
        """Send a request: once more, on a new connection, where the worker had closed the one that was kept.

        The answer is there once the first bytes of an event stream have come, and all of anything else. A stream's head
        says nothing yet: vLLM sends it before it has looked at the prompt.

        Args:
            method: Such as POST.
            url: Address of the worker.
            path: With its query, in the very bytes of the client: ``%2F`` stays what it is.
            headers: All but Host and Content-Length.
            body: None: none is sent.
            whole: Otherwise the first bytes are enough of anything.

        Raises:
            Unanswered: that did not come in time.
        """
        place = _place(url)
        message = _message(method, place, path, (*headers, *self._key), body)
        kept = self._kept(url)
        if kept is not None:
            try:
                return await self._ask(kept, url, message, method, whole)
            except Unanswered as fault:
                if not fault.was_closed:
                    raise
        return await self._ask(await self._connect(place), url, message, method, whole)

    async def _ask(self, connection: Connection, url: str, message: bytes, method: str, whole: bool) -> Answer:
        settings = self._settings
        try:
            connection.send(message, settings.first_byte_s, settings.idle_s, is_bare=method == "HEAD")
            await connection.head()
            answer = Answer(connection, partial(self._release, url))
            await connection.arrived(whole and not answer.is_stream)
        except BaseException:  # the client may have hung up: the worker must notice
            self._drop(connection)
            raise
        return answer

    async def _connect(self, place: _Place) -> Connection:
        loop = asyncio.get_running_loop()
        tls = self._context() if place.is_tls else None
        wait_s = self._settings.connect_s
        try:
            async with asyncio.timeout(wait_s):
                _, connection = await loop.create_connection(lambda: Connection(loop), place.host, place.port, ssl=tls)
        except TimeoutError:
            raise Unanswered(f"no connection within {wait_s:g} s") from None
        except OSError as error:
            raise Unanswered(" ".join(str(error).split()) or type(error).__name__) from None
        self._all.add(connection)
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _kept(self, url: str) -> Connection | None:
        """One that is free, the last used first."""
        free = self._free.get(url)
        while free:
            connection = free.pop()
            if connection.is_open:
                return connection
            self._drop(connection)
        return None

    def _release(self, url: str, connection: Connection) -> None:
        if connection.is_whole and connection.is_open:
            connection.is_busy = False
            self._free.setdefault(url, []).append(connection)
        else:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._all.discard(connection)

    async def _watched(self) -> None:
        loop = asyncio.get_running_loop()
        tick_s = min(_TICK_S, self._settings.first_byte_s / 4, self._settings.idle_s / 4)
        while True:
            await asyncio.sleep(tick_s)
            now_s = loop.time()
            for connection in list(self._all):
                if connection.silent_for_too_long(now_s):
                    connection.fail(f"nothing came for {connection.patience_s:g} s")
            self._sweep(now_s)

    def _sweep(self, now_s: float) -> None:
        """Close those that have been free for too long."""
        for url, free in list(self._free.items()):
            stays = [each for each in free if each.is_open and now_s - each.heard_s < _KEEP_S]
            for connection in set(free).difference(stays):
                self._drop(connection)
            if stays:
                self._free[url] = stays
            else:
                del self._free[url]


@lru_cache(maxsize=4096)
def _place(url: str) -> _Place:
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    return _Place(parts.hostname or "", port, is_tls, parts.path, parts.netloc)


def _message(method: str, place: _Place, path: str, headers: Iterable[tuple[str, str]], body: bytes | None) -> bytes:
    """A request in bytes.

    Raises:
        ValueError: a header has a line break in it.
    """
    lines = [f"{method} {place.prefix}{path} HTTP/1.1", f"Host: {place.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a line break in the head of a request")
    return head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + (body or b"")
