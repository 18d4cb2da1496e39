"""A client of OpenAI-compatible completion servers that times every token.

``async with Client(url) as client: record = await client.complete([5, 6, 7], max_tokens=16)``: a request that fails
gives a record with an ``error``, so that a replay of thousands goes on; what no request could mend (a wrong address,
a refused key) is an InputError of :meth:`Client.models`, and a server that fails where it must not a
:class:`ServerFault`. Nothing waits longer than ``stall_s`` for the next byte.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aladdin_calibration.server.stream import Completion, EventReader, StreamError, error_text
from aladdin_env.bridge.workers.address import aiohttp_module, authorization, worker_url
from aladdin_traces import checks
from aladdin_traces.errors import InputError, OutsideFault

if TYPE_CHECKING:
    import aiohttp

_KEEP_ALIVE_S = 4.0  # servers close idle connections after 5 s; whoever is later sends into a closed one
_ERROR_BODY_BYTES = 65536
_FIRST_ANSWER_S = 10.0  # for the list of models: what does not answer within is no server that can be measured
Prompt = Sequence[int] | str


class ServerFault(OutsideFault):
    """The server failed, or is in a state in which it cannot be measured; the text is one line that says what to do."""


@dataclass(frozen=True)
class Dialect:
    """What a server takes beyond OpenAI's own fields.

    Attributes:
        token_prompts: Prompts as token ids; else only text.
        extras: ``ignore_eos`` and ``return_token_ids`` (vLLM), and a running ``usage``; else plain OpenAI fields.
    """

    token_prompts: bool = True
    extras: bool = True


class Client:
    """Asynchronous client of one server; use it with ``async with``.

    Args:
        url: Address of the server, with or without the trailing ``/v1``.
        model: Served model; None takes the first that :meth:`models` finds.
        api_key_env: Name of the environment variable that holds the API key; the key itself is never shown.
        stall_s: Longest wait for the next byte of an answer, seconds.
        connect_s: Longest wait for a connection, seconds.
        dialect: What the server takes.

    Attributes:
        sent: Completions asked for so far.
        finished: Completions that came whole so far.

    Raises:
        InputError: The URL is none, the variable is not set, a limit is not positive, or aiohttp is not installed.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key_env: str | None = None,
        stall_s: float = 60.0,
        connect_s: float = 5.0,
        dialect: Dialect = Dialect(),
    ) -> None:
        self.url = worker_url(url, "url")
        self.model = model
        self.dialect = dialect
        self.sent = 0
        self.finished = 0
        self._api_key_env = api_key_env
        self._headers = authorization(api_key_env)
        self._stall_s = checks.number("stall_s", stall_s, above=0.0)
        self._connect_s = checks.number("connect_s", connect_s, above=0.0)
        self._http = aiohttp_module()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        http = self._http
        self._session = http.ClientSession(
            headers=self._headers,
            connector=http.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            timeout=http.ClientTimeout(total=None, sock_connect=self._connect_s, sock_read=self._stall_s),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def complete(
        self, prompt: Prompt, max_tokens: int, on_token: Callable[[Completion], None] | None = None
    ) -> Completion:
        """Send one streaming completion and return its record; a failure is its ``error``, not an exception.

        Args:
            prompt: Token ids, or text.
            max_tokens: Output tokens to ask for.
            on_token: Called with the growing record whenever output tokens have arrived.
        """
        record = Completion(max_tokens)
        body = json.dumps(self._body(prompt, max_tokens)).encode()
        self.sent += 1
        record.sent_s = time.perf_counter()
        try:
            async with self._post("/v1/completions", body) as response:
                record.status = response.status
                await self._checked(response)
                reader = EventReader(record)
                async for data in response.content.iter_any():
                    if reader.feed(data, time.perf_counter()) and on_token is not None:
                        on_token(record)
                reader.close()
                self.finished += 1
        except StreamError as error:
            record.error = str(error)
        except (OSError, self._http.ClientError) as error:
            record.error = self._fault_text(error)
        record.ended_s = time.perf_counter()
        return record

    async def models(self) -> list[dict[str, Any]]:
        """The entries of ``/v1/models``; chooses the first as ``model`` if none was given.

        Raises:
            InputError: Nothing answers, it is no such server, it wants another key, or it does not serve ``model``.
            ServerFault: It answers that it cannot serve now.
        """
        status, text = await self._reachable("/v1/models")
        if status in (401, 403):
            mend = f"name the environment variable with the right key: {self.url} answers {status}"
            raise InputError("api_key_env", self._api_key_env, mend)
        if status >= 500 or status == 429:
            raise ServerFault(f"{self.url} answers {status}: wait until the server is ready")
        try:
            models = [dict(entry) for entry in json.loads(text)["data"]]
            names = [str(entry["id"]) for entry in models]
        except (ValueError, LookupError, TypeError):
            mend = f"give the address of an OpenAI-compatible server (its /v1/models answers {status})"
            raise InputError("url", self.url, mend) from None
        if not names:
            raise ServerFault(f"{self.url} serves no model yet: wait until the server is ready")
        if self.model is None:
            self.model = names[0]
        if self.model not in names:
            raise InputError("model", self.model, f"the server has {', '.join(names)}")
        return models

    async def get(self, path: str, within_s: float | None = None) -> tuple[int, str]:
        """Status and text of a GET on this server; each byte comes within ``stall_s``, the whole within ``within_s``.

        Raises:
            ServerFault: No whole answer came.
        """
        try:
            async with asyncio.timeout(within_s):
                async with self._open().get(f"{self.url}{path}", allow_redirects=False) as response:
                    return response.status, await response.text(errors="replace")
        except (OSError, self._http.ClientError) as error:
            raise ServerFault(f"{self.url}{path}: {self._fault_text(error, within_s)}") from None

    async def _reachable(self, path: str) -> tuple[int, str]:
        try:
            return await self.get(path, min(_FIRST_ANSWER_S, self._stall_s))
        except ServerFault as fault:
            raise InputError("url", self.url, f"start the server or mend the address ({fault})") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the client with 'async with'")
        return self._session

    def _post(self, path: str, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        return self._open().post(f"{self.url}{path}", data=body, headers=headers, allow_redirects=False)

    def _body(self, prompt: Prompt, max_tokens: int) -> dict[str, Any]:
        options: dict[str, Any] = {"include_usage": True}
        body = {
            "model": self.model,
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": options,
        }
        if self.dialect.extras:
            body |= {"ignore_eos": True, "return_token_ids": True}
        return body

    async def _checked(self, response: aiohttp.ClientResponse) -> None:
        """StreamError unless the answer is a stream of events."""
        kind = response.content_type
        if response.status == 200 and kind == "text/event-stream":
            return
        text = (await response.content.read(_ERROR_BODY_BYTES)).decode(errors="replace")
        if response.status == 200:
            raise StreamError(f"the server does not stream (it answers {kind})")
        try:
            said = error_text(json.loads(text))
        except ValueError:
            said = error_text(text)
        raise StreamError(f"the server answers {response.status}: {said or response.reason}")

    def _fault_text(self, error: BaseException, within_s: float | None = None) -> str:
        if isinstance(error, self._http.ClientConnectorError):
            number = error.os_error.errno or 0
            return f"no connection ({os.strerror(number) if number > 0 else error.os_error.strerror or error.os_error})"
        if isinstance(error, TimeoutError):
            return f"no answer within {within_s or self._stall_s:g} s"
        return f"the connection broke ({' '.join(str(error).split()) or type(error).__name__})"
