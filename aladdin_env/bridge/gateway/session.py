"""Connections to workers, as the front uses them."""

from __future__ import annotations

import aiohttp

from aladdin_env.bridge.gateway.settings import GatewaySettings

_KEEP_ALIVE_S = 4.0  # vLLM closes idle connections after 5 s: whoever reuses one later sends into a closed one
_UNSENT = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")  # what the client did not send is not sent


def worker_session(settings: GatewaySettings) -> aiohttp.ClientSession:
    """As many connections as there are requests, bytes as they come, no cookies; to be closed by whoever asks."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_s, sock_read=settings.idle_s),
        auto_decompress=False,
        skip_auto_headers=_UNSENT,
        cookie_jar=aiohttp.DummyCookieJar(),
    )
