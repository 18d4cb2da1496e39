"""A client that sees every byte: one connection to the router with one request on it.

An HTTP library would hide what the cases are about: where an answer broke off, what came before that, what was never
sent. Only sending and receiving is done here; the answer is parsed by the standard library.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from io import BytesIO
from typing import Any, cast
from urllib.parse import urlsplit

from aladdin_env.bridge.conformance.case import Failed, NoAnswer

_READ_BYTES = 1 << 16
_BODILESS = (b"204", b"304")


@dataclass(frozen=True)
class Answer:
    """What the router answered.

    Attributes:
        status: The status code.
        headers: Its headers.
        body: The bytes after them, without the transfer coding.
        broken: Whether it ended before its announced end.
    """

    status: int
    headers: HTTPMessage
    body: bytes
    broken: bool

    def header(self, name: str) -> str:
        """A header's value, empty where it was not sent."""
        return str(self.headers.get(name, ""))


@dataclass(frozen=True)
class Request:
    """A request as it goes over the wire; ``headers`` replace those that would be sent anyway, of equal name."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    def head(self, authority: str) -> bytes:
        """The bytes before the body."""
        usual = {"Host": authority}
        if self.body:
            usual |= {"Content-Type": "application/json", "Content-Length": str(len(self.body))}
        given = {name.lower() for name in self.headers}
        if "transfer-encoding" in given:
            usual.pop("Content-Length", None)
        lines = {name: value for name, value in usual.items() if name.lower() not in given} | dict(self.headers)
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{self.method} {self.target} HTTP/1.1\r\n{text}\r\n".encode()


class Wire:
    """A connection that carries one request; made by :meth:`open`.

    Attributes:
        received: All bytes that have come back.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str) -> None:
        self.received = bytearray()
        self._reader, self._writer, self._method = reader, writer, method
        self._ended = False
        self._sending: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, router: str, request: Request, *, window_bytes: int | None = None) -> Wire:
        """Connect and begin to send.

        Args:
            router: Address of the router.
            request: What to send.
            window_bytes: Receive buffer, for clients that read slowly; None leaves it to the system.

        Raises:
            Failed: Nothing listens there.
        """
        parts = urlsplit(router)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            connected = await asyncio.to_thread(_connect, str(parts.hostname), port, window_bytes)
            tls = {"ssl": True, "server_hostname": parts.hostname} if parts.scheme == "https" else {}
            reader, writer = await asyncio.open_connection(sock=connected, limit=_READ_BYTES, **cast(Any, tls))
        except OSError as error:
            raise Failed(f"the router takes no connection ({error.strerror or error})") from None
        wire = cls(reader, writer, request.method)
        wire._sending = asyncio.create_task(wire._send([request.head(parts.netloc), request.body]))
        return wire

    async def _send(self, parts: Iterable[bytes]) -> None:
        try:
            for part in parts:
                self._writer.write(part)
                await self._writer.drain()
        except ConnectionError:  # refused half-way: what was answered tells the rest
            pass

    async def until(self, needle: bytes, within_s: float) -> None:
        """Read until ``needle`` has come.

        Raises:
            Failed: It did not come within ``within_s`` seconds, or the answer ended before.
        """
        shown = needle[:40].decode(errors="replace").strip()
        try:
            async with asyncio.timeout(within_s):
                while needle not in self.received:
                    if not await self._more():
                        raise Failed(f"the answer ended before {shown!r} came ({self.first_line()})")
        except TimeoutError:
            raise Failed(f"{shown!r} did not come within {within_s:g} s ({self.first_line()})") from None

    async def answer(self, within_s: float) -> Answer:
        """Read to the end, whole or broken.

        Raises:
            NoAnswer: The connection closed without a byte.
            Failed: It did not end within ``within_s`` seconds, or is no HTTP.
        """
        try:
            async with asyncio.timeout(within_s):
                while not self._complete() and await self._more():
                    pass
        except TimeoutError:
            said = f"it broke off in silence: {self.first_line()}" if self.received else "nothing came"
            raise Failed(f"no end of the answer within {within_s:g} s ({said})") from None
        return _parse(bytes(self.received), self._method)

    def first_line(self) -> str:
        """The status line, for messages."""
        return bytes(self.received[:80]).partition(b"\r\n")[0].decode(errors="replace") or "no answer"

    def hang_up(self) -> None:
        """Close the connection, whatever is going on."""
        if self._sending is not None:
            self._sending.cancel()
        self._writer.close()

    async def _more(self) -> bool:
        try:
            data = b"" if self._ended else await self._reader.read(_READ_BYTES)
        except ConnectionError:
            data = b""
        self._ended = not data
        self.received += data
        return bool(data)

    def _complete(self) -> bool:
        """Whether the announced end is there. Cheap while it cannot be, for it is asked after every piece."""
        head, blank, _ = bytes(self.received[:_READ_BYTES]).partition(b"\r\n\r\n")
        if not blank:
            return False
        size = len(head) + len(blank)
        if head.startswith(b"HTTP/1.1 100"):  # only "go on"
            del self.received[:size]
            return self._complete()
        if self._method == "HEAD" or head[9:12] in _BODILESS:
            return True
        head = head.lower()
        if b"\r\ntransfer-encoding: chunked" in head:
            return self.received.endswith(b"\r\n\r\n") and not _parse(bytes(self.received), self._method).broken
        _, found, length = head.partition(b"\r\ncontent-length:")
        return bool(found) and len(self.received) - size >= int(length.partition(b"\r\n")[0])


class _Received:
    """What :class:`http.client.HTTPResponse` takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> BytesIO:
        """The bytes as a file."""
        return BytesIO(self._data)


def _parse(data: bytes, method: str) -> Answer:
    response = HTTPResponse(cast(socket.socket, _Received(data)), method=method)
    try:
        response.begin()
    except (HTTPException, ConnectionError, ValueError) as error:
        if not data:
            raise NoAnswer("the connection closed without an answer") from None
        raise Failed(f"no HTTP: {data[:60].decode(errors='replace')!r} ({type(error).__name__})") from None
    try:
        body, broken = response.read(), False
    except IncompleteRead as error:
        body, broken = error.partial, True
    except (HTTPException, ValueError):
        body, broken = b"", True
    return Answer(response.status, response.headers, body, broken)


def _connect(host: str, port: int, window_bytes: int | None) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    connection = socket.socket(family, kind, protocol)
    if window_bytes is not None:  # counts only when set before the handshake
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
    try:
        connection.settimeout(5.0)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    connection.setblocking(False)
    return connection
