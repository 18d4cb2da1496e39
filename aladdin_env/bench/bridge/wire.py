"""As little HTTP/1.1 as two ends that know each other need: what is timed is what lies between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_LENGTH = b"content-length:"
_CHUNKED = b"transfer-encoding: chunked"
_BLANK = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


def message_bytes(data: bytes) -> int:
    """Length of the first whole HTTP message in ``data``; 0 where it is not there yet."""
    end = data.find(_BLANK)
    if end < 0:
        return 0
    head, start = data[:end].lower(), end + len(_BLANK)
    at = head.find(_LENGTH)
    if at >= 0:
        whole = start + int(head[at + len(_LENGTH) :].partition(b"\r\n")[0])
        return whole if len(data) >= whole else 0
    if _CHUNKED in head:
        last = data.find(_LAST_CHUNK, start)
        return last + len(_LAST_CHUNK) if last >= 0 else 0
    return start


def new_loop() -> asyncio.AbstractEventLoop:
    """The fastest event loop that there is."""
    make: Callable[[], asyncio.AbstractEventLoop]
    try:
        import uvloop
    except ImportError:  # not on Windows
        make = asyncio.new_event_loop
    else:
        make = uvloop.new_event_loop
    return make()
