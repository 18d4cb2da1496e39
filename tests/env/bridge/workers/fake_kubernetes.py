"""A fake of the Kubernetes API server and of the controllers behind it, for tests: real HTTP, real JSON, no cluster.

It serves the scale of one workload, the EndpointSlices of one service and patches of pods, in the formats and with the
peculiarities of the real one: a scale of 0 is left out, a service without pods has ``"endpoints": null``, a patch has
a content type that is checked, every refusal is a Status object. Pods come and go as a test says; who goes when there
are to be fewer is chosen as the ReplicaSet controller does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from aiohttp import web

NAMESPACE = "llm"
MERGE_PATCH = "application/merge-patch+json"
COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass
class FakePod:
    ip: str = ""  # none yet while it is pending
    ready: bool = False
    terminating: bool = False
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Whoever has the least is deleted first: not scheduled, not ready, cheap."""
        return bool(self.ip), self.ready, int(self.annotations.get(COST, "0"))


class FakeKubernetes:
    """One workload ``NAME`` with a service of the same name.

    Attributes:
        replicas: Its scale.
        pods: By name; a test makes them ready and takes them away.
        rights: Who we are may do this: verb and resource.
        conflicts: So many patches to come are answered with 409.
        status: Answered to everything instead, if not 0.
        patches: Replicas asked for, dry runs as negative numbers less one.
    """

    def __init__(self, name: str = "vllm", kind: str = "deployments", port: int = 8000) -> None:
        self.name, self.kind, self.port = name, kind, port
        self.replicas = 0
        self.pods: dict[str, FakePod] = {}
        self.rights = {
            ("get", f"{kind}/scale"),
            ("patch", f"{kind}/scale"),
            ("list", "endpointslices"),
            ("patch", "pods"),
        }
        self.conflicts = 0
        self.status = 0
        self.patches: list[int] = []
        self.ports: list[dict[str, object]] = [{"name": "http", "protocol": "TCP", "port": port}]
        self.address_type = "IPv4"
        self.services = {name}
        self.url = ""
        self._version = 1
        self._made = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeKubernetes:
        app = web.Application()
        scale = f"/apis/apps/v1/namespaces/{NAMESPACE}/{{kind}}/{{name}}/scale"
        app.router.add_get(scale, self.get_scale)
        app.router.add_patch(scale, self.patch_scale)
        slices = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
        app.router.add_get(slices, self.list_slices)
        app.router.add_patch(f"/api/v1/namespaces/{NAMESPACE}/pods/{{name}}", self.patch_pod)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def kubeconfig(self, folder: Path) -> Path:
        """A kubeconfig that leads here."""
        user = "system:serviceaccount:llm:aladdin"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": user, "user": {"token": "secret"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": user, "namespace": NAMESPACE}}],
        }
        file = folder / "kubeconfig"
        file.write_text(yaml.safe_dump(content))
        return file

    def set_replicas(self, replicas: int) -> None:
        """What the controllers do: pods that are missing are made, and pending; of too many the least go."""
        self.replicas = replicas
        here = {name: pod for name, pod in self.pods.items() if not pod.terminating}
        for _ in range(replicas - len(here)):
            self.pods[self._next_name()] = FakePod()
        order = sorted(here, key=lambda name: here[name].rank)
        if self.kind == "statefulsets":
            order = sorted(here, key=lambda name: -int(name.rpartition("-")[2]))
        for name in order[: max(0, len(here) - replicas)]:
            if here[name].ip:
                here[name].terminating = True
                here[name].ready = False
            else:
                del self.pods[name]

    def _next_name(self) -> str:
        self._made += 1
        return f"{self.name}-{self._made - 1}"

    def refusal(self, verb: str, resource: str) -> web.Response | None:
        if self.status:
            return said(self.status, "ServiceUnavailable", "the server is currently unable to handle the request")
        if (verb, resource) not in self.rights:
            message = (
                f'{resource} "{self.name}" is forbidden: User "system:serviceaccount:{NAMESPACE}:aladdin" cannot '
                f'{verb} resource "{resource}" in API group "apps" in the namespace "{NAMESPACE}"'
            )
            return said(403, "Forbidden", message)
        return None

    def scale(self) -> web.Response:
        spec = {"replicas": self.replicas} if self.replicas else {}
        meta = {"name": self.name, "namespace": NAMESPACE, "resourceVersion": str(self._version)}
        status = {"replicas": len(self.pods), "selector": f"app={self.name}"}
        whole = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec, "status": status}
        return web.json_response(whole)

    def missing(self, request: web.Request) -> web.Response | None:
        kind, name = request.match_info["kind"], request.match_info["name"]
        if (kind, name) == (self.kind, self.name):
            return None
        return said(404, "NotFound", f'{kind}.apps "{name}" not found')

    async def get_scale(self, request: web.Request) -> web.Response:
        return self.refusal("get", f"{self.kind}/scale") or self.missing(request) or self.scale()

    async def patch_scale(self, request: web.Request) -> web.Response:
        refused = self.refusal("patch", f"{self.kind}/scale") or self.missing(request) or wrong_type(request)
        if refused is not None:
            return refused
        assert request.query["fieldManager"] == "aladdin"
        replicas = int((await request.json())["spec"]["replicas"])
        is_dry = request.query.get("dryRun") == "All"
        if not is_dry and self.conflicts:
            self.conflicts -= 1
            return said(409, "Conflict", "the object has been modified; please apply your changes to the latest")
        self.patches.append(-1 - replicas if is_dry else replicas)
        if not is_dry:
            self._version += 1
            self.set_replicas(replicas)
        return self.scale()

    async def list_slices(self, request: web.Request) -> web.Response:
        refused = self.refusal("list", "endpointslices")
        if refused is not None:
            return refused
        label, _, service = request.query["labelSelector"].partition("=")
        assert label == "kubernetes.io/service-name"
        items = [self.slice_()] if service in self.services else []
        whole = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": {}, "items": items}
        return web.json_response(whole)

    def slice_(self) -> dict[str, object]:
        endpoints = [endpoint(name, pod) for name, pod in self.pods.items() if pod.ip]
        meta = {"name": f"{self.name}-x7k2p", "labels": {"kubernetes.io/service-name": self.name}}
        return {
            "metadata": meta,
            "addressType": self.address_type,
            "endpoints": endpoints or None,
            "ports": self.ports if endpoints else None,
        }

    async def patch_pod(self, request: web.Request) -> web.Response:
        refused = self.refusal("patch", "pods") or wrong_type(request)
        if refused is not None:
            return refused
        name = request.match_info["name"]
        if name not in self.pods:
            return said(404, "NotFound", f'pods "{name}" not found')
        for key, value in (await request.json())["metadata"]["annotations"].items():
            if value is None:
                self.pods[name].annotations.pop(key, None)
            else:
                self.pods[name].annotations[key] = value
        meta = {"name": name, "namespace": NAMESPACE, "annotations": self.pods[name].annotations}
        spec = {"containers": [{"name": "vllm", "image": "vllm/vllm-openai"}]}
        return web.json_response({"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec})


def endpoint(name: str, pod: FakePod) -> dict[str, object]:
    conditions = {"ready": pod.ready, "serving": pod.ready or pod.terminating, "terminating": pod.terminating}
    target = {"kind": "Pod", "namespace": NAMESPACE, "name": name, "uid": f"uid-{name}"}
    return {"addresses": [pod.ip], "conditions": conditions, "targetRef": target, "zone": f"zone-{len(name) % 2}"}


def wrong_type(request: web.Request) -> web.Response | None:
    if request.content_type == MERGE_PATCH:
        return None
    return said(
        415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {request.content_type}"
    )


def said(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return web.Response(
        status=code,
        text=json.dumps({**status, "message": message, "reason": reason, "code": code}),
        content_type="application/json",
    )
