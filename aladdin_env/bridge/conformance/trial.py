"""What a case has at hand: backends under its command, requests that it knows again, and the router."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aladdin_env.bridge.conformance.backend import Backend, Exchange, Script
from aladdin_env.bridge.conformance.case import Failed, Skipped
from aladdin_env.bridge.conformance.launch import RouterProcess
from aladdin_env.bridge.conformance.scripts import MODEL, look_after, serve
from aladdin_env.bridge.conformance.wire import Answer, Request, Wire

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_LOOK_EVERY_S = 0.005
_MEET_S = 0.25
_BETWEEN_S = 0.1
Found = TypeVar("Found")


@dataclass(frozen=True)
class Bounds:
    """How long is waited, and how much is sent.

    Attributes:
        answer_s: Longest wait for an answer of a backend that answers at once.
        notice_s: Longest that a hang-up may take to reach the backend.
        slow_s: So long a backend may take to its first byte, or pause in a stream.
        recovery_s: Longest until a backend that was away is used again, or a dead one no more.
        body_bytes: Size of the body that is far too large.
        huge_bytes: Size of a stream that nobody reads; more than the system's socket buffers hold.
        fill: Requests at once that should be more than the router passes on, if it has such a limit.
    """

    answer_s: float = 10.0
    notice_s: float = 2.0
    slow_s: float = 5.0
    recovery_s: float = 15.0
    body_bytes: int = 100_000_000
    huge_bytes: int = 96_000_000
    fill: int = 64


@dataclass
class Grid:
    """The router and the backends behind it; lasts for all cases.

    Attributes:
        router: Address of the router.
        backends: The backends, all of which the router knows.
        bounds: How long is waited.
        process: The router's process where the suite has started it.
        trial: The case that commands the backends just now.
    """

    router: str
    backends: Sequence[Backend]
    bounds: Bounds
    process: RouterProcess | None = None
    trial: Trial | None = None

    @property
    def models(self) -> list[tuple[str, ...]]:
        """The models that each backend lists: one that all have, and one of its own, as an adapter would be."""
        return [(MODEL, f"{MODEL}-{number}") for number in range(len(self.backends))]

    async def answer(self, exchange: Exchange) -> None:
        """Answer whatever arrives at a backend."""
        trial, backend = self.trial, self.backends[exchange.backend]
        models = self.models[exchange.backend]
        if trial is not None and exchange.backend in trial.sick:
            await trial.sick[exchange.backend](exchange)
        elif trial is not None and trial.owns(exchange):
            await trial.script(exchange)
        elif trial is not None and exchange.path in trial.overrides:
            await trial.overrides[exchange.path](exchange)
        else:
            await look_after(exchange, backend, models)


class Trial:
    """One case on a grid; use it with ``async with``.

    Attributes:
        grid: Where it runs.
        script: How all backends answer requests of this case.
        overrides: How they answer what the router asks of its own accord, by path.
        sick: Backends that answer everything in another way, by number.
        exchanges: The requests of this case that backends saw, backend by backend.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.script: Script = serve
        self.overrides: dict[str, Script] = {}
        self.sick: dict[int, Script] = {}
        self._mark = f"mark-{uuid.uuid4().hex[:8]}"
        self._marks = 0
        self._wires: list[Wire] = []
        self._events: list[asyncio.Event] = []
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def bounds(self) -> Bounds:
        """How long is waited."""
        return self.grid.bounds

    @property
    def process(self) -> RouterProcess:
        """The router's process; Skipped where somebody else has started it."""
        if self.grid.process is None:
            raise Skipped("only for a router that the suite starts itself (--start)")
        return self.grid.process

    @property
    def exchanges(self) -> list[Exchange]:
        """What backends saw of this case."""
        return [exchange for backend in self.grid.backends for exchange in backend.exchanges if self.owns(exchange)]

    def owns(self, exchange: Exchange) -> bool:
        """Whether a request is of this case."""
        return exchange.mark.startswith(self._mark)

    async def __aenter__(self) -> Trial:
        self.grid.trial = self
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let everything go, so that the next case finds the router idle."""
        self.sick, self.overrides = {}, {}
        for event in self._events:
            event.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in self._wires:
            wire.hang_up()
        for backend in self.grid.backends:
            if not backend.is_open:
                await backend.open()
        try:
            await self.until(lambda: all(exchange.ended for exchange in self.exchanges), self.bounds.notice_s, "")
        except Failed:  # the case has told it where that was its subject
            for exchange in self.exchanges:
                exchange.die()
        self.grid.trial = None

    def gate(self) -> asyncio.Event:
        """An event for scripts to wait for; it is set when the case ends at the latest."""
        event = asyncio.Event()
        self._events.append(event)
        return event

    def mark(self) -> str:
        """A word that no other request has."""
        self._marks += 1
        return f"{self._mark}-{self._marks}"

    def chat(self, mark: str = "", before: str = "", **fields: Any) -> bytes:
        """The body of a chat request, with a mark of its own unless one is given; ``before`` begins the prompt."""
        message = {"role": "user", "content": f"{before}{mark or self.mark()} what is a genie?"}
        return json.dumps({"model": MODEL, "messages": [message], "max_tokens": 8, **fields}).encode()

    def completion(self, mark: str = "", **fields: Any) -> bytes:
        """The body of a completion request, likewise."""
        prompt = f"{mark or self.mark()} a genie is"
        return json.dumps({"model": MODEL, "prompt": prompt, "max_tokens": 8, **fields}).encode()

    def body(self, path: str, **fields: Any) -> bytes:
        """The body of a request to ``path``, one of :data:`CHAT` and :data:`COMPLETIONS`."""
        return self.chat(**fields) if path == CHAT else self.completion(**fields)

    async def open(
        self,
        body: bytes,
        path: str = CHAT,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        window_bytes: int | None = None,
    ) -> Wire:
        """Begin a request on a connection of its own."""
        request = Request(method, path, dict(headers or {}), body)
        wire = await Wire.open(self.grid.router, request, window_bytes=window_bytes)
        self._wires.append(wire)
        return wire

    async def ask(
        self,
        body: bytes,
        path: str = CHAT,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        within_s: float | None = None,
    ) -> Answer:
        """Send a request and wait for the whole answer."""
        wire = await self.open(body, path, method=method, headers=headers)
        try:
            return await wire.answer(within_s or self.bounds.answer_s)
        finally:
            wire.hang_up()

    def seen(self, mark: str = "") -> list[Exchange]:
        """The exchanges with ``mark``, or all of this case."""
        return [exchange for exchange in self.exchanges if mark in ("", exchange.mark)]

    async def arrived(self, count: int = 1, mark: str = "") -> list[Exchange]:
        """Wait until ``count`` requests have arrived at backends.

        Raises:
            Failed: They did not.
        """
        what = "the request did not reach a backend" if count == 1 else f"{count} requests did not reach the backends"
        await self.until(lambda: len(self.seen(mark)) >= count, self.bounds.answer_s, what)
        return self.seen(mark)

    async def sole(self, mark: str = "") -> Exchange:
        """The one exchange with ``mark``, or of this case; waits for it.

        Raises:
            Failed: There is none, or more than one.
        """
        found = await self.arrived(mark=mark)
        if len(found) > 1:
            raise Failed(f"one request reached the backends {len(found)} times")
        return found[0]

    async def until(self, holds: Callable[[], bool], within_s: float, otherwise: str) -> None:
        """Wait until something holds.

        Raises:
            Failed: It did not within ``within_s`` seconds; the text begins with ``otherwise``.
        """
        if not await self.waited(holds, within_s):
            raise Failed(f"{otherwise} within {within_s:g} s")

    async def waited(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Wait until something holds, or for ``within_s`` seconds; whether it does."""
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            return holds()
        return True

    async def recovered(self, within_s: float) -> bool:
        """Wait until a few requests at once reach every backend and all are answered 200; whether they do."""
        script, process = self.script, self.grid.process
        try:
            async with asyncio.timeout(within_s):
                while not await self._reach_all():
                    if process is not None and not process.is_alive:
                        return False
                    await asyncio.sleep(_BETWEEN_S)
        except TimeoutError:
            return False
        finally:
            self.script = script
        return True

    async def _reach_all(self) -> bool:
        marks = [self.mark() for _ in range(2 * len(self.grid.backends))]

        def reached() -> bool:
            found = {exchange.backend for exchange in self.exchanges if exchange.mark in marks}
            return len(found) == len(self.grid.backends)

        async def wait_for_others(exchange: Exchange) -> None:
            await self.waited(reached, _MEET_S)
            await serve(exchange)

        self.script = wait_for_others
        try:
            answers = await self.together([self.ask(self.chat(mark)) for mark in marks])
        except Failed:
            return False
        return reached() and all(answer.status == 200 for answer in answers)

    def begin(self, wait: Coroutine[Any, Any, Found]) -> asyncio.Task[Found]:
        """Let something go on beside the case, at most until it ends."""
        task = asyncio.create_task(wait)
        self._tasks.append(task)
        return task

    async def together(self, waits: Sequence[Coroutine[Any, Any, Found]]) -> list[Found]:
        """Wait for all at once; the first failure ends it."""
        return list(await asyncio.gather(*map(self.begin, waits)))
