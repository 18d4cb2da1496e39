"""The HTTP front of an emulated worker: OpenAI's paths and vLLM's own."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib import metadata
from typing import Any

from aiohttp import web

from aladdin_env.bridge.emulator.asked import Asked, Body, parse, read_completion, read_detokenize, read_tokenize
from aladdin_env.bridge.emulator.engine import Full
from aladdin_env.bridge.emulator.measures import CONTENT_TYPE
from aladdin_env.bridge.emulator.refusal import Refusal, unavailable
from aladdin_env.bridge.emulator.settings import EmulatorSettings
from aladdin_env.bridge.emulator.text import Continuation
from aladdin_env.bridge.emulator.wording import Wording, request_metrics
from aladdin_env.bridge.emulator.worker import Answer, Worker

_REQUEST_ID = "X-Request-Id"
_JSON = {"Content-Type": "application/json"}
_EVENTS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(eq=False)
class _Served:
    """A completion that is being served."""

    asked: Asked
    answer: Answer
    wording: Wording
    headers: dict[str, str]


class Front:
    """Answers HTTP requests with what ``worker`` does.

    Args:
        settings: How the worker is set up.
        worker: The worker.

    Attributes:
        faults: How it misbehaves from now on.
        ready: Whether it serves; until then, and while it is ``stopping``, it answers 503.
        quiet: Set while no completion is being served.
    """

    def __init__(self, settings: EmulatorSettings, worker: Worker) -> None:
        self.settings, self.worker = settings, worker
        self.faults = settings.faults
        self.ready, self.stopping = False, False
        self.quiet = asyncio.Event()
        self.quiet.set()
        self._busy = 0
        self._model, self._longest = settings.model_name, settings.longest
        self._overhead_s = worker.kind.latency.overhead_s
        self._luck = random.Random(settings.seed)
        self._created = int(time.time())

    def application(self) -> web.Application:
        """The application with all paths."""
        application = web.Application(middlewares=[_tell_refusals], client_max_size=self.settings.max_body_bytes)
        application.add_routes(
            [
                web.post("/v1/completions", self._completion),
                web.post("/v1/chat/completions", self._chat),
                web.post("/tokenize", self._tokenize),
                web.post("/detokenize", self._detokenize),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/ping", self._health),
                web.post("/ping", self._health),
                web.get("/version", self._version),
                web.get("/metrics", self._metrics),
            ]
        )
        return application

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._complete(request, chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._complete(request, chat=True)

    async def _complete(self, request: web.Request, chat: bool) -> web.StreamResponse:
        asked = read_completion(await self._body(request), chat, self._longest)
        served = self._begin(asked, request.headers.get(_REQUEST_ID))
        self._busy += 1
        self.quiet.clear()
        try:
            return await (self._stream(request, served) if asked.stream else self._whole(request, served))
        finally:  # however it ends: with its last token, or because the client is gone
            self.worker.drop(served.answer)
            self._busy -= 1
            if self._busy == 0:
                self.quiet.set()

    def _begin(self, asked: Asked, request_id: str | None) -> _Served:
        self._misbehave()
        said = Continuation(asked.prompt, self.settings.seed)
        tokens = asked.max_tokens
        if not asked.ignore_eos:
            tokens = min(tokens, max(asked.min_tokens, said.natural_length(self.settings.output_tokens)))
        kind = self.worker.kind
        blocks = asked.prompt.blocks(kind.block_size) if kind.prefix_cache else ()
        reason = "length" if tokens == asked.max_tokens else "stop"
        try:
            answer = self.worker.submit(len(asked.prompt), tokens, reason, blocks)
        except Full:
            raise unavailable("no more requests fit into the queue") from None
        identity = f"{'chatcmpl' if asked.chat else 'cmpl'}-{request_id or uuid.uuid4().hex}"
        wording = Wording(asked, said, identity, int(time.time()), self._model)
        return _Served(asked, answer, wording, {} if request_id is None else {_REQUEST_ID: request_id})

    def _misbehave(self) -> None:
        """Refuse a completion where the faults say so."""
        if self._luck.random() < self.faults.error_rate:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the engine has failed, as it was told to")
        if self.faults.max_queued is not None:
            self.worker.catch_up()
            if self.worker.in_flight >= self.faults.max_queued:
                raise unavailable(f"{self.worker.in_flight} requests wait or run already")

    async def _stream(self, request: web.Request, served: _Served) -> web.StreamResponse:
        response = web.StreamResponse(headers=_EVENTS | served.headers)
        await response.prepare(request)
        answer, wording = served.answer, served.wording
        told = 0
        try:
            while not answer.ended or told < answer.generated:
                told = await answer.tokens(told + 1)
                if self._dies(told):
                    await response.write(wording.events(self.faults.die_after or told, None))
                    return _break_off(request, response)
                data = wording.events(told, answer.reason if answer.ended else None)
                await response.write(data + wording.ending(self._times(answer)) if answer.ended else data)
        except ConnectionResetError:
            pass  # the client went while we wrote
        return response

    async def _whole(self, request: web.Request, served: _Served) -> web.StreamResponse:
        answer = served.answer
        most = answer.output_tokens
        generated = await answer.tokens(most if self.faults.die_after is None else min(most, self.faults.die_after))
        if self._dies(generated):
            return _break_off(request, web.Response())
        body = served.wording.whole(generated, answer.reason, self._times(answer))
        return web.Response(body=body, headers=_JSON | served.headers)

    def _dies(self, generated: int) -> bool:
        return self.faults.die_after is not None and generated >= self.faults.die_after

    def _times(self, answer: Answer) -> dict[str, Any] | None:
        if not self.settings.per_request_metrics or answer.times is None:
            return None
        return request_metrics(answer.times, self._overhead_s, answer.generated)

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        tokens = read_tokenize(body)
        ids = tokens.ids
        texts = [type(tokens).of_ids([one]).text for one in ids] if body.get("return_token_strs") else None
        return _json({"count": len(ids), "max_model_len": self._longest, "tokens": ids, "token_strs": texts})

    async def _detokenize(self, request: web.Request) -> web.Response:
        return _json({"prompt": read_detokenize(await self._body(request)).text})

    async def _models(self, request: web.Request) -> web.Response:
        self._check_up()
        card = {
            "id": self._model,
            "object": "model",
            "created": self._created,
            "owned_by": "aladdin-env",
            "root": self._model,
            "parent": None,
            "max_model_len": self._longest,
        }
        return _json({"object": "list", "data": [card]})

    async def _health(self, request: web.Request) -> web.Response:
        self._check_up()
        return web.Response()

    async def _version(self, request: web.Request) -> web.Response:
        profile, speed = self.settings.kind.latency.name, self.settings.speed
        return _json({"version": metadata.version("aladdin-env"), "emulates": profile, "speed": speed})

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.worker.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _body(self, request: web.Request) -> Body:
        self._check_up()
        return parse(await request.read(), request.content_type, self._model)

    def _check_up(self) -> None:
        if not self.ready:
            raise unavailable("the worker is starting")
        if self.stopping:
            raise unavailable("the worker is stopping")


@web.middleware
async def _tell_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever is refused, by us or by the HTTP library, with an error object."""
    try:
        return await handler(request)
    except Refusal as refusal:
        told = refusal
    except web.HTTPException as error:
        told = Refusal(error.status, f"{request.method} {request.path}: {error.reason}", headers=_allowed(error))
    return web.Response(status=told.status, body=told.body, headers=_JSON | told.headers)


def _allowed(error: web.HTTPException) -> dict[str, str]:
    return {name: value for name, value in error.headers.items() if name == "Allow"}


def _break_off(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection in the middle of an answer."""
    if request.transport is not None:
        request.transport.close()
    return response


def _json(value: dict[str, Any]) -> web.Response:
    return web.Response(body=json.dumps(value).encode(), headers=_JSON)
