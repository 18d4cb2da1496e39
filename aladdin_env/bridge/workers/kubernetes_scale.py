"""How many pods a workload has, and who goes when there are to be fewer: nobody who loads, nobody who is busy."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from aladdin_env.bridge.workers.kubernetes_api import Conflict, KubernetesApi
from aladdin_env.bridge.workers.timing import Timing
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.errors import InputError, OutsideFault
from aladdin_env.simulator.state import DRAINING, READY, STARTING
from aladdin_traces import checks

_TRIES, _FIRST_PAUSE_S = 5, 0.1  # where others change the workload at the same moment
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterSettings:
    """How pods are followed and ended. All times in seconds.

    Attributes:
        poll_s: Between two looks at the cluster.
        cold_start_s: Expected time from the wish for a pod until it is READY, until one was measured.
        drain_s: A pod that is wanted no more may go on as long with the requests that it has.
        loading_s: No number is lowered while a pod is expected and not ready, unless it has been so for as long:
            Kubernetes ends those first, and they would have loaded for nothing.
        settle_s: If a pod that should have been ended is still there after as long, another one was ended instead.
    """

    poll_s: float = 2.0
    cold_start_s: float = 120.0
    drain_s: float = 300.0
    loading_s: float = 600.0
    settle_s: float = 60.0

    def __post_init__(self) -> None:
        checks.number("poll_s", self.poll_s, above=0.0)
        for name in ("cold_start_s", "drain_s", "loading_s", "settle_s"):
            checks.number(name, getattr(self, name), low=0.0)


@dataclass(frozen=True)
class Pod:
    """A pod in a slot."""

    name: str
    worker: LiveWorker


class KubernetesScale:
    """The number of pods of one workload.

    To have fewer, those that may go are drained first; then Kubernetes is told that it may delete them rather than
    others (where it lets itself be told), and to have as many fewer.

    Args:
        api: The API server.
        cluster: How pods are ended.
        timing: Clock, sleep and jitter.

    Attributes:
        replicas: How many pods the workload is to have, as last seen or told.
    """

    def __init__(self, api: KubernetesApi, cluster: ClusterSettings, timing: Timing) -> None:
        self.replicas = 0
        self._api = api
        self._cluster = cluster
        self._timing = timing
        self._draining: dict[str, float] = {}  # when their time is over, by the name of the pod
        self._given_up: dict[str, float] = {}  # when the number was lowered for them
        self._may_mark = True

    def is_given_up(self, pod: str) -> bool:
        """Whether the number was lowered for the sake of this pod."""
        return pod in self._given_up

    def forget(self, pod: str) -> None:
        """It is gone, or going."""
        self._draining.pop(pod, None)
        self._given_up.pop(pod, None)

    async def settle(self, pods: Sequence[Pod]) -> None:
        """Take back who was given up and is still there: Kubernetes has chosen another one."""
        for pod in pods:
            since_s = self._given_up.get(pod.name)
            if since_s is not None and self._timing.clock() - since_s > self._cluster.settle_s:
                await self._take_back(pod)

    async def approach(self, wanted: int, pods: Sequence[Pod], expected: Sequence[LiveWorker]) -> None:
        """Take a step towards ``wanted`` pods.

        Args:
            wanted: How many there are to be.
            pods: Those that have a slot and are not about to end.
            expected: Slots of those that are to be and are not ready.

        Raises:
            InputError: We may not.
            OutsideFault: The server does not answer, or refuses.
        """
        pods = [pod for pod in pods if not self.is_given_up(pod.name)]
        surplus = self.replicas - wanted
        if surplus > 0:
            await self._fewer(surplus, pods, expected)
            return
        for pod in pods:
            if pod.name in self._draining:
                await self._take_back(pod)
        if surplus < 0:
            await self._set(wanted)

    async def _fewer(self, surplus: int, pods: Sequence[Pod], expected: Sequence[LiveWorker]) -> None:
        now_s = self._timing.clock()
        loading = [*expected, *(pod.worker for pod in pods if pod.worker.status == STARTING)]
        if any(now_s - worker.since_s < self._cluster.loading_s for worker in loading):
            return
        await self._drain(max(0, surplus - len(expected)), pods)
        empty = self._may_go(pods)
        number = min(surplus, len(expected)) + len(empty)
        if number:
            await self._set(self.replicas - number)
            for pod in empty:
                self._given_up[pod.name] = now_s
                del self._draining[pod.name]

    async def _drain(self, number: int, pods: Sequence[Pod]) -> None:
        """Have ``number`` of ``pods`` drain."""
        draining = [pod for pod in pods if pod.name in self._draining]
        for pod in self._by_worth(draining)[number:]:
            await self._take_back(pod)
        others = [pod for pod in pods if pod.name not in self._draining]
        for pod in self._by_worth(others)[: max(0, number - len(draining))]:
            self._draining[pod.name] = self._timing.clock() + self._cluster.drain_s
            pod.worker.move(DRAINING)
            await self._mark(pod.name, True)

    def _by_worth(self, pods: Sequence[Pod]) -> list[Pod]:
        """Those first that should go first: of a StatefulSet always the last one, else who serves least."""
        if self._api.target.kind == "statefulsets":
            return sorted(pods, key=lambda pod: -_ordinal(pod.name))
        return sorted(pods, key=lambda pod: (pod.worker.status == READY, pod.worker.in_flight, -pod.worker.since_s))

    def _may_go(self, pods: Sequence[Pod]) -> list[Pod]:
        """Those that are empty, or whose time is over; of a StatefulSet only as they would be deleted in turn."""
        now_s = self._timing.clock()
        found = []
        for pod in self._by_worth([pod for pod in pods if pod.name in self._draining]):
            if not pod.worker.in_flight or now_s >= self._draining[pod.name]:
                found.append(pod)
            elif self._api.target.kind == "statefulsets":
                break
        return found

    async def _take_back(self, pod: Pod) -> None:
        self.forget(pod.name)
        pod.worker.resume()
        await self._mark(pod.name, False)

    async def _mark(self, pod: str, first: bool) -> None:
        """Tell Kubernetes whom to delete first; without the permission it chooses for itself."""
        if not self._may_mark or self._api.target.kind == "statefulsets":
            return
        try:
            await self._api.prefer_for_deletion(pod, first=first)
        except InputError as refusal:
            if "verb" in refusal.mend:  # else the pod is gone
                self._may_mark = False
                _log.warning("Kubernetes will choose which pods to end: %s", refusal.mend)
        except OutsideFault as fault:
            _log.warning("pod %s: %s", pod, fault)

    async def _set(self, replicas: int) -> None:
        for attempt in range(_TRIES):
            try:
                await self._api.scale(replicas)
                break
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
                await self._timing.sleep(self._timing.longer(_FIRST_PAUSE_S * 2**attempt, 1.0))
        _log.info("%s: %d replicas instead of %d", self._api.target, replicas, self.replicas)
        self.replicas = replicas


def _ordinal(pod: str) -> int:
    number = pod.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1
