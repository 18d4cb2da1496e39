"""A worker whose every answer a test decides, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

Answer = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


def chunk(text: str, **more: object) -> bytes:
    """An event of a completion's stream."""
    event = {"choices": [{"index": 0, "text": text, "finish_reason": None, **more}]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3}}\n\n'
DONE = b"data: [DONE]\n\n"


async def whole(request: web.Request, body: bytes) -> web.StreamResponse:
    """An answer in one piece."""
    found = {"choices": [{"text": "abc", "index": 0}], "usage": {"prompt_tokens": 11, "completion_tokens": 3}}
    return web.json_response(found, headers={"X-From": "worker"})


async def begun(request: web.Request) -> web.StreamResponse:
    """The head of a stream."""
    out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await out.prepare(request)
    return out


async def streamed(request: web.Request, body: bytes) -> web.StreamResponse:
    """Three tokens, usage where it was asked for, and the end."""
    out = await begun(request)
    for text in "abc":
        await out.write(chunk(text))
    if b"include_usage" in body:
        await out.write(USAGE)
    await out.write(DONE)
    await out.write_eof()
    return out


async def broken_off(request: web.Request, body: bytes) -> web.StreamResponse:
    """Dies after a token."""
    out = await begun(request)
    await out.write(chunk("a"))
    assert request.transport is not None
    await asyncio.sleep(0.05)
    request.transport.abort()
    return out


async def only_begun(request: web.Request, body: bytes) -> web.StreamResponse:
    """Dies after the head of a stream, as a worker does that is killed in the prefill."""
    out = await begun(request)
    assert request.transport is not None
    await asyncio.sleep(0.05)
    request.transport.abort()
    return out


def status(code: int, **headers: str) -> Answer:
    """Always this status, with a body of its own."""

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        body = b'{"error": {"message": "mine"}}'
        return web.Response(status=code, body=body, content_type="application/json", headers=headers)

    return answer


class Backend:
    """Answers completions as it is told; remembers what it saw.

    Attributes:
        answer: What it does with a completion.
        seen: (path, headers by their names in lower case, body) of the completions.
        hung_up: Set when a client has left before its answer was complete.
    """

    def __init__(self) -> None:
        self.answer: Answer = whole
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.hung_up = asyncio.Event()
        self.reached = asyncio.Event()

    async def __aenter__(self) -> Backend:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/health", self._well)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._nothing)
        app.router.add_route("*", "/{path:.*}", self._any)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _well(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _nothing(self, request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 4096}]})

    async def _any(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.path_qs, {name.lower(): value for name, value in request.headers.items()}, body))
        self.reached.set()
        try:
            return await self.answer(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.hung_up.set()
            raise
