"""Workers that are pods: Kubernetes starts and stops them, the bridge says how many, and follows who is there."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from aladdin_env.bridge.workers.chores import Chores
from aladdin_env.bridge.workers.client import Unreachable, WorkerClient
from aladdin_env.bridge.workers.kubernetes_api import Endpoint, KubernetesApi, Target
from aladdin_env.bridge.workers.kubernetes_scale import ClusterSettings, KubernetesScale, Pod
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.settings import USUAL, WatchSettings
from aladdin_env.bridge.workers.timing import REAL_TIME, Timing
from aladdin_env.bridge.workers.watch import Watch
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.errors import InputError, OutsideFault
from aladdin_env.simulator.state import DRAINING, OFF, STARTING

_REMEMBERED_STARTS = 16
_log = logging.getLogger(__name__)


class KubernetesPool:
    """A :class:`~aladdin_env.bridge.workers.pool.WorkerPool` of the pods of a Deployment or StatefulSet.

    A pod is in a slot from the moment that its service counts it as ready until it is terminating and empty. Pods that
    are to be, and are not ready, are STARTING slots without an address.

    Args:
        target: The workload as kubectl names it, such as ``deploy/vllm``.
        limits: Fewest and most pods.
        service: The service in front of them; None: the one of the workload's name.
        namespace: Where both are; None: that of our own pod, or of the kubeconfig's context.
        port: Name or number of the service's port; None: its only one, else the one named "http".
        scales: Whether to scale the workload; else somebody else does, by the number that is wanted.
        kubeconfig: Its file; None: in a pod that pod's cluster, elsewhere as kubectl finds it.
        context: Which of its contexts; None: the current one.
        model: The model that all must serve; None: whichever the first one serves.
        api_key_env: Name of the environment variable with the workers' key; None: they want none.
        cluster: How pods are followed and ended.
        settings: How closely workers are watched.
        timing: Clock, sleep and jitter.

    Raises:
        InputError: The target cannot be read, no cluster is configured, or the client is not installed.
    """

    def __init__(
        self,
        target: str,
        limits: Limits,
        *,
        service: str | None = None,
        namespace: str | None = None,
        port: str | None = None,
        scales: bool = True,
        kubeconfig: Path | None = None,
        context: str | None = None,
        model: str | None = None,
        api_key_env: str | None = None,
        cluster: ClusterSettings = ClusterSettings(),  # noqa: B008, it is frozen
        settings: WatchSettings = USUAL,
        timing: Timing = REAL_TIME,
    ) -> None:
        workload = Target.parse(target)
        self.can_scale = scales
        self.limits = limits
        self.wanted: tuple[int, ...] = (limits.minimum,)
        self.workers = tuple(LiveWorker(slot, settings, timing) for slot in range(limits.maximum))
        self._api = KubernetesApi(
            workload, service or workload.name, namespace=namespace, port=port, kubeconfig=kubeconfig, context=context
        )
        self._scale = KubernetesScale(self._api, cluster, timing)
        self._cluster = cluster
        self._timing = timing
        self._watch = Watch(self.workers, settings, timing, WorkerClient(api_key_env), model)
        self._chores = Chores()
        self._lock = asyncio.Lock()
        self._pods: dict[LiveWorker, Pod] = {}
        self._leaving: set[LiveWorker] = set()
        self._unready: set[LiveWorker] = set()
        self._asked_s: dict[LiveWorker, float] = {}  # when those were first expected that are being admitted
        self._starts_s: deque[float] = deque(maxlen=_REMEMBERED_STARTS)
        self._fault = ""

    @property
    def cold_start_s(self) -> float:
        """Mean time from the wish for a pod until it was READY, of the last ones, seconds; the prior before them."""
        return fmean(self._starts_s) if self._starts_s else self._cluster.cold_start_s

    async def start(self) -> None:
        """Find the pods that there are.

        Raises:
            InputError: There is no such workload or service, or a permission is missing.
            OutsideFault: The API server does not answer.
        """
        await self._watch.open()
        try:
            self._scale.replicas = await self._api.replicas()
            endpoints = await self._api.endpoints()
            if endpoints is None:
                mend = f"name the service in front of {self._api.target} in the namespace {self._api.namespace!r}"
                raise InputError("service", self._api.service, mend)
            if self.can_scale:
                await self._api.scale(self._scale.replicas, dry_run=True)
            self.wanted = (self.limits.clip((self._scale.replicas,)),)
            self._match(endpoints)
            self._expect()
        except BaseException:
            await self.stop(0.0)
            raise
        self._chores.start("follow", self._keep_following())

    async def scale_to(self, wanted: Sequence[int]) -> None:
        """Have as many pods, within the limits; to have fewer, some are drained first.

        Raises:
            OutsideFault: The API server does not answer, or refuses.
        """
        self.wanted = (self.limits.clip(wanted),)
        try:
            async with self._lock:
                await self._approach()
        except InputError as refusal:  # it was allowed at the start
            raise OutsideFault(str(refusal)) from None

    async def stop(self, drain_s: float) -> None:
        """Give no pod new requests, wait up to ``drain_s`` seconds for those in flight. The pods stay as they are."""
        self._chores.drop("follow")
        await self._watch.drain(self.workers, drain_s)
        await self._chores.close()
        await self._watch.close()
        self._api.close()
        for worker in self.workers:
            worker.move(OFF)

    async def _keep_following(self) -> None:
        while True:
            await self._timing.sleep(self._timing.longer(self._cluster.poll_s))
            try:
                await self._follow()
            except (InputError, OutsideFault) as fault:  # the workers go on; their own health is watched
                if str(fault) != self._fault:
                    _log.warning("%s", fault)
                self._fault = str(fault)
            else:
                self._fault = ""

    async def _follow(self) -> None:
        async with self._lock:
            self._scale.replicas = await self._api.replicas()
            endpoints = await self._api.endpoints()
            if endpoints is None:
                raise OutsideFault(f"the service {self._api.service!r} is gone; the workers that it had are kept")
            self._match(endpoints)
            await self._scale.settle(self._staying())
            await self._approach()

    async def _approach(self) -> None:
        if self.can_scale:
            await self._scale.approach(self.wanted[0], self._staying(), self._expected())
        self._expect()

    def _match(self, endpoints: Sequence[Endpoint]) -> None:
        """Bring the slots in line with what the service says."""
        there = {(endpoint.url, endpoint.pod): endpoint for endpoint in endpoints}
        for worker, pod in list(self._pods.items()):
            endpoint = there.pop((worker.url, pod.name), None)
            if endpoint is None or endpoint.terminating:
                self._leave(worker)
            elif worker not in self._leaving:
                self._note(worker, endpoint.ready)
        for endpoint in there.values():
            room = self._room()
            if room is not None and endpoint.ready and not endpoint.terminating:
                self._join(room, endpoint)

    def _join(self, worker: LiveWorker, endpoint: Endpoint) -> None:
        if worker.status == STARTING:
            self._asked_s[worker] = worker.since_s
        self._pods[worker] = Pod(endpoint.pod, worker)
        worker.house(endpoint.url)
        worker.move(STARTING, ready_s=self._timing.clock())
        self._chores.start(("admit", worker.slot), self._admit(worker))

    async def _admit(self, worker: LiveWorker) -> None:
        """Ask the pod who it is until it says so, then watch it."""
        while True:
            try:
                await self._watch.admission.admit(worker)
                break
            except Unreachable as fault:
                _log.debug("worker %d: %s", worker.slot, fault)
            except InputError as refusal:
                worker.fail(str(refusal))
            await self._timing.sleep(self._timing.longer(self._cluster.poll_s))
        asked_s = self._asked_s.pop(worker, None)
        if asked_s is not None:
            self._starts_s.append(self._timing.clock() - asked_s)
        self._watch.watch(worker)

    def _note(self, worker: LiveWorker, ready: bool) -> None:
        """Its pod is, or is not, ready by its own probe."""
        if not ready and worker not in self._unready:
            self._unready.add(worker)
            self._ignore(worker)
            worker.fail("its pod is not ready")
        elif ready and worker in self._unready:
            self._unready.discard(worker)
            self._chores.start(("admit", worker.slot), self._admit(worker))

    def _leave(self, worker: LiveWorker) -> None:
        """Its pod is gone or going: no new requests, and the slot is free when the last one has ended."""
        if worker in self._leaving:
            return
        self._leaving.add(worker)
        self._ignore(worker)
        self._scale.forget(self._pods[worker].name)
        worker.move(DRAINING)
        self._chores.start(("leave", worker.slot), self._vacate(worker))

    async def _vacate(self, worker: LiveWorker) -> None:
        await worker.emptied.wait()
        del self._pods[worker]
        self._asked_s.pop(worker, None)
        self._leaving.discard(worker)
        self._unready.discard(worker)
        worker.house("")
        worker.move(OFF)

    def _ignore(self, worker: LiveWorker) -> None:
        self._watch.forget(worker)
        self._chores.drop(("admit", worker.slot))

    def _expect(self) -> None:
        """Have a STARTING slot for every pod that is to be and is not ready."""
        staying = [pod for pod in self._staying() if not self._scale.is_given_up(pod.name)]
        expected = self._expected()
        missing = self._scale.replicas - len(staying) - len(expected)
        for worker in expected[max(0, len(expected) + missing) :]:
            worker.move(OFF)
        free = [worker for worker in self.workers if not worker.occupied]
        for worker in free[: max(0, missing)]:
            worker.move(STARTING, ready_s=self._timing.clock() + self.cold_start_s)

    def _staying(self) -> list[Pod]:
        return [pod for worker, pod in self._pods.items() if worker not in self._leaving]

    def _expected(self) -> list[LiveWorker]:
        """STARTING slots without a pod, the one that has waited longest first."""
        found = [worker for worker in self.workers if worker.status == STARTING and worker not in self._pods]
        return sorted(found, key=lambda worker: worker.since_s)

    def _room(self) -> LiveWorker | None:
        free = [worker for worker in self.workers if not worker.occupied]
        return next(iter(self._expected() + free), None)
