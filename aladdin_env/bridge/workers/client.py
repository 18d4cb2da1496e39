"""Short questions to workers over HTTP: is it well, who is it, how is it doing."""

from __future__ import annotations

import asyncio
import os
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aladdin_env.errors import InputError, OutsideFault

if TYPE_CHECKING:
    import aiohttp

_KEEP_ALIVE_S = 4.0  # vLLM closes idle connections after 5 s; whoever is later sends into a closed one
_MOST_BYTES = 8 << 20  # no page that we ask for is longer


class Unreachable(OutsideFault):
    """No whole answer came; the text is one line."""


class WorkerClient:
    """Asks workers, between ``open`` and ``close``.

    Args:
        api_key_env: Name of the environment variable with the key that the workers want; None: they want none.

    Raises:
        InputError: The variable is not set, or aiohttp is not installed.
    """

    def __init__(self, api_key_env: str | None = None) -> None:
        self.api_key_env = api_key_env
        self._headers = _authorization(api_key_env)
        self._http = _aiohttp()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Begin; an event loop must be running."""
        # Connections of its own: a question must not wait for one that carries requests.
        connector = self._http.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
        self._session = self._http.ClientSession(headers=self._headers, connector=connector)

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, address: str, within_s: float) -> tuple[int, str]:
        """Status and text of a GET.

        Raises:
            Unreachable: No whole answer came within ``within_s``.
        """
        if self._session is None:
            raise RuntimeError("the client is not open")
        try:
            async with asyncio.timeout(within_s):
                async with self._session.get(address, allow_redirects=False) as response:
                    return response.status, (await _body(response)).decode(errors="replace")
        except TimeoutError:
            raise Unreachable(f"no answer from {address} within {within_s:g} s") from None
        except (OSError, self._http.ClientError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise Unreachable(f"no answer from {address} ({said})") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise OSError(f"the answer is longer than {_MOST_BYTES} bytes")
    return b"".join(parts)


def worker_url(text: str) -> str:
    """The address of a worker as given by a user, without a trailing slash and ``/v1``.

    Raises:
        InputError: It is no http(s) address, or has a user and password in it.
    """
    try:
        parts = urlsplit(text.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is no number
        usable = False
    if not usable or parts.query or parts.fragment:
        raise InputError("worker", text, "give an address such as http://gpu1:8000")
    if parts.username is not None:  # would stand in every message
        mend = "give the address without user and password; a key goes into an environment variable (api_key_env)"
        raise InputError("worker", parts.hostname, mend)
    return text.strip().rstrip("/").removesuffix("/v1").rstrip("/")


def _authorization(variable: str | None) -> dict[str, str]:
    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError("api_key_env", variable, "set this environment variable to the key that the workers want")
    return {"Authorization": f"Bearer {key}"}


def _aiohttp() -> ModuleType:
    try:
        import aiohttp
    except ImportError:
        raise InputError("aiohttp", None, "it is missing: pip install 'aladdin-env[serve]'") from None
    return aiohttp
