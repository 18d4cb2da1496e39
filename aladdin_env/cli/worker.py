"""``aladdin worker``."""

from __future__ import annotations

from typing import Annotated

import typer

from aladdin_env.cli import options as opt
from aladdin_env.cli.output import say_if_compiling
from aladdin_env.errors import InputError
from aladdin_env.latency import load_profile
from aladdin_env.scenario import WorkerType


def worker(
    profile: Annotated[
        str,
        typer.Option(help="Latency profile: a name or a JSON file.", autocompletion=opt.complete_profiles),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    model: Annotated[str | None, typer.Option(help="Name of the served model; else the profile's.")] = None,
    speed: Annotated[float, typer.Option(help="So many times faster than the profile says.")] = 1.0,
    scheduler: Annotated[str, typer.Option(help="chunked (vLLM V1) or prefill_first (vLLM V0).")] = "chunked",
    max_num_seqs: Annotated[int, typer.Option(help="Most requests running at once.")] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Token budget of a step.")] = 8192,
    kv_capacity_tokens: Annotated[int | None, typer.Option(help="KV room, tokens; else the profile's.")] = None,
    block_size: Annotated[int, typer.Option(help="Tokens per KV block.")] = 16,
    prefix_cache: Annotated[
        bool, typer.Option(help="Keep the KV of prompts: a later one that begins alike is prefilled faster.")
    ] = True,
    max_model_len: Annotated[
        int | None, typer.Option(help="Most tokens of prompt and answer; else what the KV holds, at most 131072.")
    ] = None,
    output_tokens: Annotated[
        float, typer.Option(help="Mean length of an answer, where neither ignore_eos nor max_tokens says it.")
    ] = 256.0,
    seed: Annotated[int, typer.Option(help="Seed of the answers' lengths and of --error-rate.")] = 0,
    per_request_metrics: Annotated[
        bool, typer.Option(help="Tell in each answer when it was scheduled and made, as vLLM can.")
    ] = False,
    shutdown_timeout: Annotated[
        float, typer.Option(help="After SIGTERM, seconds in which requests under way may end.")
    ] = 0.0,
    start_delay: Annotated[float, typer.Option(help="Answer 503 for so many seconds first, whatever the speed.")] = 0.0,
    max_queued: Annotated[int | None, typer.Option(help="Most requests waiting and running; others get 503.")] = None,
    error_rate: Annotated[float, typer.Option(help="Share of completions that get 500.")] = 0.0,
    die_after: Annotated[
        int | None, typer.Option(help="Close the connection once an answer has so many tokens.")
    ] = None,
) -> None:
    """Serve a worker that costs no GPU: vLLM's HTTP interface with the timing of a latency profile.

    Requests are real and answers stream; what they say is made up. A token is four bytes of text, about four
    characters.
    """
    from aladdin_env.bridge.emulator import EmulatorSettings, Faults, run

    if not 0 <= port <= 65535:
        raise InputError("--port", port, "give 0 to 65535")
    if not 0 <= shutdown_timeout < float("inf"):
        raise InputError("--shutdown-timeout", shutdown_timeout, "give 0 or more seconds")
    laws = load_profile(profile)
    kind = WorkerType(
        laws.name, laws, initial=1, minimum=1, maximum=1, scheduler=scheduler, max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens, kv_capacity_tokens=kv_capacity_tokens, block_size=block_size,
        prefix_cache=prefix_cache,
    )  # fmt: skip
    settings = EmulatorSettings(
        kind, model=model or "", speed=speed, max_model_len=max_model_len, output_tokens=output_tokens, seed=seed,
        start_delay_s=start_delay, faults=Faults(error_rate, die_after, max_queued),
        per_request_metrics=per_request_metrics,
    )  # fmt: skip
    say_if_compiling()

    def announce(url: str) -> None:
        print(f"{settings.model_name}, as {laws.name} serves it, on {url}", flush=True)

    run(settings, host, port, shutdown_timeout_s=shutdown_timeout, announce=announce)
