"""Workers are killed, ended and stopped, and answers that broke off are held against that."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from experiments.bridge.soak.client import Ended, with_outcome
from experiments.bridge.soak.eyes import Eyes, ready
from experiments.bridge.soak.judge import LOST, TOLD
from experiments.bridge.soak.plan import STOP, PlannedFault
from experiments.bridge.soak.processes import Serve

#: The bridge starts a worker again five times in ten minutes, and waits longer each time: what is killed more often
#: stays away, and the load would be too much for the rest.
_MOST_ENDS, _WINDOW_S = 4, 600.0
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Fault:
    """What was done to a worker.

    Attributes:
        at_s: When, by the monotonic clock.
        kind: The signal.
        slot: Of the worker.
    """

    at_s: float
    kind: str
    slot: int

    @property
    def ends_it(self) -> bool:
        """Whether the worker ended by it."""
        return self.kind != STOP


class Chaos:
    """Carries out faults.

    Args:
        serve: The bridge.
        eyes: Tell which workers serve.

    Attributes:
        done: What was done.
    """

    def __init__(self, serve: Serve, eyes: Eyes) -> None:
        self.done: list[Fault] = []
        self._serve = serve
        self._eyes = eyes

    async def run(self, planned: Sequence[PlannedFault], begin_s: float) -> None:
        """All of them, at their times from ``begin_s`` on."""
        async with asyncio.TaskGroup() as group:
            for fault in planned:
                await asyncio.sleep(max(0.0, begin_s + fault.at_s - time.monotonic()))
                group.create_task(self._strike(fault))

    async def _strike(self, fault: PlannedFault) -> None:
        until_s = time.monotonic() + _PATIENCE_S
        while not (allowed := [one for one in ready(await self._eyes.status()) if self._may(one, fault)]):
            if time.monotonic() > until_s:
                return
            await asyncio.sleep(0.5)  # all of them are starting again
        worker = allowed[int(fault.coin * len(allowed))]
        pid = self._serve.worker_pid(worker["url"])
        if pid is None:  # it ended by itself just now
            return
        self.done.append(Fault(time.monotonic(), fault.kind, worker["slot"]))
        with suppress(ProcessLookupError):
            os.kill(pid, getattr(signal, fault.kind))
        if fault.kind == STOP:
            try:
                await asyncio.sleep(fault.pause_s)
            finally:  # nobody else would wake it
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _may(self, worker: dict[str, Any], fault: PlannedFault) -> bool:
        since_s = time.monotonic() - _WINDOW_S
        ends = [one for one in self.done if one.ends_it and one.slot == worker["slot"] and one.at_s > since_s]
        return fault.kind == STOP or len(ends) < _MOST_ENDS


def held_against(ended: Ended, faults: Sequence[Fault]) -> Ended:
    """A request that failed, and whose client was told so, is lost all the same unless its worker had been ended."""
    if ended.judged.outcome != TOLD:
        return ended
    for fault in faults:
        if fault.ends_it and ended.slot in (None, fault.slot) and ended.began_s <= fault.at_s <= ended.ended_s:
            return ended
    return with_outcome(ended, LOST, f"{ended.judged.reason}, though its worker was well")
