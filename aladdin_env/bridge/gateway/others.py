"""What is not placed by the policy: the list of models, and requests that no policy has an opinion on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from aladdin_env.bridge.gateway.headers import REQUEST_ID, forwarded, returned
from aladdin_env.bridge.gateway.problems import Problem
from aladdin_env.bridge.gateway.session import address, worker_session
from aladdin_env.bridge.gateway.settings import GatewaySettings
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.simulator.state import READY

_CHUNK = 1 << 16
# Nobody's business through a router: they would change a worker under the policy's feet.
_CLOSED = frozenset({
    "/sleep", "/wake_up", "/pause", "/resume", "/reset_prefix_cache", "/reset_mm_cache", "/collective_rpc",
    "/scale_elastic_ep", "/start_profile", "/stop_profile", "/update_weights", "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
})  # fmt: skip


class Others:
    """Asks the worker with the fewest requests.

    Args:
        workers: All slots.
        settings: Of the front.
    """

    def __init__(self, workers: Sequence[LiveWorker], settings: GatewaySettings) -> None:
        self._workers = workers
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Begin; an event loop must be running."""
        self._session = worker_session(self._settings)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def models(self, request: web.Request, identity: str) -> web.StreamResponse:
        """``/v1/models``: every model that any READY worker serves, once."""
        ready = self._ready()
        found = await asyncio.gather(*(self._models_of(worker) for worker in ready))
        merged: dict[str, Any] = {}
        for models in found:
            for model in models:
                merged.setdefault(str(model.get("id")), model)
        body = orjson.dumps({"object": "list", "data": list(merged.values())})
        headers = {REQUEST_ID: identity}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def passed(self, request: web.Request, identity: str) -> web.StreamResponse:
        """Any other path, to one worker, body and answer as they are."""
        if request.path in _CLOSED:
            raise Problem(403, "forbidden", f"{request.path} is for whoever runs the worker: ask it directly")
        worker = min(self._ready(), key=lambda one: one.in_flight, default=None)
        if worker is None:
            raise Problem(503, "no_worker", "no worker is ready", 2.0)
        body = await request.read() if request.can_read_body else None
        assert self._session is not None, "the front is not open"
        with worker.lease() as lease:
            try:
                answer = await self._session.request(
                    request.method,
                    address(worker.url, request.raw_path),
                    data=body,
                    headers=forwarded(request.headers.items(), identity),
                    allow_redirects=False,
                )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                lease.report_failure(" ".join(str(error).split())[:200] or type(error).__name__)
                raise Problem(502, "worker_failed", "the worker did not answer") from None
            async with answer:
                out = web.StreamResponse(status=answer.status, headers=returned(answer.headers.items(), identity))
                await out.prepare(request)
                async for data in answer.content.iter_chunked(_CHUNK):
                    await out.write(data)
                await out.write_eof()
                return out

    def _ready(self) -> list[LiveWorker]:
        return [worker for worker in self._workers if worker.status == READY]

    async def _models_of(self, worker: LiveWorker) -> list[dict[str, Any]]:
        assert self._session is not None, "the front is not open"
        try:
            async with asyncio.timeout(5.0), self._session.get(f"{worker.url}/v1/models") as answer:
                data = orjson.loads(await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError):
            return []
        models = data.get("data") if isinstance(data, dict) else None
        return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []
