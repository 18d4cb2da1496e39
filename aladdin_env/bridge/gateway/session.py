"""Connections to workers, as the front uses them."""

from __future__ import annotations

from typing import Any

import aiohttp
from yarl import URL

from aladdin_env.bridge.gateway.settings import GatewaySettings

_KEEP_ALIVE_S = 4.0  # vLLM closes idle connections after 5 s: whoever reuses one later sends into a closed one
_UNSENT = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # what the client did not send is not sent


def worker_session(settings: GatewaySettings, *, keeps: bool = True) -> aiohttp.ClientSession:
    """As many connections as there are requests, bytes as they come, no cookies; to be closed by whoever asks.

    Without ``keeps`` every request has a connection of its own.
    """
    kept: dict[str, Any] = {"keepalive_timeout": _KEEP_ALIVE_S} if keeps else {"force_close": True}
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, **kept),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_s, sock_read=settings.idle_s),
        auto_decompress=False,
        skip_auto_headers=_UNSENT,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def address(url: str, path: str) -> URL:
    """The path of a worker, with its query, in the very bytes of the client: ``%2F`` stays what it is."""
    return URL(url + path, encoded=True)
