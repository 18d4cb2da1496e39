"""One connection to a worker: a request goes out, an answer comes in, one after the other."""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

_MOST_BUFFERED_BYTES = 256 << 10  # of an answer that nobody has read yet; the worker waits when there are more
_MOST_HEAD_BYTES = 64 << 10
_NO_BODY_KNOWN = frozenset({b"content-length", b"transfer-encoding"})


class Unanswered(OSError):
    """The worker did not answer, or not to the end; the text is one line.

    Attributes:
        was_closed: Whether the worker closed the connection before the first byte of the answer.
    """

    def __init__(self, reason: str, was_closed: bool = False) -> None:
        super().__init__(reason)
        self.was_closed = was_closed


class Connection(asyncio.Protocol):
    """Parses answers by httptools (llhttp); whoever sent the request waits here for what comes.

    Attributes:
        is_open: Whether requests can be sent.
        is_busy: Whether an answer is outstanding.
        heard_s: When it was last heard of, by the loop's clock: infinite while it waits for its reader.
        patience_s: Longest silence now.
        status: Of the answer.
        headers: Of the answer, as they came.
        is_whole: Whether the whole answer has come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_open = False
        self._reset()
        self.is_busy = False

    def _reset(self) -> None:
        self.is_busy = True
        self.heard_s = self._loop.time()
        self.patience_s = self._later_s = float("inf")
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = False
        self._has_head = self._has_length = self._has_any = self._is_paused = self._is_bare = False
        self._head_bytes = self._buffered_bytes = 0
        self._parts: list[bytes] = []
        self._fault: Unanswered | None = None

    def send(self, message: bytes, first_byte_s: float, idle_s: float, *, is_bare: bool) -> None:
        """A request, head and body; ``is_bare``: the answer has no body whatever it says (HEAD)."""
        assert self._transport is not None and not self.is_busy, "send on a free, open connection"
        self._reset()
        self.patience_s, self._later_s, self._is_bare = first_byte_s, idle_s, is_bare
        self._transport.write(message)

    async def head(self) -> None:
        """Until status and headers are there.

        Raises:
            Unanswered: they do not come.
        """
        while not self._has_head:
            await self._more()

    async def arrived(self, whole: bool) -> None:
        """Until the body has begun, or is ``whole``.

        Raises:
            Unanswered: it does not come.
        """
        while not self.is_whole and (whole or not self._parts):
            await self._more()
            if whole:
                self._resume()

    def taken(self) -> bytes:
        """What has come of the body since the last time."""
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._buffered_bytes = 0
        self._resume()
        return data

    def silent_for_too_long(self, now_s: float) -> bool:
        """Whether its patience has ended."""
        return self.is_busy and now_s - self.heard_s > self.patience_s

    def fail(self, reason: str) -> None:
        """Break off: whoever waits is told."""
        self._break(Unanswered(reason))
        self.close()

    def close(self) -> None:
        """Close at once, whatever is outstanding: the worker notices, and stops working on it."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast(asyncio.Transport, transport)  # that of uvloop is one by its methods only
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self.is_open = False
        if self.is_busy and not self.is_whole:
            if self._has_head and not self._has_length and exc is None:
                self.on_message_complete()  # an answer without a length ends with its connection
                self._wake()
            else:
                said = " ".join(str(exc or "").split()) or "the worker closed the connection"
                self._break(Unanswered(said, not self._has_any))

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        if not self.is_busy or self.is_whole:  # nobody has asked for it
            self.close()
            return
        self._has_any = True
        self.heard_s = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(f"no HTTP answer ({' '.join(str(error).split())})")
            return
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self.fail(f"a head of more than {_MOST_HEAD_BYTES} bytes")
        elif self._buffered_bytes > _MOST_BUFFERED_BYTES and not self.is_whole:
            self._pause()
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of httptools; trailers after the body are left out."""
        if not self._has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Of httptools."""
        if self.is_whole:  # a second answer to one request
            self.is_open = False
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:  # an interim answer; the real one follows
            self.headers = []
            return
        self._has_head = True
        self._has_length = any(name.lower() in _NO_BODY_KNOWN for name, _ in self.headers)
        if self._is_bare:
            self.is_open = False  # the parser waits for a body that does not come
            self.is_whole = True

    def on_body(self, body: bytes) -> None:
        """Of httptools."""
        if not self.is_whole:
            self.patience_s = self._later_s  # vLLM sends the head at once, and the first token after queue and prefill
            self._parts.append(body)
            self._buffered_bytes += len(body)

    def on_message_complete(self) -> None:
        """Of httptools."""
        if self._has_head and not self.is_whole:
            self.is_whole = True
            self.is_open = self.is_open and self._parser.should_keep_alive()

    async def _more(self) -> None:
        if self._fault is not None:
            raise self._fault
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None and self.is_open:
            self._is_paused = True
            self.heard_s = float("inf")  # the reader is slow, not the worker
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self.heard_s = self._loop.time()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _break(self, fault: Unanswered) -> None:
        if self._fault is None:
            self._fault = fault
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
