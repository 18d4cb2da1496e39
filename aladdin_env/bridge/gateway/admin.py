"""Admin calls, on a listener of their own, bound to the machine by default: who decides, and how many workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from aladdin_env.bridge.gateway.problems import Problem, bad_request
from aladdin_env.errors import InputError, OutsideFault

if TYPE_CHECKING:
    from aladdin_env.bridge.server import Bridge

_MOST_BYTES = 64 << 10
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Admin:
    """``POST /mode``, ``/policy``, ``/scale``, ``/drain``, each with a JSON object; ``GET /state``.

    Args:
        bridge: What is changed.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def app(self, pages: Mapping[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]) -> web.Application:
        """The application for the admin listener: the calls, and the bridge's own pages by path."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_routes([
            *(web.get(path, page) for path, page in pages.items()),
            web.get("/state", self._state),
            web.post("/mode", self._told(self._mode)),
            web.post("/policy", self._told(self._policy)),
            web.post("/scale", self._told(self._scale)),
            web.post("/drain", self._told(self._drain)),
        ])  # fmt: skip
        return app

    async def _state(self, request: web.Request) -> web.Response:
        return _json(self.state())

    def state(self) -> dict[str, Any]:
        """Who decides now."""
        decider, pool = self._bridge.decider, self._bridge.pool
        return {
            "mode": decider.mode,
            "canary": decider.canary,
            "policy": decider.policy.name,
            "baseline": decider.baseline.name,
            "wanted": list(pool.wanted),
            "drained": [worker.slot for worker in pool.workers if worker.is_drained],
        }

    def _told(self, answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def told(request: web.Request) -> web.Response:
            try:
                _check_caller(request)
                return _json(await answer(await _object(request)))
            except Problem as problem:
                return problem.response()
            except InputError as error:
                return bad_request("invalid_value", str(error)).response()
            except OutsideFault as fault:
                return Problem(502, "pool_failed", str(fault)).response()

        return told

    async def _mode(self, given: dict[str, Any]) -> dict[str, Any]:
        """``{"mode": "canary", "canary": 0.1}``."""
        share = given.get("canary")
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float)):
            raise InputError("canary", share, "give a share of the requests, 0 to 1")
        self._bridge.set_mode(str(given.get("mode", self._bridge.decider.mode)), share)
        return self.state()

    async def _policy(self, given: dict[str, Any]) -> dict[str, Any]:
        """``{"policy": "aladdin_plus"}``: by name or file; the one before stays where it cannot be made."""
        await self._bridge.exchange(str(given.get("policy", "")))
        return self.state()

    async def _scale(self, given: dict[str, Any]) -> dict[str, Any]:
        """``{"workers": [3]}``: once, within the limits; the policy may want otherwise at the next heartbeat."""
        wanted = given.get("workers")
        types = len(self._bridge.scenario.fleet.types)
        if not isinstance(wanted, list) or len(wanted) != types or not all(type(n) is int for n in wanted):
            raise InputError("workers", wanted, f"give {types} whole numbers, one for each worker type")
        limits = self._bridge.pool.limits
        if not all(limits.minimum <= n <= limits.maximum for n in wanted):
            raise InputError("workers", wanted, f"give {limits.minimum} to {limits.maximum}")
        await self._bridge.pool.scale_to(wanted)
        return self.state()

    async def _drain(self, given: dict[str, Any]) -> dict[str, Any]:
        """``{"worker": 2}``: it gets no new requests, and ends those it has; ``"undo": true``: it does again."""
        slot, undo = given.get("worker"), given.get("undo", False)
        workers = self._bridge.pool.workers
        if isinstance(slot, bool) or not isinstance(slot, int) or not 0 <= slot < len(workers):
            raise InputError("worker", slot, f"give the slot of a worker, 0 to {len(workers) - 1}")
        if not isinstance(undo, bool):
            raise InputError("undo", undo, "give true or false")
        workers[slot].drain(not undo)
        return self.state()


def _check_caller(request: web.Request) -> None:
    """Refuse what a page in an operator's browser may send without being asked to."""
    if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
        raise Problem(403, "forbidden", "admin calls are not for web pages: use a program such as curl")


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        found = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise bad_request("invalid_json", "the body is no JSON") from None
    if not isinstance(found, dict):
        raise bad_request("invalid_json", "the body is no JSON object")
    return found


def _json(found: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(found), content_type="application/json")
