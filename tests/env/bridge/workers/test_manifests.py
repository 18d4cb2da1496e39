"""The Kubernetes manifests of the documentation: they parse, their names fit together, and their rights suffice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from aladdin_env.bridge.workers.kubernetes import KubernetesPool
from aladdin_env.bridge.workers.kubernetes_api import Target
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.cli.app import app

from .fake_kubernetes import NAMESPACE, FakeKubernetes

FOLDER = Path(__file__).parents[4] / "docs/deploy/kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
GAUGE = "aladdin_desired_replicas"


def read(file: Path) -> list[dict]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


DOCUMENTS = [document for file in FILES for document in read(file)]


def one(kind: str, name: str) -> dict:
    (found,) = [d for d in DOCUMENTS if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def option(name: str) -> str:
    """A command-line option of the bridge."""
    (container,) = one("Deployment", "aladdin")["spec"]["template"]["spec"]["containers"]
    (found,) = [arg.partition("=")[2] for arg in container["args"] if arg.startswith(f"--{name}=")]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_document_is_a_whole_object(file: Path) -> None:
    for document in read(file):
        assert document["apiVersion"] and document["kind"]
        if document["kind"] not in ("Kustomization", "Namespace"):
            assert document["metadata"]["name"] and document["metadata"]["namespace"] == NAMESPACE


def test_all_files_are_there_and_either_applied_or_explained() -> None:
    resources = one_of_kind("Kustomization")["resources"]
    others = {"kustomization.yaml", "keda.yaml", "hpa.yaml"}
    assert {file.name for file in FILES} == set(resources) | others
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{file.name}`" in told for file in FILES if file.name != "kustomization.yaml")
    assert one_of_kind("Namespace")["metadata"]["name"] == NAMESPACE


def one_of_kind(kind: str) -> dict:
    (found,) = [document for document in DOCUMENTS if document["kind"] == kind]
    return found


def test_the_bridge_takes_the_options_that_it_is_given() -> None:
    (container,) = one("Deployment", "aladdin")["spec"]["template"]["spec"]["containers"]
    command, *given = container["args"]
    known = {name for option in get_command(app).commands[command].params for name in option.opts}
    assert {option.partition("=")[0] for option in given} <= known


@pytest.mark.parametrize("name", ["vllm", "aladdin"])
def test_services_lead_to_their_pods(name: str) -> None:
    service, deployment = one("Service", name)["spec"], one("Deployment", name)["spec"]
    template = deployment["template"]
    assert deployment["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    (port,) = service["ports"]
    assert port["port"] == ports[port["targetPort"]]
    assert f"--port={ports['http']}" in container["args"]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert all(probe["port"] in ports for probe in probes)
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_bridge_scales_what_is_there() -> None:
    target = Target.parse(option("kubernetes"))
    workload = one("Deployment", target.name)
    assert target.kind == "deployments" and "replicas" not in workload["spec"]
    assert one("Service", target.name)  # where the bridge looks if nobody names one


def test_the_account_of_the_bridge_has_the_role() -> None:
    account = one_of_kind("ServiceAccount")["metadata"]["name"]
    assert one("Deployment", "aladdin")["spec"]["template"]["spec"]["serviceAccountName"] == account
    binding = one_of_kind("RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
    role = one_of_kind("Role")
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", role["metadata"]["name"])
    assert role["rules"][0]["resourceNames"] == [Target.parse(option("kubernetes")).name]


def test_its_rights_suffice_and_none_is_superfluous(tmp_path: Path) -> None:
    rules = one_of_kind("Role")["rules"]
    rights = {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}

    async def story() -> None:
        async with FakeKubernetes() as cluster:
            assert cluster.rights == rights  # what the fake would refuse to anybody who has fewer
            cluster.set_replicas(3)
            limits = Limits(int(option("min")), int(option("max")))
            pool = KubernetesPool(option("kubernetes"), limits, kubeconfig=cluster.kubeconfig(tmp_path))
            await pool.start()
            await pool.scale_to([4])
            assert cluster.replicas == 4
            await pool.stop(0.0)

    asyncio.run(story())


def test_other_scalers_have_the_same_workload_limits_and_metric() -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": Target.parse(option("kubernetes")).name}
    limits = (int(option("min")), int(option("max")))
    keda, hpa = one_of_kind("ScaledObject")["spec"], one_of_kind("HorizontalPodAutoscaler")["spec"]
    assert keda["scaleTargetRef"] == hpa["scaleTargetRef"] == target
    assert (keda["minReplicaCount"], keda["maxReplicaCount"]) == limits
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == limits
    (trigger,) = keda["triggers"]
    assert GAUGE in trigger["metadata"]["query"] and NAMESPACE in trigger["metadata"]["query"]
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("AverageValue", "1")
    (metric,) = hpa["metrics"]
    assert metric["external"]["metric"]["name"] == GAUGE
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}


def test_answers_have_time_to_end() -> None:
    pod = one("Deployment", "vllm")["spec"]["template"]["spec"]
    (patience,) = [int(a.partition("=")[2]) for a in pod["containers"][0]["args"] if a.startswith("--shutdown-timeout")]
    assert 0 < patience < pod["terminationGracePeriodSeconds"]
