"""Pods as workers, through the real client, against a fake API server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from aladdin_env.bridge.workers.kubernetes import KubernetesPool
from aladdin_env.bridge.workers.kubernetes_api import Endpoint, KubernetesApi, Target
from aladdin_env.bridge.workers.kubernetes_scale import ClusterSettings
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.errors import InputError, OutsideFault
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY, STARTING

from .fake_kubernetes import COST, FakeKubernetes, FakePod
from .fake_worker import FakeWorker
from .pretend import soon

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pods are loopback addresses other than 127.0.0.1")
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


def test_pods_that_are_there_become_workers(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(2, Limits(1, 4))
        await scene.ready(2)
        assert scene.pool.wanted == (2,) and scene.pool.can_scale
        first = scene.pool.workers[0]
        assert first.model == "m" and first.url == f"http://127.0.0.2:{scene.cluster.port}"
        assert scene.pool.cold_start_s == 42.0  # nobody knows how long these took
        assert scene.cluster.patches == [-3]  # whether we may scale was tried

    tell(tmp_path, story)


def test_more_pods_are_asked_for_and_expected_until_they_are_ready(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 3))
        await scene.ready(1)
        await scene.pool.scale_to([9])
        assert scene.cluster.replicas == 3 and scene.pool.wanted == (3,)
        assert scene.states() == [READY, STARTING, STARTING]
        expected = scene.pool.workers[1]
        assert expected.url == "" and expected.ready_s == pytest.approx(expected.since_s + 42.0, abs=1.0)
        await scene.run_pod("vllm-2")
        await scene.ready(2)
        assert scene.states() == [READY, READY, STARTING]
        assert 0.0 < scene.pool.cold_start_s < 42.0
        await scene.run_pod("vllm-1")
        await scene.ready(3)

    tell(tmp_path, story)


def test_a_pod_that_somebody_else_takes_away_drains(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(2, Limits(1, 2))
        await scene.ready(2)
        worker = scene.of("vllm-0")
        with worker.lease():
            scene.cluster.pods["vllm-0"].terminating = True
            await soon(lambda: worker.status == DRAINING)
            scene.cluster.pods.pop("vllm-0")
            await scene.polls()
            assert worker.status == DRAINING and worker.url
        await soon(lambda: worker.status != DRAINING)
        assert worker.url == ""
        await soon(lambda: worker.status == STARTING)  # the workload still is to have two
        scene.cluster.set_replicas(2)
        await scene.run_pod("vllm-2")
        await scene.ready(2)

    tell(tmp_path, story)


def test_an_idle_pod_is_drained_marked_and_only_then_given_up(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(3, Limits(1, 3))
        await scene.ready(3)
        busy, other = scene.of("vllm-0"), scene.of("vllm-1")
        with busy.lease(), other.lease():
            await scene.pool.scale_to([2])
            assert scene.cluster.replicas == 2
            assert (
                scene.cluster.pods["vllm-2"].terminating and scene.cluster.pods["vllm-2"].annotations[COST] == "-1000"
            )
            assert scene.of("vllm-2").status == DRAINING
            scene.cluster.pods.pop("vllm-2")
            await soon(lambda: OFF in scene.states())
            await scene.pool.scale_to([1])
            assert scene.states().count(DRAINING) == 1 and scene.cluster.replicas == 2
            await scene.polls()
            assert scene.cluster.replicas == 2  # both are busy: nobody is stopped
        await soon(lambda: scene.cluster.replicas == 1)

    tell(tmp_path, story)


def test_a_draining_pod_is_taken_back_and_not_preferred_any_more(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(2, Limits(1, 2))
        await scene.ready(2)
        with scene.of("vllm-0").lease(), scene.of("vllm-1").lease():
            await scene.pool.scale_to([1])
            (chosen,) = [name for name in scene.cluster.pods if scene.of(name).status == DRAINING]
            assert scene.cluster.pods[chosen].annotations == {COST: "-1000"}
            await scene.pool.scale_to([2])
            assert scene.states() == [READY, READY]
            assert scene.cluster.pods[chosen].annotations == {}
        await scene.polls()
        assert scene.states() == [READY, READY] and scene.cluster.replicas == 2

    tell(tmp_path, story)


def test_a_drain_has_a_deadline(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(2, Limits(1, 2), drain_s=0.1)
        await scene.ready(2)
        with scene.of("vllm-0").lease(), scene.of("vllm-1").lease():
            await scene.pool.scale_to([1])
            assert scene.cluster.replicas == 2
            await soon(lambda: scene.cluster.replicas == 1)

    tell(tmp_path, story)


def test_without_the_right_to_mark_pods_kubernetes_chooses_and_the_pool_follows(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.cluster.rights.discard(("patch", "pods"))
        await scene.begin(2, Limits(1, 2), settle_s=0.1)
        await scene.ready(2)
        spared = scene.of("vllm-1")
        with scene.of("vllm-0").lease():  # it chooses this one, though it is busy
            await scene.pool.scale_to([1])
            assert scene.cluster.pods["vllm-0"].terminating and spared.status == DRAINING
            await soon(lambda: spared.status == READY)
            assert scene.of("vllm-0").status == DRAINING

    tell(tmp_path, story)


def test_of_a_stateful_set_the_last_pods_go(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(3, Limits(1, 3))
        await scene.ready(3)
        last = scene.of("vllm-2")
        with last.lease():
            await scene.pool.scale_to([1])
            assert [scene.of(f"vllm-{i}").status for i in range(3)] == [READY, DRAINING, DRAINING]
            await scene.polls()
            assert scene.cluster.replicas == 3  # the last one is busy, and would go before the idle one
        await soon(lambda: scene.cluster.replicas == 1)
        assert not scene.cluster.pods["vllm-0"].terminating

    tell(tmp_path, story, "statefulsets")


def test_loading_pods_are_not_given_up_before_their_time(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 3), loading_s=0.5)
        await scene.ready(1)
        await scene.pool.scale_to([3])
        await scene.pool.scale_to([1])
        assert scene.cluster.replicas == 3 and scene.states() == [READY, STARTING, STARTING]
        await soon(lambda: scene.cluster.replicas == 1)
        assert scene.states() == [READY, OFF, OFF] and not scene.cluster.pods["vllm-0"].terminating

    tell(tmp_path, story)


def test_a_pod_that_is_not_ready_gets_nothing_until_it_is(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 1))
        await scene.ready(1)
        (worker,) = scene.pool.workers
        scene.cluster.pods["vllm-0"].ready = False
        await soon(lambda: worker.status == FAILED)
        assert worker.reason == "its pod is not ready"
        await scene.polls(10)
        assert worker.status == FAILED  # though it answers our own checks
        scene.cluster.pods["vllm-0"].ready = True
        await scene.ready(1)

    tell(tmp_path, story)


def test_a_pod_that_stops_answering_is_failed_before_kubernetes_sees_it(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 1))
        await scene.ready(1)
        scene.servers["vllm-0"].behaviour.health = 503
        await soon(lambda: scene.states() == [FAILED])
        scene.servers["vllm-0"].behaviour.health = 200
        await scene.ready(1)

    tell(tmp_path, story)


def test_pods_of_another_model_stay_out_until_the_old_ones_are_gone(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 2))
        await scene.ready(1)
        await scene.pool.scale_to([2])
        await scene.run_pod("vllm-1", model="n")
        await soon(lambda: FAILED in scene.states())
        assert "it serves 'n'" in scene.pool.workers[1].reason
        scene.cluster.pods["vllm-0"].terminating = True
        await soon(lambda: scene.pool.workers[1].status == READY)

    tell(tmp_path, story)


def test_more_pods_than_slots_wait_for_one(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 1))
        await scene.ready(1)
        scene.cluster.pods["vllm-9"] = FakePod()  # as in a rolling update
        await scene.run_pod("vllm-9")
        await scene.polls()
        scene.cluster.pods["vllm-0"].terminating = True
        (worker,) = scene.pool.workers
        await soon(lambda: worker.status == READY and f"//{scene.cluster.pods['vllm-9'].ip}:" in worker.url)

    tell(tmp_path, story)


def test_a_new_pod_on_an_old_address_is_another_worker(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 1))
        await scene.ready(1)
        (worker,) = scene.pool.workers
        era = worker.era
        scene.cluster.pods["vllm-1"] = scene.cluster.pods.pop("vllm-0")
        await soon(lambda: worker.status == READY and worker.era > era)

    tell(tmp_path, story)


def test_conflicts_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aladdin_env.bridge.workers.kubernetes_scale._FIRST_PAUSE_S", 0.001)

    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 3), poll_s=60.0)
        scene.cluster.conflicts = 2
        await scene.pool.scale_to([2])
        assert scene.cluster.replicas == 2
        scene.cluster.conflicts = 99
        with pytest.raises(OutsideFault, match="changed by somebody else"):
            await scene.pool.scale_to([3])

    tell(tmp_path, story)


def test_an_outage_of_the_api_server_leaves_the_workers_alone(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 2))
        await scene.ready(1)
        scene.cluster.status = 503
        with pytest.raises(OutsideFault, match="answers 503"):
            await scene.pool.scale_to([2])
        await scene.polls()
        assert scene.states() == [READY, OFF]
        scene.cluster.status = 0
        await soon(lambda: scene.cluster.replicas == 2)  # what was wanted is not forgotten
        scene.cluster.services.clear()
        await scene.polls()
        assert scene.states() == [READY, STARTING]

    tell(tmp_path, story)


def test_where_somebody_else_scales_it_only_follows(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.cluster.rights.discard(("patch", "deployments/scale"))
        await scene.begin(1, Limits(1, 2), scales=False)
        await scene.ready(1)
        await scene.pool.scale_to([2])
        await scene.polls()
        assert (scene.pool.can_scale, scene.pool.wanted, scene.cluster.patches) == (False, (2,), [])
        assert scene.states() == [READY, OFF]
        scene.cluster.set_replicas(2)  # an HPA that goes by our gauge
        await soon(lambda: scene.states() == [READY, STARTING])
        await scene.run_pod("vllm-1")
        await scene.ready(2)

    tell(tmp_path, story)


def test_the_limits_hold_from_the_start(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(0, Limits(1, 2))
        assert scene.pool.wanted == (1,)
        await soon(lambda: scene.cluster.replicas == 1)
        await scene.run_pod("vllm-0")
        await scene.ready(1)

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("right", "message"),
    [
        (("get", "deployments/scale"), "'get' on 'deployments/scale' of the API group 'apps' in the namespace 'llm'"),
        (("patch", "deployments/scale"), "'patch' on 'deployments/scale' of the API group 'apps'"),
        (("list", "endpointslices"), "'list' on 'endpointslices' of the API group 'discovery.k8s.io'"),
    ],
)
def test_a_missing_right_is_named_at_the_start(right: tuple[str, str], message: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.cluster.rights.discard(right)
        with pytest.raises(InputError) as refused:
            await scene.begin(1, Limits(1, 2))
        assert message in str(refused.value) and "deployment/vllm" in str(refused.value)
        assert "docs/deploy/kubernetes/rbac.yaml" in str(refused.value)
        assert "secret" not in str(refused.value)

    tell(tmp_path, story)


def test_a_right_that_is_lost_later_is_a_fault_that_may_pass(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(1, Limits(1, 2), poll_s=60.0)
        scene.cluster.rights.clear()
        with pytest.raises(OutsideFault, match="allow the verb 'patch'"):
            await scene.pool.scale_to([2])

    tell(tmp_path, story)


def start_with(folder: Path, target: str = "deploy/vllm", **options: object) -> None:
    async def once() -> None:
        async with FakeKubernetes() as cluster:
            pool = KubernetesPool(target, Limits(1, 2), kubeconfig=cluster.kubeconfig(folder), **options)
            await pool.start()

    asyncio.run(once())


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'deployment/vlm' .*the namespace 'llm' has no such deployments"):
        start_with(tmp_path, "deploy/vlm")
    with pytest.raises(InputError, match=r"service: 'web' .*in front of deployment/vllm"):
        start_with(tmp_path, service="web")


def test_an_api_server_that_does_not_answer(tmp_path: Path) -> None:
    async def once() -> None:
        async with FakeKubernetes() as cluster:
            file = cluster.kubeconfig(tmp_path)
        pool = KubernetesPool("deploy/vllm", Limits(1, 2), kubeconfig=file)
        with pytest.raises(OutsideFault, match="does not answer"):
            await pool.start()

    asyncio.run(once())


def test_a_target_is_read_as_kubectl_does() -> None:
    assert Target.parse("deploy/vllm") == Target.parse("deployment.apps/vllm") == Target("deployments", "vllm")
    assert str(Target.parse("sts/vllm")) == "statefulset/vllm"
    for wrong in ("vllm", "deploy/", "a/b/c"):
        with pytest.raises(InputError, match="such as deploy/vllm"):
            Target.parse(wrong)
    with pytest.raises(InputError, match="did you mean 'deploy'"):
        Target.parse("deplo/vllm")


def test_a_kubeconfig_that_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    broken = tmp_path / "broken"
    broken.write_text("{not: [yaml")
    for file in (tmp_path / "missing", broken):
        with pytest.raises(InputError, match=r"kubeconfig: .*give one that leads to a cluster"):
            KubernetesPool("deploy/vllm", Limits(1, 2), kubeconfig=file)


def endpoints(folder: Path, cluster: FakeKubernetes, port: str | None = None) -> list[Endpoint] | None:
    async def once() -> list[Endpoint] | None:
        async with cluster:
            api = KubernetesApi(Target.parse("deploy/vllm"), "vllm", port=port, kubeconfig=cluster.kubeconfig(folder))
            try:
                return await api.endpoints()
            finally:
                api.close()

    return asyncio.run(once())


def test_addresses_of_every_kind(tmp_path: Path) -> None:
    cluster = FakeKubernetes()
    assert endpoints(tmp_path, cluster) == []
    cluster.pods = {"a": FakePod("fd00::7", ready=True), "b": FakePod("fd00::8", terminating=True), "c": FakePod()}
    cluster.address_type = "IPv6"
    assert endpoints(tmp_path, cluster) == [
        Endpoint("http://[fd00::7]:8000", "a", True, False),
        Endpoint("http://[fd00::8]:8000", "b", False, True),
    ]
    cluster.services.clear()
    assert endpoints(tmp_path, cluster) is None


def test_the_port_is_found_or_asked_for(tmp_path: Path) -> None:
    cluster = FakeKubernetes()
    cluster.pods = {"a": FakePod("10.0.0.1", ready=True)}
    cluster.ports = [{"name": "metrics", "port": 9000}, {"name": "http", "port": 8000, "appProtocol": "https"}]
    assert endpoints(tmp_path, cluster)[0].url == "https://10.0.0.1:8000"
    for port in ("metrics", "9000"):
        assert endpoints(tmp_path, cluster, port)[0].url == "http://10.0.0.1:9000"
    with pytest.raises(InputError, match=r"port: 'grpc' .*one of the ports of the service 'vllm': metrics, http"):
        endpoints(tmp_path, cluster, "grpc")
    cluster.ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    with pytest.raises(InputError, match=r"port: None .*: a, b"):
        endpoints(tmp_path, cluster)
    cluster.ports = [{"port": 7}]
    assert endpoints(tmp_path, cluster)[0].url == "http://10.0.0.1:7"


def test_a_pod_in_two_slices_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeKubernetes()
    cluster.pods = {"a": FakePod("10.0.0.1", ready=False)}
    old = cluster.slice_()
    cluster.pods["a"].ready = True
    new = cluster.slice_()
    for order in ([old, new], [new, old]):

        async def both(self: FakeKubernetes, request, order=order):
            from aiohttp import web

            return web.json_response({"kind": "EndpointSliceList", "metadata": {}, "items": order})

        monkeypatch.setattr(FakeKubernetes, "list_slices", both)
        assert endpoints(tmp_path, cluster) == [Endpoint("http://10.0.0.1:8000", "a", True, False)]


def test_without_the_library_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules.update(kubernetes=None)\n"
        "from aladdin_env.bridge.workers.kubernetes import KubernetesPool\n"
        "from aladdin_env.bridge.workers.pool import Limits\n"
        "try: KubernetesPool('deploy/vllm', Limits(1, 2))\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "pip install 'aladdin-env[kubernetes]'" in done.stdout
