"""The bridge's own pages: ``/metrics``, ``/status``, ``/health``, ``/ready``, ``/version``."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from aladdin_env.bridge.gateway.problems import Problem
from aladdin_env.bridge.watch.metrics import Metrics, own_version
from aladdin_env.bridge.watch.sources import Sources
from aladdin_env.bridge.watch.status import Status


class Pages:
    """Answers scrapers, balancers and scripts.

    Args:
        sources: The bridge.
        metrics: For ``/metrics``.
        status: For ``/status``.
        ready_at_zero: Whether the bridge is ready while no worker is, and can start one: requests wait for it.
    """

    def __init__(self, sources: Sources, metrics: Metrics, status: Status, ready_at_zero: bool) -> None:
        self._sources, self._metrics, self._status = sources, metrics, status
        self._ready_at_zero = ready_at_zero

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """What Prometheus reads, in the format that it asks for."""
        body, content_type = self._metrics.page(",".join(request.headers.getall("Accept", ())))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def status(self, request: web.Request) -> web.StreamResponse:
        """Everything, for scripts and people."""
        return _json(self._status.whole())

    async def health(self, request: web.Request) -> web.StreamResponse:
        """200 as long as the process answers."""
        return _json({"status": "ok"})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """200 where a request would be served now, or soon; else 503 and why."""
        ready, slots = self._sources.ready(), len(self._sources.pool.workers)
        if self._sources.dispatcher.closing:
            return Problem(503, "shutting_down", "the bridge is shutting down").response()
        if not ready and not (self._ready_at_zero and self._sources.pool.can_scale):
            return Problem(503, "no_worker", f"none of {slots} workers is ready", 1.0).response()
        return _json({"status": "ready", "ready": ready, "slots": slots})

    async def version(self, request: web.Request) -> web.StreamResponse:
        """Which version this is."""
        return _json({"version": own_version()})


def _json(fields: dict[str, Any]) -> web.Response:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(fields), headers=headers)
