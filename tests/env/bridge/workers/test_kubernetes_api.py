"""What is asked of the API server through the real client, and what its refusals become."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from aladdin_env.bridge.workers.kubernetes import KubernetesPool
from aladdin_env.bridge.workers.kubernetes_api import Endpoint, KubernetesApi, Target
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.errors import InputError, OutsideFault

from .fake_kubernetes import FakeKubernetes, FakePod
from .kubernetes_scene import Scene, tell

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pods are loopback addresses other than 127.0.0.1")


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
