"""What is asked of a Kubernetes API server: the scale of a workload, the addresses behind a service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from aladdin_env.errors import InputError, OutsideFault, suggest

_KINDS = {
    **dict.fromkeys(("deploy", "deployment", "deployments"), "deployments"),
    **dict.fromkeys(("sts", "statefulset", "statefulsets"), "statefulsets"),
}
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_OF_SERVICE = "kubernetes.io/service-name"
_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_MANAGER = "aladdin"  # in the records of who changed what
_TIMEOUT_S = (5.0, 15.0)  # to connect, and between two bytes of an answer
_RBAC = "docs/deploy/kubernetes/rbac.yaml"


class Conflict(OutsideFault):
    """Somebody else changed the object at the same moment."""


@dataclass(frozen=True)
class Target:
    """A workload with a scale.

    Attributes:
        kind: "deployments" or "statefulsets".
        name: Its name.
    """

    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``KIND/NAME`` as kubectl writes it, such as ``deploy/vllm``.

        Raises:
            InputError: It is not of that form, or of another kind.
        """
        kind, slash, name = text.partition("/")
        if not slash or not name or "/" in name:
            raise InputError("kubernetes", text, "give KIND/NAME, such as deploy/vllm")
        known = _KINDS.get(kind.lower().removesuffix(".apps"))
        if known is None:
            raise InputError("kubernetes", kind, suggest(kind, ("deploy", "statefulset")))
        return cls(known, name)

    def __str__(self) -> str:
        return f"{self.kind.removesuffix('s')}/{self.name}"


@dataclass(frozen=True)
class Endpoint:
    """A pod behind a service.

    Attributes:
        url: Where it serves.
        pod: Its name; "" if it is none.
        ready: Whether it takes requests, by its readiness probe.
        terminating: Whether it is about to end.
    """

    url: str
    pod: str
    ready: bool
    terminating: bool


class KubernetesApi:
    """Asks the API server, in threads: the official client is synchronous.

    In a pod it is the server of the pod's cluster, elsewhere that of the kubeconfig.

    Args:
        target: The workload.
        service: The service in front of its pods.
        namespace: Where both are; None: that of the pod, or of the kubeconfig's context.
        port: Name or number of the service's port; None: its only one, else the one named "http".
        kubeconfig: Its file; None: as kubectl finds it.
        context: Which of its contexts; None: the current one.

    Raises:
        InputError: The client is not installed, or no server is configured.
    """

    def __init__(
        self,
        target: Target,
        service: str,
        *,
        namespace: str | None = None,
        port: str | None = None,
        kubeconfig: Path | None = None,
        context: str | None = None,
    ) -> None:
        self.target = target
        self.service = service
        self._port = port
        self._kubernetes = _library()
        client, found = self._connect(kubeconfig, context)
        self.namespace = namespace or found
        # The client's own choice for a patch differs between its releases; all of them obey this.
        client.set_default_header("Content-Type", "application/merge-patch+json")
        # As plain objects, not as the client's classes: some of its releases refuse what servers send, such as
        # "endpoints": null of a service that has no pods.
        self._objects = self._kubernetes.client.CustomObjectsApi(client)
        self._core = self._kubernetes.client.CoreV1Api(client)
        self._threads = ThreadPoolExecutor(2, "kubernetes")

    async def replicas(self) -> int:
        """How many pods the workload is to have.

        Raises:
            InputError: There is no such workload, or we may not look.
            OutsideFault: The server does not answer.
        """
        scale = await self._scale("get", self._objects.get_namespaced_custom_object_scale)
        return int(scale.get("spec", {}).get("replicas", 0))  # 0 is left out by the server

    async def scale(self, replicas: int, *, dry_run: bool = False) -> None:
        """Have the workload have ``replicas`` pods; a dry run only finds out whether we may.

        Raises:
            InputError: There is no such workload, or we may not.
            Conflict: Somebody else changed it at the same moment.
            OutsideFault: The server does not answer.
        """
        more = {"dry_run": "All"} if dry_run else {}
        body = {"spec": {"replicas": replicas}}
        await self._scale("patch", self._objects.patch_namespaced_custom_object_scale, body, **more)

    async def endpoints(self) -> list[Endpoint] | None:
        """The pods behind the service, of every zone, each once; None if nothing is known of such a service.

        Raises:
            InputError: We may not look, or the service has several ports and none was named.
            OutsideFault: The server does not answer.
        """
        answer = await self._ask(
            ("list", "discovery.k8s.io", "endpointslices"),
            self._objects.list_namespaced_custom_object,
            *("discovery.k8s.io", "v1", self.namespace, "endpointslices"),
            label_selector=f"{_OF_SERVICE}={self.service}",
        )
        slices = answer.get("items") or []
        found: dict[str, Endpoint] = {}
        for endpoint in (one for each in slices for one in self._of_slice(each)):
            known = found.get(endpoint.url)
            if known is None or (endpoint.ready and not known.ready):  # one on its way from slice to slice is in two
                found[endpoint.url] = endpoint
        return list(found.values()) if slices else None

    async def prefer_for_deletion(self, pod: str, *, first: bool) -> None:
        """Have ``pod`` be the first to go when there are to be fewer, or as any other again.

        Raises:
            InputError: There is no such pod, or we may not.
            OutsideFault: The server does not answer.
        """
        body = {"metadata": {"annotations": {_DELETION_COST: "-1000" if first else None}}}
        await self._ask(("patch", "", "pods"), self._core.patch_namespaced_pod, pod, self.namespace, body)

    def close(self) -> None:
        """End the threads; a question that is on its way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _connect(self, kubeconfig: Path | None, context: str | None) -> tuple[Any, str]:
        """A client, and the namespace that is usual there."""
        config, client = self._kubernetes.config, self._kubernetes.client
        settings = client.Configuration()
        if kubeconfig is None and context is None:
            try:
                config.load_incluster_config(client_configuration=settings)
                return client.ApiClient(settings), _NAMESPACE_FILE.read_text().strip()
            except (config.ConfigException, OSError):
                pass  # not in a pod
        file = None if kubeconfig is None else str(kubeconfig)
        try:
            config.load_kube_config(file, context, client_configuration=settings, persist_config=False)
            contexts, current = config.list_kube_config_contexts(file)
        except Exception as error:  # the client raises whatever it stumbles over in a file
            raise InputError("kubeconfig", file, f"give one that leads to a cluster ({_line(error)})") from None
        chosen = next((one for one in contexts if one["name"] == context), current)
        return client.ApiClient(settings), chosen["context"].get("namespace") or "default"

    async def _scale(self, verb: str, call: Callable[..., Any], *body: object, **options: object) -> dict[str, Any]:
        where = ("apps", "v1", self.namespace, self.target.kind, self.target.name)
        if verb == "patch":
            options["field_manager"] = _MANAGER
        right = (verb, "apps", f"{self.target.kind}/scale")
        return dict(await self._ask(right, call, *where, *body, **options))

    async def _ask(self, right: tuple[str, str, str], call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Answer of a ``call`` that needs the ``right``: verb, API group, resource."""
        import urllib3

        def asked() -> Any:
            return call(*args, **options, _request_timeout=_TIMEOUT_S)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, asked)
        except self._kubernetes.client.ApiException as error:
            raise self._refusal(error, right) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise OutsideFault(f"the Kubernetes API server does not answer ({_line(error)})") from None

    def _refusal(self, error: Any, right: tuple[str, str, str]) -> Exception:
        """What the server's refusal means, and how to mend it."""
        verb, group, resource = right
        said = _line(error.reason or error)
        if error.status == 401:
            return InputError("kubernetes", str(self.target), "log in to the cluster: its API server answers 401")
        if error.status == 403:
            mend = (
                f"allow the verb {verb!r} on {resource!r} of the API group {group!r} in the namespace "
                f"{self.namespace!r}, as {_RBAC} does"
            )
            return InputError("kubernetes", str(self.target), mend)
        if error.status == 404:
            mend = f"give one that exists: the namespace {self.namespace!r} has no such {resource.partition('/')[0]}"
            return InputError("kubernetes", str(self.target), mend)
        if error.status == 409:
            return Conflict(f"{self.target} was changed by somebody else at the same moment")
        return OutsideFault(f"the Kubernetes API server answers {error.status} ({said})")

    def _of_slice(self, slice_: dict[str, Any]) -> list[Endpoint]:
        port = self._port_of(slice_.get("ports") or [])
        if port is None or slice_.get("addressType") not in ("IPv4", "IPv6"):
            return []
        scheme = "https" if port.get("appProtocol") == "https" else "http"
        found = []
        for endpoint in slice_.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            address = endpoint["addresses"][0]  # they are alternatives, and in practice there is one
            host = f"[{address}]" if slice_["addressType"] == "IPv6" else address
            pod = endpoint.get("targetRef") or {}
            found.append(
                Endpoint(
                    url=f"{scheme}://{host}:{port['port']}",
                    pod=pod.get("name", "") if pod.get("kind") == "Pod" else "",
                    ready=conditions.get("ready") is not False,  # unknown means ready
                    terminating=conditions.get("terminating") is True,
                )
            )
        return found

    def _port_of(self, ports: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The one that serves; None of a slice without ports: one without pods."""
        ports = [port for port in ports if port.get("port") is not None]
        wanted = "http" if self._port is None and len(ports) > 1 else self._port
        if not ports or wanted is None:
            return ports[0] if ports else None
        for port in ports:
            if wanted in (port.get("name"), str(port["port"])):
                return port
        names = ", ".join(str(port.get("name") or port["port"]) for port in ports)
        raise InputError("port", self._port, f"give one of the ports of the service {self.service!r}: {names}")


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _library() -> Any:
    try:
        import_module("kubernetes.client")  # by name: its 700 modules are no business of type checkers
        import_module("kubernetes.config")
    except ImportError:
        raise InputError("kubernetes", None, "it is missing: pip install 'aladdin-env[kubernetes]'") from None
    return import_module("kubernetes")
