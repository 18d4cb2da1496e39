"""Requests that are wrong, sent byte by byte: an HTTP library would mend them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

from experiments.bridge.soak.judge import Judged, Seen, judge_mistake

_LIMIT_S = 40.0
_LONG_HEADER_BYTES = 100_000
_READ_BYTES = 1 << 16
_JSON = "application/json"


async def make_mistake(url: str, mistake: str, identity: str) -> Judged:
    """Send a request with this mistake, and judge what comes."""
    where = urlsplit(url)
    data = _bytes(mistake, where.netloc, identity)
    try:
        async with asyncio.timeout(_LIMIT_S):
            received = await _exchange(str(where.hostname), where.port or 80, data, mistake == "body cut short")
    except TimeoutError:
        return judge_mistake(mistake, Seen(0, {}, b"", f"neither answer nor end within {_LIMIT_S:g} s"))
    except OSError as error:
        return judge_mistake(mistake, Seen(0, {}, b"", f"no connection ({error})"))
    return judge_mistake(mistake, parsed(received))


def parsed(received: bytes) -> Seen:
    """An answer that ends with its connection."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not received:
        return Seen(0, {}, b"")
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        return Seen(0, {}, received, f"no HTTP: {first[:60]!r}")
    pairs = [line.partition(":") for line in lines]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return Seen(int(words[1]), headers, body)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    with suppress(ValueError):
        while body:
            size, _, rest = body.partition(b"\r\n")
            whole += rest[: int(size, 16)]
            body = rest[int(size, 16) + 2 :]
    return whole


async def _exchange(host: str, port: int, data: bytes, hangs_up: bool) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    received = bytearray()
    try:
        with suppress(ConnectionError):  # closed in our face: what came before tells the rest
            writer.write(data)
            await writer.drain()
            if hangs_up:
                return b""
            while piece := await reader.read(_READ_BYTES):
                received += piece
    finally:
        writer.close()
    return bytes(received)


def _bytes(mistake: str, authority: str, identity: str) -> bytes:
    right = b'{"model": "soak", "prompt": "Open Sesame", "max_tokens": 4}'
    match mistake:
        case "broken JSON":
            return _request(authority, identity, right[:-5])
        case "no object":
            return _request(authority, identity, b'["Open Sesame"]')
        case "wrong content type":
            return _request(authority, identity, right, content_type="text/html")
        case "body cut short":
            return _request(authority, identity, right, says_bytes=10 * len(right))
        case "no HTTP":
            return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03Open Sesame\r\n\r\n"
        case "long headers":
            return _request(authority, identity, right, more=f"X-Long: {'x' * _LONG_HEADER_BYTES}\r\n")
        case _:
            return _request(authority, identity, right, path="/v1/no/such/path")


def _request(
    authority: str, identity: str, body: bytes, *, path: str = "/v1/completions", content_type: str = _JSON,
    says_bytes: int | None = None, more: str = "",
) -> bytes:  # fmt: skip
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {authority}\r\nX-Request-Id: {identity}\r\nConnection: close\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {says_bytes or len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body
