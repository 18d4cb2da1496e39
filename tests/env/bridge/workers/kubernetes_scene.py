"""A fake cluster with pods that are small servers, and a pool that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from aladdin_env.bridge.workers.kubernetes import KubernetesPool
from aladdin_env.bridge.workers.kubernetes_scale import ClusterSettings
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.simulator.state import OFF, READY

from .fake_kubernetes import FakeKubernetes
from .fake_worker import FakeWorker
from .pretend import soon

WATCH = WatchSettings(health_s=0.1, first_backoff_s=0.05, max_backoff_s=0.2)
CLUSTER = {"poll_s": 0.02, "cold_start_s": 42.0, "loading_s": 0.0}


class Scene:
    """A fake cluster whose pods are small servers on addresses of their own, and a pool that follows it."""

    def __init__(self, folder: Path, kind: str = "deployments") -> None:
        self.folder = folder
        self.cluster = FakeKubernetes(kind=kind)
        self.servers: dict[str, FakeWorker] = {}
        self.pool: KubernetesPool

    async def run_pod(self, name: str, **behaviour: object) -> None:
        """A pod that is pending runs and gets ready."""
        number = len(self.servers) + 2
        server = self.servers[name] = FakeWorker(**behaviour)
        await server.listen(self.cluster.port, f"127.0.0.{number}")
        if not self.cluster.port:  # the first one finds a port, the others are on the same one
            self.cluster.port = int(server.url.rpartition(":")[2])
            self.cluster.ports[0]["port"] = self.cluster.port
        pod = self.cluster.pods[name]
        pod.ip, pod.ready = f"127.0.0.{number}", True

    async def begin(self, replicas: int, limits: Limits, *, scales: bool = True, **cluster: float) -> None:
        self.cluster.port = 0
        self.cluster.set_replicas(replicas)
        for name in list(self.cluster.pods):
            await self.run_pod(name)
        self.pool = KubernetesPool(
            "deploy/vllm" if self.cluster.kind == "deployments" else "sts/vllm",
            limits,
            scales=scales,
            kubeconfig=self.cluster.kubeconfig(self.folder),
            cluster=ClusterSettings(**{**CLUSTER, **cluster}),
            settings=WATCH,
        )
        await self.pool.start()

    def states(self) -> list[int]:
        return [worker.status for worker in self.pool.workers]

    def of(self, name: str):
        """The worker that is this pod."""
        ip = self.cluster.pods[name].ip
        return next(worker for worker in self.pool.workers if f"//{ip}:" in worker.url)

    async def ready(self, count: int) -> None:
        await soon(lambda: self.states().count(READY) == count)

    async def polls(self, count: int = 3) -> None:
        """Some looks at the cluster pass."""
        await asyncio.sleep(count * CLUSTER["poll_s"] + 0.05)


def tell(folder: Path, story: Callable[[Scene], Awaitable[None]], kind: str = "deployments") -> None:
    async def whole() -> None:
        scene = Scene(folder, kind)
        async with scene.cluster:
            try:
                await story(scene)
            finally:
                await scene.pool.stop(0.0)
                for server in scene.servers.values():
                    await server.close()
            assert scene.states() == [OFF] * len(scene.pool.workers)

    asyncio.run(whole())
