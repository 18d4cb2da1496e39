"""Connections that ask nothing: aiohttp waits without limit for a first request, and for the end of a head."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.web_protocol import RequestHandler


async def close_idlers(runner: web.AppRunner, idler_s: float) -> None:
    """Close connections without a request for ``idler_s`` seconds, at the latest a quarter later; until cancelled.

    Those that are kept after an answer aiohttp closes itself, sooner than the usual limit.
    """
    loop = asyncio.get_running_loop()
    since_s: dict[RequestHandler, float] = {}
    while runner.server is not None:
        await asyncio.sleep(idler_s / 4)
        now_s = loop.time()
        idle = [one for one in runner.server.connections if getattr(one, "_current_request", None) is None]
        since_s = {one: since_s.get(one, now_s) for one in idle}
        for one, begun_s in since_s.items():
            if now_s - begun_s >= idler_s:
                one.force_close()
