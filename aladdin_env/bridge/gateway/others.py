"""What is not placed by the policy: the list of models, and requests that no policy has an opinion on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web

from aladdin_env.bridge.gateway.headers import REQUEST_ID, forwarded, returned
from aladdin_env.bridge.gateway.problems import Problem
from aladdin_env.bridge.gateway.upstream import Unanswered, Upstream
from aladdin_env.bridge.workers.worker import LiveWorker

_MODELS_S = 5.0  # longest wait for a worker's list of models
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
        upstream: Reaches them.
    """

    def __init__(self, workers: Sequence[LiveWorker], upstream: Upstream) -> None:
        self._workers = workers
        self._upstream = upstream

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
        headers = forwarded(request.headers.items(), identity)
        with worker.lease() as lease:
            try:
                answer = await self._upstream.send(request.method, worker.url, request.raw_path, headers, body)
            except Unanswered as error:
                lease.report_failure(str(error)[:200])
                raise Problem(502, "worker_failed", "the worker did not answer") from None
            with answer:
                out = web.StreamResponse(status=answer.status, headers=returned(answer.headers, identity))
                await out.prepare(request)
                while data := await answer.some():
                    await out.write(data)
                await out.write_eof()
                return out

    def _ready(self) -> list[LiveWorker]:
        return [worker for worker in self._workers if worker.takes_new]

    async def _models_of(self, worker: LiveWorker) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(_MODELS_S):
                with await self._upstream.send("GET", worker.url, "/v1/models", (), None) as answer:
                    data = orjson.loads(await answer.read())
        except (OSError, orjson.JSONDecodeError):  # a TimeoutError is an OSError
            return []
        models = data.get("data") if isinstance(data, dict) else None
        return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []
