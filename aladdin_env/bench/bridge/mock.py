"""Backends that answer at once, with the same few hundred bytes, several ports to a process."""

from __future__ import annotations

import asyncio
import json
import signal
from multiprocessing.connection import Connection
from typing import cast

from aladdin_env.bench.bridge.wire import message_bytes, new_loop
from aladdin_env.bridge.conformance.scripts import MODEL, metrics_text

_MESSAGE = {"role": "assistant", "content": "A genie grants what is asked, not what is meant.", "refusal": None}
_USAGE = {"prompt_tokens": 512, "completion_tokens": 12, "total_tokens": 524}
_CHOICE = {"index": 0, "message": _MESSAGE, "finish_reason": "stop"}
ANSWER = {"id": "answer-1", "object": "chat.completion", "model": MODEL, "choices": [_CHOICE], "usage": _USAGE}
_MODELS = {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 4096}]}


def _response(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_POST = _response(json.dumps(ANSWER).encode())
_GET = {
    b"/health": _response(b""),
    b"/v1/models": _response(json.dumps(_MODELS).encode()),
    b"/version": _response(b'{"version": "0.25.1"}'),
    b"/metrics": _response(metrics_text(0).encode(), "text/plain; version=0.0.4"),
}
_NONE = _response(b'{"detail": "Not Found"}', status="404 Not Found")


class _Backend(asyncio.Protocol):
    """One connection of a router."""

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        held = self._held + data if self._held else data
        while held and (size := message_bytes(held)):
            if held.startswith(b"POST"):
                self._transport.write(_POST)
            else:
                self._transport.write(_GET.get(held[: held.find(b" ", 4)].rpartition(b" ")[2], _NONE))
            held = held[size:]
        self._held = held


def serve(count: int, told: Connection) -> None:
    """Listen on ``count`` ports, tell which, and answer until the other end of ``told`` is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    loop = new_loop()
    servers = [loop.run_until_complete(loop.create_server(_Backend, "127.0.0.1", 0)) for _ in range(count)]
    told.send([server.sockets[0].getsockname()[1] for server in servers])
    loop.add_reader(told.fileno(), loop.stop)
    loop.run_forever()
