"""The endpoints that clients see: OpenAI's, passed to workers by policy, and the bridge's own."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from aladdin_env.bridge.classes import Classes
from aladdin_env.bridge.dispatcher import Dispatcher, Shed
from aladdin_env.bridge.gateway import asked
from aladdin_env.bridge.gateway.client import body_of
from aladdin_env.bridge.gateway.headers import forwarded, request_id
from aladdin_env.bridge.gateway.lengths import PromptLengths
from aladdin_env.bridge.gateway.others import Others
from aladdin_env.bridge.gateway.problems import Problem
from aladdin_env.bridge.gateway.proxy import Job, Proxy, shed
from aladdin_env.bridge.gateway.settings import GatewaySettings

_log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Given the request's id, too.
Named = Callable[[web.Request, str], Awaitable[web.StreamResponse]]
#: Paths that anybody may ask, key or none: what balancers and monitoring ask.
OPEN = frozenset({"/health", "/ready", "/ping", "/version", "/metrics"})


class Front:
    """Handles the requests of clients.

    Args:
        dispatcher: Places requests.
        proxy: Sends them.
        others: Everything that is not placed.
        classes: Objectives by header.
        lengths: Of prompts.
        settings: Limits and keys.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        proxy: Proxy,
        others: Others,
        classes: Classes,
        lengths: PromptLengths,
        settings: GatewaySettings,
    ) -> None:
        self._dispatcher = dispatcher
        self._proxy = proxy
        self._others = others
        self._classes = classes
        self._lengths = lengths
        self._settings = settings
        self._keys = [f"Bearer {key}".encode() for key in settings.api_keys]

    def routes(self) -> list[web.RouteDef]:
        """Routes of the listener for clients; whatever else they ask goes to a worker as it is."""
        placed = [web.post(path, self._guarded(self._placed)) for path in sorted(asked.PLACED)]
        return [
            *placed,
            web.get("/v1/models", self._guarded(self._others.models)),
            web.route("*", "/{path:.*}", self._guarded(self._others.passed)),
        ]

    def _guarded(self, handler: Named) -> Handler:
        """The handler behind the key, with every refusal as an error object."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            identity = request_id(request.headers)
            try:
                self._check_key(request)
                return await handler(request, identity)
            except Problem as problem:
                return problem.response(identity)
            except web.HTTPRequestEntityTooLarge:
                limit = self._settings.max_body_bytes
                return Problem(413, "body_too_large", f"a body has at most {limit} bytes").response(identity)
            except web.RequestPayloadError as error:
                why = " ".join(str(error).split())[:200]
                return Problem(400, "invalid_body", f"the body cannot be read: {why}").response(identity)
            except (ConnectionResetError, aiohttp.ClientConnectionResetError):
                raise asyncio.CancelledError from None  # nobody is there to be answered
            except Exception:
                _log.exception("request %s failed", identity)
                return Problem(500, "internal_error", "the bridge made a mistake; its log has more").response(identity)

        return guarded

    def _check_key(self, request: web.Request) -> None:
        if not self._keys or (request.path in OPEN and request.method in ("GET", "HEAD")):
            return
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not any([hmac.compare_digest(given, key) for key in self._keys]):  # all of them: time tells nothing
            raise Problem(401, "invalid_api_key", "give one of the bridge's API keys as a bearer token")

    async def _placed(self, request: web.Request, identity: str) -> web.StreamResponse:
        """A request for tokens."""
        asked.check_content_type(request.content_type)
        read = asked.read(request.path, await body_of(request, self._settings.body_s))
        lengths = self._lengths
        prompt_tokens = await lengths.counted(request.path, read) if lengths.needs_counting(read) else lengths.of(read)
        try:
            ticket = self._dispatcher.enter(identity, prompt_tokens, self._classes.of(request.headers), read.streams)
        except Shed as refused:
            raise shed(refused, self._dispatcher.queueing.max_hold_s) from None
        headers = forwarded(request.headers.items(), identity, self._settings.drops)
        try:
            return await self._proxy.serve(request, Job(request.raw_path, headers, read, ticket))
        except Shed as refused:
            raise shed(refused, self._dispatcher.queueing.max_hold_s) from None
        finally:
            self._dispatcher.leave(ticket)  # where it has not ended otherwise: the client hung up


def make_app(front: Front, own: Mapping[str, Handler], settings: GatewaySettings) -> web.Application:
    """The application for clients: the bridge's own pages first, then everything else."""
    app = web.Application(client_max_size=settings.max_body_bytes)
    app.router.add_routes([web.get(path, handler) for path, handler in own.items()])
    app.router.add_routes(front.routes())
    return app


def runner_of(app: web.Application, drain_s: float, **more: Any) -> web.AppRunner:
    """Serves an application; a client that hangs up cancels the handler of its request."""
    return web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=drain_s, **more)
