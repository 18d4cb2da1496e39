"""Short questions to workers over HTTP: is it well, who is it, how is it doing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aladdin_env.bridge.workers.address import aiohttp_module, authorization
from aladdin_env.errors import OutsideFault

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
        self._headers = authorization(api_key_env)
        self._http = aiohttp_module()
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
