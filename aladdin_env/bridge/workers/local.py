"""Workers on this machine: processes that the pool starts, watches, drains and stops."""

from __future__ import annotations

import logging
import os
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from aladdin_env.bridge.workers.chores import Chores
from aladdin_env.bridge.workers.client import Unreachable, WorkerClient
from aladdin_env.bridge.workers.command import Command
from aladdin_env.bridge.workers.machine import GpuSets, gpu_ids, reserved_port
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.process import ServerProcess
from aladdin_env.bridge.workers.restarts import Restarts, RestartSettings
from aladdin_env.bridge.workers.settings import USUAL, WatchSettings
from aladdin_env.bridge.workers.timing import REAL_TIME, Timing
from aladdin_env.bridge.workers.watch import Watch
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.errors import InputError, OutsideFault
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY, STARTING
from aladdin_traces import checks

_LOOK_EVERY_S = 1.0
_REMEMBERED_STARTS = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalSettings:
    """How the processes are run. All times in seconds.

    Attributes:
        host: Address at which the servers are reached.
        gpus: GPUs to use, as CUDA_VISIBLE_DEVICES names them; None: all that this process may use.
        gpus_per_worker: GPUs of each worker; 0: they share all; None: one, where there are any.
        environment: What the servers' environment has beyond ours.
        logs: Folder for what they say, ``worker-SLOT.log``; None: a temporary one, which is kept.
        cold_start_s: Expected time from start to READY, until one was measured.
        start_timeout_s: A worker that is not READY after as long has failed.
        ready_poll_s: Time between two questions to a starting one whether it is ready.
        drain_s: A worker that is wanted no more may go on as long with the requests that it has.
        grace_s: From SIGTERM to SIGKILL.
        hang_s: A worker that is out of service for as long, and still runs, is ended and started again.
        restarts: When crashed ones are started again.
    """

    host: str = "127.0.0.1"
    gpus: Sequence[str] | None = None
    gpus_per_worker: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    logs: Path | None = None
    cold_start_s: float = 60.0
    start_timeout_s: float = 900.0
    ready_poll_s: float = 0.5
    drain_s: float = 300.0
    grace_s: float = 30.0
    hang_s: float = 60.0
    restarts: RestartSettings = field(default_factory=RestartSettings)

    def __post_init__(self) -> None:
        for name in ("cold_start_s", "drain_s", "grace_s", "hang_s"):
            checks.number(name, getattr(self, name), low=0.0)
        for name in ("start_timeout_s", "ready_poll_s"):
            checks.number(name, getattr(self, name), above=0.0)


class LocalPool:
    """A :class:`~aladdin_env.bridge.workers.pool.WorkerPool` of processes of a command.

    A worker that is loading or busy is never stopped to have fewer: those that serve give up work first, the idle ones
    before the others, and only as many as are beyond what is wanted without counting those that still load.

    Args:
        command: Command line with ``{port}``, such as ``vllm serve MODEL --port {port}``.
        limits: Fewest and most workers.
        initial: Workers to start with; None: the fewest.
        model: The model that all must serve; None: whichever the first one serves.
        api_key_env: Name of the environment variable with the workers' key; None: they want none.
        local: How the processes are run.
        settings: How closely the workers are watched.
        timing: Clock, sleep and jitter.

    Raises:
        InputError: The command cannot be run, or the GPUs are not enough.
    """

    can_scale = True

    def __init__(
        self,
        command: str,
        limits: Limits,
        *,
        initial: int | None = None,
        model: str | None = None,
        api_key_env: str | None = None,
        local: LocalSettings = LocalSettings(),
        settings: WatchSettings = USUAL,
        timing: Timing = REAL_TIME,
    ) -> None:
        if os.name != "posix":
            raise InputError("local", command, "start the workers yourself and give their addresses (--worker URL)")
        self.limits = limits
        self.wanted: tuple[int, ...] = (limits.clip((limits.minimum if initial is None else initial,)),)
        self.workers = tuple(LiveWorker(slot, settings, timing) for slot in range(limits.maximum))
        self._command = Command.parse(command)
        _try_host(local.host)
        gpus = gpu_ids() if local.gpus is None else list(local.gpus)
        each = min(1, len(gpus)) if local.gpus_per_worker is None else local.gpus_per_worker
        if self._command.names_gpus and not each:
            raise InputError("local", "{gpu}", "name the GPUs, and how many of them each worker gets: there are none")
        self._gpus = GpuSets(gpus, each, limits.maximum)
        self._local = local
        self._timing = timing
        self._watch = Watch(self.workers, settings, timing, WorkerClient(api_key_env), model)
        self._chores = Chores()
        self._ending: set[LiveWorker] = set()
        self._starts_s: deque[float] = deque(maxlen=_REMEMBERED_STARTS)
        self._logs = local.logs or Path()
        self._stopped = False

    @property
    def cold_start_s(self) -> float:
        """Mean time that the last starts took, seconds; the prior before the first."""
        return fmean(self._starts_s) if self._starts_s else self._local.cold_start_s

    async def start(self) -> None:
        """Start the first workers."""
        self._logs = self._local.logs or Path(tempfile.mkdtemp(prefix="aladdin-workers-"))
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError("logs", str(self._logs), f"give a folder that can be written ({error.strerror})") from None
        _log.info("what the workers say is in %s", self._logs)
        await self._watch.open()
        self._reconcile()

    async def scale_to(self, wanted: Sequence[int]) -> None:
        """Have as many workers, within the limits: start or drain some, or take draining ones back."""
        self.wanted = (self.limits.clip(wanted),)
        self._reconcile()

    async def stop(self, drain_s: float) -> None:
        """Give no worker new requests, wait up to ``drain_s`` seconds for those in flight, then end all processes."""
        self._stopped = True
        for worker in self.workers:
            if worker.status == STARTING or not worker.url:
                self._end(worker)
        await self._watch.drain(self.workers, drain_s)
        await self._chores.close()
        await self._watch.close()
        for worker in self.workers:  # also those whose life was over before it began
            worker.move(OFF)

    def _reconcile(self) -> None:
        """Take a step from the workers that there are to those that are wanted; called whenever either changes."""
        if self._stopped:
            return
        here = [worker for worker in self.workers if worker.status in (STARTING, READY, FAILED)]
        missing = self.wanted[0] - sum(worker not in self._ending for worker in here)
        if missing > 0:
            back = sorted(self._draining(), key=lambda worker: -worker.in_flight)[:missing]
            for worker in back:
                self._chores.drop(("drain", worker.slot))
                worker.resume()
            free = [worker for worker in self.workers if worker.status == OFF and worker not in self._ending]
            for worker in sorted(free, key=lambda worker: worker.occupied)[: missing - len(back)]:
                worker.move(STARTING, ready_s=self._timing.clock() + self.cold_start_s)
                self._chores.start(("life", worker.slot), self._live(worker))
        elif missing < 0:
            for worker in self._dispensable()[:-missing]:
                self._retire(worker)

    def _draining(self) -> list[LiveWorker]:
        return [worker for worker in self.workers if worker.status == DRAINING and worker not in self._ending]

    def _dispensable(self) -> list[LiveWorker]:
        """Those that may go now, in the order in which to let them go: who serves nobody, then who serves fewest."""
        failed = [worker for worker in self.workers if worker.status == FAILED and worker not in self._ending]
        ready = [worker for worker in self.workers if worker.status == READY and worker not in self._ending]
        # Of equals the youngest: it has the least in its prefix cache.
        ready.sort(key=lambda worker: (worker.in_flight, -worker.since_s))
        return failed + ready[: max(0, len(ready) - self.wanted[0])]

    def _retire(self, worker: LiveWorker) -> None:
        if not worker.url:  # between two lives
            self._end(worker)
            return
        worker.move(DRAINING)
        self._chores.start(("drain", worker.slot), self._drain(worker))

    async def _drain(self, worker: LiveWorker) -> None:
        if not await self._timing.within(self._local.drain_s, worker.emptied):
            _log.warning("worker %d still has %d requests: its time to drain is over", worker.slot, worker.in_flight)
        self._end(worker)

    def _end(self, worker: LiveWorker) -> None:
        """End its process now, if it has one; from here it cannot be taken back."""
        if ("life", worker.slot) in self._chores:
            self._ending.add(worker)
            self._chores.drop(("life", worker.slot))

    async def _live(self, worker: LiveWorker) -> None:
        """Run servers in the slot, one after the other, until cancelled, or until one ends and nobody wants another."""
        restarts = Restarts(self._local.restarts, self._timing)
        try:
            while True:
                await worker.emptied.wait()  # requests of the server before may not have noticed yet
                reason = await self._serve(worker)
                worker.house("")
                wait_s = restarts.next_in_s()
                worker.move(FAILED, reason=reason, ready_s=self._timing.clock() + wait_s + self.cold_start_s)
                self._reconcile()
                if worker in self._ending:  # nobody wants it any more
                    return
                await self._timing.sleep(wait_s)
        finally:
            for name in ("drain", "life"):
                self._chores.drop((name, worker.slot))
            worker.house("")
            worker.move(OFF)
            self._ending.discard(worker)
            self._reconcile()

    async def _serve(self, worker: LiveWorker) -> str:
        """Run one server in the slot, and return why it ended."""
        gpus = self._gpus.take()
        try:
            with reserved_port(self._local.host) as port:
                host = f"[{self._local.host}]" if ":" in self._local.host else self._local.host
                worker.house(f"http://{host}:{port}")
                began_s = self._timing.clock()
                worker.move(STARTING, ready_s=began_s + self.cold_start_s)
                process = await self._spawn(worker, port, gpus)
                try:
                    await self._until_ready(worker, process, began_s + self._local.start_timeout_s)
                    self._starts_s.append(self._timing.clock() - began_s)
                    self._watch.watch(worker)
                    self._reconcile()
                    reason = await self._until_ended(worker, process)
                except (OutsideFault, InputError) as fault:
                    reason = f"it did not start: {fault}"
                finally:
                    self._watch.forget(worker)
                    await process.stop(self._local.grace_s, self._timing)
            return _told(worker, reason, process)
        except Exception as fault:  # whatever it is: not again at once, and not unseen
            _log.error("worker %d: %s", worker.slot, fault, exc_info=not isinstance(fault, OutsideFault))
            return str(fault)
        finally:
            self._gpus.give_back(gpus)

    async def _spawn(self, worker: LiveWorker, port: int, gpus: str | None) -> ServerProcess:
        own = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
        environment = {**os.environ, **self._local.environment, **own}
        log = self._logs / f"worker-{worker.slot}.log"
        return await ServerProcess.start(self._command.fill(port, gpus), environment, log)

    async def _until_ready(self, worker: LiveWorker, process: ServerProcess, until_s: float) -> None:
        while not process.ended.is_set():
            try:
                await self._watch.admission.admit(worker)
                return
            except Unreachable as fault:
                if self._timing.clock() >= until_s:
                    raise OutsideFault(f"not ready after {self._local.start_timeout_s:g} s ({fault})") from None
            await self._timing.within(self._local.ready_poll_s, process.ended)
        raise OutsideFault(process.end)

    async def _until_ended(self, worker: LiveWorker, process: ServerProcess) -> str:
        while not await self._timing.within(_LOOK_EVERY_S, process.ended):
            if worker.status == FAILED and self._timing.clock() - worker.since_s > self._local.hang_s:
                return f"it was out of service for {self._local.hang_s:g} s ({worker.reason})"
        return process.end


def _try_host(host: str) -> None:
    try:
        with reserved_port(host):
            pass
    except OSError as error:
        raise InputError("host", host, f"give an address of this machine ({error.strerror})") from None


def _told(worker: LiveWorker, reason: str, process: ServerProcess) -> str:
    """``reason`` with the last line of the server's log; the end of that log is logged."""
    said = process.last_words()
    _log.error("worker %d: %s; the end of its log:\n%s", worker.slot, reason, said)
    return f"{reason}; its last words: {said.splitlines()[-1].strip()}" if said else reason
