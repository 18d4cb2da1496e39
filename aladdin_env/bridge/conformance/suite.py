"""All cases, one after the other, on one router."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from aladdin_env.bridge.conformance.backend import Backend, Exchange
from aladdin_env.bridge.conformance.case import FAIL, PASS, SKIP, Case, Failed, Outcome, Skipped
from aladdin_env.bridge.conformance.cases import CASES
from aladdin_env.bridge.conformance.launch import RouterProcess, arguments, filled, free_port
from aladdin_env.bridge.conformance.trial import Bounds, Grid, Trial
from aladdin_env.errors import InputError, OutsideFault, suggest

_CASE_S = 60.0  # none takes nearly as long, unless the router plays dead in a new way
Told = Callable[[Outcome], None]


def chosen(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases with these names, in their order; all where none is given.

    Raises:
        InputError: An unknown name.
    """
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise InputError("--case", name, suggest(name, known))
    return tuple(case for case in CASES if not names or case.name in names)


class Suite:
    """Backends, and a router before them; use it with ``async with``.

    Args:
        backends: How many backends.
        host: Where they listen.
        port: Port of the first, the others follow; 0 takes free ones.
        bounds: How long is waited; None takes the usual ones.
    """

    def __init__(self, backends: int = 2, host: str = "127.0.0.1", port: int = 0, bounds: Bounds | None = None) -> None:
        if backends < 2:
            raise InputError("--backends", backends, "give 2 or more: most cases are about which of them is taken")
        ports = [port + number if port else 0 for number in range(backends)]
        self.backends = [Backend(number, host, port, self._answer) for number, port in enumerate(ports)]
        self.bounds = bounds or Bounds()
        self._grid: Grid | None = None
        self._stack = AsyncExitStack()

    async def _answer(self, exchange: Exchange) -> None:
        grid = self._grid or Grid("", self.backends, self.bounds)
        await grid.answer(exchange)

    async def __aenter__(self) -> Suite:
        try:
            for backend in self.backends:
                self._stack.push_async_callback(backend.stop)
                await backend.start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def urls(self) -> list[str]:
        """Addresses of the backends."""
        return [backend.url for backend in self.backends]

    async def start(self, template: str, within_s: float) -> None:
        """Start a router and wait until it serves.

        Raises:
            InputError: The template is none.
            OutsideFault: It ends at once, or does not serve in time.
        """
        port = free_port()
        process = RouterProcess(arguments(filled(template, port, self.urls)), port)
        self._stack.push_async_callback(asyncio.to_thread, process.close)  # the backends must answer until it is gone
        await self.use(process.url, within_s, process)

    async def use(self, router: str, within_s: float, process: RouterProcess | None = None) -> None:
        """Wait until a router serves.

        Raises:
            OutsideFault: It does not within ``within_s`` seconds, or its process has ended.
        """
        self._grid = Grid(router.rstrip("/"), self.backends, self.bounds, process)
        if not await self._recovered(within_s):
            if process is not None:
                process.check_alive()
            said = f" It says: {process.last_words()}" if process is not None else ""
            why = "is it up, does it know all backends, and does its policy spread requests?"
            raise OutsideFault(f"{router} does not bring requests to all backends within {within_s:g} s: {why}{said}")

    async def run(self, cases: Sequence[Case], told: Told | None = None) -> list[Outcome]:
        """Try the cases; ``told`` is given each outcome as soon as it is known."""
        outcomes = []
        for position, case in enumerate(cases):
            outcome = await self._try(case)
            outcomes.append(outcome)
            if told is not None:
                told(outcome)
            if position + 1 < len(cases):
                await self._mend()
        return outcomes

    async def _try(self, case: Case) -> Outcome:
        grid = self._ready()
        start_s = time.perf_counter()
        verdict, reason = PASS, ""
        try:
            async with asyncio.timeout(_CASE_S), Trial(grid) as trial:
                await case.run(trial)
        except Skipped as skipped:
            verdict, reason = SKIP, str(skipped)
        except Failed as failed:
            verdict, reason = FAIL, str(failed)
        except TimeoutError:
            verdict, reason = FAIL, f"no end within {_CASE_S:g} s"
        if grid.process is not None and not grid.process.is_alive and case is not CASES[-1]:
            verdict, reason = FAIL, f"the router died: {grid.process.last_words()}"
        return Outcome(case, verdict, " ".join(reason.split()), time.perf_counter() - start_s)

    async def _mend(self) -> None:
        """Bring the router back to using all backends, by a new start if need be and if it is ours."""
        grid = self._ready()
        for backend in grid.backends:
            backend.exchanges.clear()
        if not await self._recovered(self.bounds.recovery_s) and grid.process is not None:
            await asyncio.to_thread(grid.process.restart)
            await self._recovered(4 * self.bounds.recovery_s)

    async def _recovered(self, within_s: float) -> bool:
        async with Trial(self._ready()) as trial:
            return await trial.recovered(within_s)

    def _ready(self) -> Grid:
        if self._grid is None:
            raise RuntimeError("give it a router first: start() or use()")
        return self._grid
