"""Workers at fixed addresses: somebody else starts and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aladdin_env.bridge.workers.address import worker_url
from aladdin_env.bridge.workers.client import Unreachable, WorkerClient
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.settings import USUAL, WatchSettings
from aladdin_env.bridge.workers.timing import REAL_TIME, Timing
from aladdin_env.bridge.workers.watch import Watch
from aladdin_env.bridge.workers.worker import Identity, LiveWorker
from aladdin_env.errors import InputError
from aladdin_env.simulator.state import OFF, STARTING


class StaticPool:
    """A :class:`~aladdin_env.bridge.workers.pool.WorkerPool` that cannot scale.

    A worker that does not answer, at the start or later, is FAILED and comes back when it is well.

    Args:
        urls: Addresses, one per worker.
        model: The model that all must serve; None: whichever the first one serves.
        api_key_env: Name of the environment variable with the workers' key; None: they want none.
        settings: How closely the workers are watched.
        timing: Clock, sleep and jitter.

    Raises:
        InputError: No address, one that is none, or one given twice.
    """

    can_scale = False
    cold_start_s: float | None = None

    def __init__(
        self,
        urls: Sequence[str],
        *,
        model: str | None = None,
        api_key_env: str | None = None,
        settings: WatchSettings = USUAL,
        timing: Timing = REAL_TIME,
    ) -> None:
        addresses = [worker_url(url) for url in urls]
        if not addresses:
            raise InputError("worker", None, "give at least one address, such as --worker http://gpu1:8000")
        twice = next((address for address in addresses if addresses.count(address) > 1), None)
        if twice is not None:
            raise InputError("worker", twice, "give each worker once")
        self.limits = Limits(len(addresses), len(addresses))
        self.wanted: tuple[int, ...] = (len(addresses),)
        self.workers = tuple(LiveWorker(slot, settings, timing) for slot in range(len(addresses)))
        for worker, address in zip(self.workers, addresses, strict=True):
            worker.house(address)
        self._watch = Watch(self.workers, settings, timing, WorkerClient(api_key_env), model)

    async def start(self) -> None:
        """Ask every worker who it is.

        Raises:
            InputError: One is no OpenAI-compatible server, wants another key, or serves another model.
        """
        await self._watch.open()
        try:
            for worker in self.workers:
                worker.move(STARTING)
            answers = await asyncio.gather(*(self._ask(worker) for worker in self.workers))
            for worker, answer in zip(self.workers, answers, strict=True):
                self._take(worker, answer)
        except BaseException:
            await self.stop(0.0)
            raise

    async def scale_to(self, wanted: Sequence[int]) -> None:
        """Note what is wanted; somebody else has to do it."""
        self.wanted = (max(0, int(wanted[0])),)

    async def stop(self, drain_s: float) -> None:
        """Give no worker new requests, wait up to ``drain_s`` seconds for those in flight, then let go of all."""
        await self._watch.drain(self.workers, drain_s)
        await self._watch.close()
        for worker in self.workers:
            worker.move(OFF)

    async def _ask(self, worker: LiveWorker) -> Identity | Unreachable:
        try:
            identity = await self._watch.admission.ask(worker.url)
        except Unreachable as fault:
            return fault
        await self._watch.admission.look(worker)
        return identity

    def _take(self, worker: LiveWorker, answer: Identity | Unreachable) -> None:
        """In the order of the addresses, so that of two models the first given is the right one."""
        if isinstance(answer, Identity):
            self._watch.admission.compare(worker, answer)
            worker.admit(answer)
        else:
            worker.fail(str(answer))
        self._watch.watch(worker)
