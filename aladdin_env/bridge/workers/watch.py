"""Keeps looking at workers: their metrics, their health, and whether those out of service may come back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aladdin_env.bridge.workers.admission import Admission
from aladdin_env.bridge.workers.chores import Chores
from aladdin_env.bridge.workers.client import Unreachable, WorkerClient
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.timing import Timing
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.errors import InputError
from aladdin_env.simulator.state import DRAINING, FAILED, READY

_AFTER_A_FAILED_CHECK = 0.2  # of the usual time between two checks


class Watch:
    """Looks after the workers of a pool, between ``open`` and ``close``.

    Args:
        workers: All slots of the pool.
        settings: How closely.
        timing: Clock, sleep and jitter.
        client: Asks the workers.
        model: The model that they must serve; None: whichever the first serves.
    """

    def __init__(
        self,
        workers: Sequence[LiveWorker],
        settings: WatchSettings,
        timing: Timing,
        client: WorkerClient,
        model: str | None = None,
    ) -> None:
        self.admission = Admission(client, workers, settings, model)
        self._settings = settings
        self._timing = timing
        self._client = client
        self._chores = Chores()

    async def open(self) -> None:
        """Begin; an event loop must be running."""
        await self._client.open()

    async def close(self) -> None:
        """Look at nobody any more."""
        await self._chores.close()
        await self._client.close()

    def watch(self, worker: LiveWorker) -> None:
        """Look after ``worker``, which is READY, or FAILED with an open breaker, until it is forgotten."""
        self._chores.start(("health", worker.slot), self._keep_checking(worker))
        self._chores.start(("metrics", worker.slot), self._keep_reading(worker))

    def forget(self, worker: LiveWorker) -> None:
        """Look no more after ``worker``."""
        self._chores.drop(("health", worker.slot))
        self._chores.drop(("metrics", worker.slot))

    async def drain(self, workers: Sequence[LiveWorker], drain_s: float) -> None:
        """Give ``workers`` no new requests, and return when none has any in flight, or after ``drain_s`` seconds."""
        for worker in workers:
            if worker.status in (READY, FAILED):
                worker.move(DRAINING)
        await asyncio.gather(*(self._timing.within(drain_s, worker.emptied) for worker in workers))

    async def _keep_reading(self, worker: LiveWorker) -> None:
        while True:
            await self._timing.sleep(self._timing.longer(self._settings.scrape_s))
            if worker.status in (READY, DRAINING):
                await self.admission.look(worker)

    async def _keep_checking(self, worker: LiveWorker) -> None:
        pause_s = self._settings.health_s
        while True:
            if worker.status == FAILED:
                await self._timing.sleep(max(0.0, worker.breaker.retry_s - self._timing.clock()))
                await self._try_again(worker)
            elif worker.broken.is_set():  # while it is draining; nobody sends anything there
                await self._timing.sleep(pause_s)
            elif not await self._timing.within(self._timing.longer(pause_s), worker.broken):
                well = await self._check(worker)
                pause_s = self._settings.health_s * (1.0 if well else _AFTER_A_FAILED_CHECK)

    async def _check(self, worker: LiveWorker) -> bool:
        try:
            await self.admission.check(worker.url)
        except Unreachable as fault:
            if worker.breaker.failure("check"):
                worker.fail(str(fault))
            return False
        worker.breaker.success("check")
        return True

    async def _try_again(self, worker: LiveWorker) -> None:
        worker.breaker.half_open()
        try:
            await self.admission.admit(worker)
        except (Unreachable, InputError) as refusal:
            worker.fail(str(refusal))
