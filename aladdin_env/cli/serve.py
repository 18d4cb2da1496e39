"""``aladdin serve``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aladdin_env.cli import options as opt
from aladdin_env.cli.output import say_if_compiling, stdout
from aladdin_env.errors import InputError
from aladdin_env.scenario import SLO

if TYPE_CHECKING:
    from aladdin_env.bridge.server import BridgeSettings
    from aladdin_env.bridge.workers.pool import Limits, WorkerPool

_MAX_LOCAL = 8
Common = Mapping[str, Any]
#: Workers of the demo: each an emulated one in a process of its own.
_DEMO = "{python} -m aladdin_env.cli worker --profile {profile} --port {{port}} --model demo"


def serve(
    policy: Annotated[
        str, typer.Option(help="placement, placement+scaler, or a checkpoint.", autocompletion=opt.complete_policies)
    ] = "aladdin",
    worker: Annotated[list[str] | None, typer.Option(help="URL of a running worker; again for each.")] = None,
    local: Annotated[
        str | None, typer.Option(help='Command that starts a worker, such as "vllm serve MODEL --port {port}".')
    ] = None,
    kubernetes: Annotated[str | None, typer.Option(help="Deployment or StatefulSet, such as deploy/vllm.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Emulated workers: no GPU, real HTTP.")] = False,
    no_scale: Annotated[
        bool, typer.Option("--no-scale", help="Kubernetes: only tell how many are wanted; an HPA or KEDA scales.")
    ] = False,
    namespace: Annotated[str | None, typer.Option(help="Kubernetes: namespace; else our own.")] = None,
    service: Annotated[
        str | None, typer.Option(help="Kubernetes: service of the workers; else of the same name.")
    ] = None,
    gpus: Annotated[str | None, typer.Option(help="Local: GPUs to use, such as 0,1,2,3; else all.")] = None,
    gpus_per_worker: Annotated[int | None, typer.Option(help="Local: GPUs of each worker.")] = None,
    worker_logs: Annotated[Path | None, typer.Option(help="Local: folder for what the workers say.")] = None,
    start_timeout: Annotated[float, typer.Option(help="Local: longest start of a worker, seconds.")] = 900.0,
    minimum: Annotated[int, typer.Option("--min", help="Fewest workers.")] = 1,
    maximum: Annotated[int | None, typer.Option("--max", help="Most workers.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8080,
    admin_port: Annotated[int | None, typer.Option(help="Port for admin calls, on this machine only.")] = None,
    mode: Annotated[str, typer.Option(help="shadow, canary or active.")] = "active",
    canary: Annotated[float, typer.Option(help="Share of requests that the policy decides under canary.")] = 0.1,
    baseline: Annotated[str, typer.Option(help="Who decides otherwise under shadow and canary.")] = "least_request",
    profile: Annotated[
        str, typer.Option(help="Latency profile of a worker.", autocompletion=opt.complete_profiles)
    ] = "llama-3.1-8b-h100-tp1",
    tokenizer: Annotated[
        str, typer.Option(help="Who counts prompt tokens: estimate, worker (asks /tokenize), or a tokenizer.json.")
    ] = "estimate",
    track: Annotated[
        bool, typer.Option("--track-profile/--keep-profile", help="Correct the profile by what requests really take.")
    ] = True,
    ttft: Annotated[float, typer.Option(help="SLO: seconds to the first token.")] = 1.0,
    atgt: Annotated[float, typer.Option(help="SLO: seconds per token after it, on average.")] = 0.05,
    max_num_seqs: Annotated[int, typer.Option(help="Most requests at once on a worker.")] = 256,
    heartbeat: Annotated[float, typer.Option(help="Seconds from one scaling decision to the next.")] = 10.0,
    max_hold: Annotated[float, typer.Option(help="Longest wait of a request for a worker, seconds.")] = 30.0,
    max_held: Annotated[int, typer.Option(help="Most requests that wait for a worker.")] = 1000,
    step: Annotated[int, typer.Option(help="Most workers started or stopped at a heartbeat.")] = 4,
    cooldown: Annotated[float, typer.Option(help="No worker is stopped so soon after a change, seconds.")] = 60.0,
    gpu_budget: Annotated[int | None, typer.Option(help="Most GPUs in all.")] = None,
    drain: Annotated[float, typer.Option(help="At shutdown, seconds for the requests in flight.")] = 30.0,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate: clients connect by TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, if in another file.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with keys, comma-separated; clients must show one.")
    ] = None,
    worker_key_env: Annotated[str | None, typer.Option(help="Environment variable with the workers' key.")] = None,
    model: Annotated[str | None, typer.Option(help="The model that every worker must serve.")] = None,
    record: Annotated[Path | None, typer.Option(help="Log of decisions, JSONL (docs/bridge-log.md).")] = None,
    record_level: Annotated[str, typer.Option(help="requests, or events: all that a replay needs.")] = "requests",
    show_worker: Annotated[bool, typer.Option(help="Tell clients which worker served them.")] = False,
) -> None:
    """Serve OpenAI's API in front of vLLM workers, placing and scaling by a policy.

    Ctrl-C and SIGTERM refuse what is new, finish what is there, and stop what was started.
    """
    try:
        from aladdin_env.bridge.run import Recording, run
    except ModuleNotFoundError as error:
        mend = "the bridge takes more: pip install 'aladdin-env[serve]'"
        raise InputError("aladdin serve", f"no module {error.name}", mend) from None
    from aladdin_env.bridge.control import Guards
    from aladdin_env.bridge.dispatcher import Queueing
    from aladdin_env.bridge.fleet import LiveFleet
    from aladdin_env.bridge.gateway.settings import GatewaySettings
    from aladdin_env.bridge.server import BridgeSettings, Listening

    _check_ports(port, admin_port)
    settings = BridgeSettings(
        policy=policy, baseline=baseline, mode=mode, canary=canary,
        fleet=LiveFleet(profile, SLO(ttft, atgt), max_num_seqs=max_num_seqs, heartbeat_s=heartbeat,
                        max_hold_s=max_hold),
        guards=Guards(step, cooldown, gpu_budget),
        queueing=Queueing(max_hold, max_held),
        gateway=GatewaySettings(drain_s=drain, api_keys=_keys(api_key_env), worker_key_env=worker_key_env,
                                show_worker=show_worker),
        listening=Listening(host, port, admin_port=admin_port, certificate=tls_cert, key=tls_key),
        follows=track, tokenizer=tokenizer,
    )  # fmt: skip
    limits = (minimum, maximum)
    one = {"--worker": worker, "--local": local, "--kubernetes": kubernetes, "--demo": demo}
    common = {"model": model, "api_key_env": worker_key_env}
    match _chosen(one):
        case "--worker":
            pool = _static(worker or [], common)
        case "--kubernetes":
            pool = _kubernetes(kubernetes or "", limits, namespace, service, not no_scale, common)
        case "--local":
            pool = _local(local or "", limits, gpus, gpus_per_worker, worker_logs, start_timeout, common)
        case _:
            pool = _demo(limits, profile)
    say_if_compiling()
    recording = None if record is None else Recording(record, record_level)
    run(pool, settings, lambda url, admin: _announce(url, admin, settings), recording)


def _chosen(given: Mapping[str, object]) -> str:
    """The one kind of workers that was asked for."""
    found = [name for name, value in given.items() if value]
    if len(found) != 1:
        mend = "give one of --worker URL, --local COMMAND, --kubernetes deploy/NAME, --demo"
        raise InputError("workers", " and ".join(found) or None, mend)
    return found[0]


def _static(urls: list[str], common: Common) -> WorkerPool:
    from aladdin_env.bridge.workers.static import StaticPool

    return StaticPool(urls, **common)


def _kubernetes(
    target: str, limits: tuple[int, int | None], namespace: str | None, service: str | None, scales: bool,
    common: Common,
) -> WorkerPool:  # fmt: skip
    from aladdin_env.bridge.workers.kubernetes import KubernetesPool

    return KubernetesPool(target, _limits(*limits), namespace=namespace, service=service, scales=scales, **common)


def _local(
    command: str, limits: tuple[int, int | None], gpus: str | None, gpus_per_worker: int | None, logs: Path | None,
    start_timeout_s: float, common: Common,
) -> WorkerPool:  # fmt: skip
    from aladdin_env.bridge.workers.local import LocalPool, LocalSettings

    named = None if gpus is None else [name.strip() for name in gpus.split(",") if name.strip()]
    settings = LocalSettings(gpus=named, gpus_per_worker=gpus_per_worker, logs=logs, start_timeout_s=start_timeout_s)
    return LocalPool(command, _limits(*limits), local=settings, **common)


def _demo(limits: tuple[int, int | None], profile: str) -> WorkerPool:
    from aladdin_env.bridge.workers.local import LocalPool, LocalSettings

    command = _DEMO.format(python=sys.executable, profile=profile)
    return LocalPool(command, _limits(*limits), local=LocalSettings(cold_start_s=10.0, gpus_per_worker=0))


def _limits(minimum: int, maximum: int | None) -> Limits:
    from aladdin_env.bridge.workers.pool import Limits

    return Limits(minimum, maximum if maximum is not None else max(minimum, _MAX_LOCAL))


def _keys(variable: str | None) -> tuple[str, ...]:
    """The keys in an environment variable: a key on a command line would be there for everyone to see."""
    if variable is None:
        return ()
    found = tuple(key.strip() for key in os.environ.get(variable, "").split(",") if key.strip())
    if not found:
        raise InputError("--api-key-env", variable, "the variable has no key: export it with one, or several by commas")
    return found


def _check_ports(port: int, admin_port: int | None) -> None:
    for name, value in (("--port", port), ("--admin-port", admin_port)):
        if value is not None and not 0 <= value <= 65535:
            raise InputError(name, value, "give 0 to 65535")


def _announce(url: str, admin_url: str, settings: BridgeSettings) -> None:
    console = stdout()
    console.print(f"{settings.policy} ({settings.mode}) serves on {url}", highlight=False)
    if admin_url:
        console.print(f"admin calls on {admin_url}", highlight=False)
