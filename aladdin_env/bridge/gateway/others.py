"""What is not placed by the policy: the list of models, and requests that no policy has an opinion on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web

from aladdin_env.bridge.gateway.client import Client, body_of
from aladdin_env.bridge.gateway.headers import REQUEST_ID, forwarded, returned
from aladdin_env.bridge.gateway.problems import Problem
from aladdin_env.bridge.gateway.settings import GatewaySettings
from aladdin_env.bridge.gateway.upstream import Answer, Unanswered, Upstream
from aladdin_env.bridge.workers.worker import Lease, LiveWorker

_AGAIN_S = 2.0
_MODELS_S = 5.0  # longest wait for a worker's list of models
# Nobody's business through a router: they would change a worker under the policy's feet. Unknown paths pass, for the
# next version of vLLM has more; so this list must grow with it.
_CLOSED = re.compile(
    r"/(sleep|wake_up|is_sleeping|pause|resume|is_paused|reset_\w+|collective_rpc|scale_elastic_ep|is_scaling_elastic_ep"
    r"|start_profile|stop_profile|abort_requests|server_info|shutdown\w*|release_\w+|init_weight\w*|start_weight\w*"
    r"|finish_weight\w*|update_weight\w*|weight_\w+|v1/load_lora_adapter|v1/unload_lora_adapter)"
)


class Others:
    """Asks the worker with the fewest requests.

    Args:
        workers: All slots.
        upstream: Reaches them.
        settings: Of the front.
    """

    def __init__(self, workers: Sequence[LiveWorker], upstream: Upstream, settings: GatewaySettings) -> None:
        self._workers = workers
        self._upstream = upstream
        self._settings = settings

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
        """Any other path, to one worker, body and answer as they are; to another where the first does not answer."""
        _check_path(request)
        body = await body_of(request, self._settings.body_s) if request.can_read_body else None
        headers = forwarded(request.headers.items(), identity, self._settings.drops)
        ready = sorted(self._ready(), key=lambda one: one.in_flight)
        if not ready:
            raise Problem(503, "no_worker", "no worker is ready", _AGAIN_S)
        for worker in ready[: 1 + self._settings.retries]:
            with worker.lease() as lease:
                try:
                    answer = await self._upstream.send(
                        request.method, worker.url, request.raw_path, headers, body, whole=False
                    )
                except Unanswered as error:
                    lease.report_failure(str(error)[:200])
                    continue
                with answer:
                    return await self._pass_on(request, identity, worker, lease, answer)
        raise Problem(502, "worker_failed", "no worker answered", _AGAIN_S)

    async def _pass_on(
        self, request: web.Request, identity: str, worker: LiveWorker, lease: Lease, answer: Answer
    ) -> web.StreamResponse:
        headers = returned(answer.headers, identity)
        if "Location" in headers:  # workers' addresses are not for clients
            headers["Location"] = headers["Location"].removeprefix(worker.url)
        out = web.StreamResponse(status=answer.status, headers=headers)
        await out.prepare(request)
        client = Client(request, out, self._settings.stall_s)
        try:
            while data := await answer.some():
                await client.write(data)
        except Unanswered as error:
            lease.report_failure(str(error)[:200])
            client.hang_up()
            raise asyncio.CancelledError from None
        return await client.end(b"")

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


def _check_path(request: web.Request) -> None:
    """Refuse what is not for clients, however it is written, and what is no path of a worker at all."""
    path = request.path
    parts = path.split("/")
    if not request.raw_path.startswith("/") or "" in parts[1:-1] or "." in parts or ".." in parts:
        raise Problem(400, "invalid_path", "give a path without empty parts and dots")
    if _CLOSED.fullmatch(path.rstrip("/")):
        raise Problem(403, "forbidden", f"{path} is for whoever runs the worker: ask it directly")
