"""A small router that does all that is asked, and the same with one fault.

``python routers.py PORT FAULT BACKEND ...`` runs it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

HOPS = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection", "expect"}
REST_S = 0.5
SORRY = {"error": {"message": "no backend takes the request", "code": "no_backend"}}
GONE = b'data: {"error": {"message": "the backend has gone", "code": "backend_gone"}}\n\n'


class Router:
    """Least loaded first; what fails rests for a while; ``fault`` names what it does wrong."""

    def __init__(self, backends: Sequence[str], fault: str = "") -> None:
        self.load = dict.fromkeys(backends, 0)
        self.rests_until = dict.fromkeys(backends, 0.0)
        self.fault = fault
        self.session: aiohttp.ClientSession | None = None
        self.paths = {"/"}
        self.kept: set[asyncio.Future[web.StreamResponse]] = set()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_route("*", "/{path:.*}", self.forward)
        app.cleanup_ctx.append(self.connected)
        return app

    async def connected(self, _: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self.session:
            yield

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(text="well")

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(text="".join(f'toy_requests{{path="{path}"}} 1\n' for path in sorted(self.paths)))

    async def models(self, _: web.Request) -> web.Response:
        assert self.session is not None
        found = {}
        for backend in self.load:
            async with self.session.get(f"{backend}/v1/models") as answer:
                found |= {entry["id"]: entry for entry in (await answer.json())["data"]}
        return web.json_response({"object": "list", "data": list(found.values())})

    async def forward(self, request: web.Request) -> web.StreamResponse:
        if self.fault == "labels all":
            self.paths.add(request.path)
        await request.read()
        if self.fault != "works on":
            return await self.attempts(request)
        kept = asyncio.ensure_future(self.attempts(request))
        self.kept.add(kept)
        return await asyncio.shield(kept)

    async def attempts(self, request: web.Request) -> web.StreamResponse:
        request_id = request.headers.get("X-Request-Id") or uuid.uuid4().hex
        headers = end_to_end(request.headers) | {"X-Request-Id": request_id}
        if self.fault == "drops headers":
            headers = {"Content-Type": request.headers.get("Content-Type", "")}
        tried: list[str] = []
        last: web.StreamResponse | None = None
        while len(tried) < (1 if self.fault == "never retries" else len(self.load)):
            backend = self.choose(tried, await request.read())
            tried.append(backend)
            try:
                last = await self.attempt(request, backend, headers, request_id)
            except aiohttp.ClientConnectionError:
                if request.transport is None:  # it was the client's
                    raise
                self.rests_until[backend] = time.monotonic() + REST_S
                continue
            if isinstance(last, web.Response) and last.status in self.retried():
                self.rests_until[backend] = time.monotonic() + REST_S
                continue
            return last
        if last is not None:
            return last
        return web.json_response(SORRY, status=503, headers={"Retry-After": "1", "X-Request-Id": request_id})

    def retried(self) -> tuple[int, ...]:
        return (503, 400, 404, 422) if self.fault == "retries mistakes" else (503,)

    def choose(self, tried: Sequence[str], body: bytes) -> str:
        left = [backend for backend in self.load if backend not in tried]
        awake = left if self.fault == "tries the dead" else [b for b in left if self.rests_until[b] <= time.monotonic()]
        if self.fault == "sticks to prefixes":
            return (awake or left)[hash(body[:300]) % len(awake or left)]
        return min(awake or left, key=self.load.__getitem__)

    @asynccontextmanager
    async def slot(self, backend: str) -> AsyncIterator[None]:
        self.load[backend] += 1
        try:
            yield
        except asyncio.CancelledError:
            self.load[backend] += self.fault == "leaks"
            raise
        finally:
            self.load[backend] -= 1

    async def attempt(
        self, request: web.Request, backend: str, headers: dict[str, str], request_id: str
    ) -> web.StreamResponse:
        assert self.session is not None
        url = aiohttp.client.URL(backend + request.raw_path, encoded=True)
        body = await request.read()
        skipped = ("Accept-Encoding", "User-Agent")
        async with (
            self.slot(backend),
            self.session.request(request.method, url, headers=headers, data=body, skip_auto_headers=skipped) as answer,
        ):
            named = end_to_end(answer.headers) | {"X-Request-Id": request_id}
            if answer.status != 200 or self.fault == "buffers":
                return await self.whole(answer, named)
            return await self.streamed(request, answer, named)

    async def whole(self, answer: aiohttp.ClientResponse, headers: dict[str, str]) -> web.StreamResponse:
        try:
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)
        except aiohttp.ClientPayloadError:
            return web.json_response(SORRY, status=502)

    async def streamed(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = answer.content_length
        await response.prepare(request)
        try:
            async for data in answer.content.iter_any():
                await response.write(data)
        except aiohttp.ClientPayloadError:
            await self.broken(request, response)
        return response

    async def broken(self, request: web.Request, response: web.StreamResponse) -> None:
        if self.fault == "hides deaths":
            return
        if self.fault == "retries late":
            assert self.session is not None
            async with self.session.post(f"{min(self.load)}{request.raw_path}", data=await request.read()) as again:
                again.close()
        if response.content_type == "text/event-stream":
            await response.write(GONE)
        elif request.transport is not None:
            request.transport.abort()


def end_to_end(headers: object) -> dict[str, str]:
    """Headers without those of the connection."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    dropped = HOPS | named | {"host", "content-length", "date", "server"}
    return {name: value for name, value in headers.items() if name.lower() not in dropped}


@asynccontextmanager
async def routing(backends: Sequence[str], fault: str = "") -> AsyncIterator[str]:
    """A router in this process; its address."""
    runner = web.AppRunner(
        Router(backends, fault).app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    port, wrong, *addresses = sys.argv[1:]
    print(json.dumps({"backends": addresses}), flush=True)
    web.run_app(Router(addresses, wrong).app(), host="127.0.0.1", port=int(port), handler_cancellation=True)
