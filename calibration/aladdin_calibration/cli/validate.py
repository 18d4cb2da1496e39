"""``aladdin validate``."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.table import Column, Table

from aladdin_env import presets
from aladdin_env.cli import options as opt
from aladdin_env.cli.output import (
    check_writable,
    print_json,
    progress_bar,
    say_if_compiling,
    stderr,
    stdout,
    write_table,
)
from aladdin_env.errors import InputError
from aladdin_env.latency import LIMITS
from aladdin_env.scenario import SLO, Fleet, Scenario, WorkerType
from aladdin_traces import Trace, Workload

if TYPE_CHECKING:
    from aladdin_calibration.server.client import Client, ServerFault
    from aladdin_calibration.validation.agreement import Agreement
    from aladdin_env.simulator.run import Simulator
    from aladdin_env.simulator.setup import Draws

_TABLES = (".csv", ".parquet")
_EASE = 5.0  # an objective that nobody gave is so many times what an empty worker takes for nearly all prompts


def validate(
    url: Annotated[list[str], typer.Option("--url", help="Address of a real server; once for each worker.")],
    profile: Annotated[str, typer.Option(help="Latency profile of these servers: a JSON file or a name.")],
    trace: opt.TraceOption = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            help=f"Objectives, and requests without --trace; else {opt.DEFAULT_SCENARIO}'s requests.",
            autocompletion=opt.complete_scenarios,
        ),
    ] = None,
    rate: opt.RateOption = None,
    horizon: opt.HorizonOption = 60.0,
    policy: Annotated[
        str, typer.Option(help="Chooses the worker.", autocompletion=opt.complete_policies)
    ] = "least_request",
    ttft: Annotated[
        float | None, typer.Option(help=f"TTFT objective, s; else the scenario's, or {_EASE:g} x an empty worker's.")
    ] = None,
    atgt: Annotated[
        float | None, typer.Option(help=f"ATGT objective, s; else the scenario's, or {_EASE:g} x an empty worker's.")
    ] = None,
    clock: Annotated[str, typer.Option(help="client, or the server's own where it gives one: server.")] = "client",
    max_prompt: Annotated[int, typer.Option(help="Longer prompts are cut to so many tokens.")] = 1024,
    max_output: Annotated[int, typer.Option(help="Longer answers are cut to so many tokens.")] = 256,
    max_num_seqs: Annotated[int | None, typer.Option(help="The servers' limit, if not the profile's.")] = None,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option(help="The servers' token budget of a step, if not the profile's.")
    ] = None,
    kv_capacity_tokens: Annotated[int | None, typer.Option(help="The servers' KV room, if not the profile's.")] = None,
    block_size: Annotated[
        int | None, typer.Option(help="The servers' tokens per KV block, if not the profile's.")
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    seed: opt.SeedOption = 0,
    out: Annotated[Path | None, typer.Option(help="A row per request, real and simulated: .csv or .parquet.")] = None,
    json: opt.JsonOption = False,
) -> None:
    """Replay a trace on real servers, simulate the same, and print how far apart they are."""
    check_writable("--out", out, _TABLES)
    given = (max_num_seqs, max_num_batched_tokens, block_size)
    kind = _servers(profile, len(url), dict(zip(LIMITS, given, strict=True)), kv_capacity_tokens)
    base = presets.load_scenario(opt.DEFAULT_SCENARIO if scenario is None else scenario)
    changes = opt.Changes(trace=trace, rate=rate, horizon=horizon, ttft=ttft, atgt=atgt)
    asked = changes.apply(replace(base, slo=replace(base.slo, classes=())))
    asked = replace(asked, name=f"{len(url)} servers", fleet=Fleet((kind,)))
    say_if_compiling()
    open_objectives = {"ttft_s": ttft, "atgt_s": atgt} if scenario is None else {}
    eased = tuple(name for name, value in open_objectives.items() if value is None)
    _Run(asked, eased, tuple(url), policy, seed, api_key_env, max_prompt, max_output, clock, out).present(json)


def _servers(profile: str, count: int, given: dict[str, int | None], kv_capacity_tokens: int | None) -> WorkerType:
    """The simulated servers: limits as given, else as the profile has them, else vLLM's defaults, which is told."""
    plain = WorkerType("server", profile, count, count, count, prefix_cache=False)
    known: dict[str, Any] = {**plain.latency.provenance.limits}
    known |= {name: value for name, value in given.items() if value is not None}
    kind = replace(plain, **known, kv_capacity_tokens=kv_capacity_tokens)
    missing = [f"--{name.replace('_', '-')} {getattr(kind, name)}" for name in LIMITS if name not in known]
    if missing:
        stderr().print(f"simulating servers with {', '.join(missing)}: give what yours were started with")
    return kind


@dataclass(frozen=True)
class _Run:
    """One trace on real servers, and in the simulator; ``eased`` names the objectives that nobody gave."""

    scenario: Scenario
    eased: tuple[str, ...]
    urls: tuple[str, ...]
    policy: str
    seed: int
    api_key_env: str | None
    max_prompt: int
    max_output: int
    clock: str
    out: Path | None

    def present(self, json: bool) -> None:
        """Simulate, replay, compare, print; what can be refused is refused before a server is loaded."""
        from aladdin_calibration.validation.agreement import CLOCKS, compare
        from aladdin_calibration.validation.replay import check_served

        if self.clock not in CLOCKS:
            raise InputError("--clock", self.clock, f"give one of {', '.join(CLOCKS)}")
        draws = self._draws()
        scenario = replace(self.scenario, workload=Workload.from_trace(draws.trace), horizon_s=None)
        scenario = replace(scenario, slo=self._objectives(draws.trace))
        simulated = _simulator(scenario, draws).run(self.policy).requests
        real, preemptions, fault = asyncio.run(self._replay(scenario, draws))
        if self.out is not None:  # first of all: a replay is dear, whatever may be wrong with it
            write_table(real.join(simulated.add_prefix("simulated_")), self.out)
            stderr().print(f"wrote {self.out}")
        if fault is not None:
            raise fault
        check_served(real)
        overhead_s = scenario.fleet.types[0].latency.overhead_s
        agreement = compare(real, simulated, scenario.slo, self.clock, preemptions, overhead_s)
        _present(agreement, scenario.slo, self.policy, json)

    def _objectives(self, trace: Trace) -> SLO:
        """Those given; the others by what an empty worker takes, which is told."""
        if not self.eased or not len(trace):
            return self.scenario.slo
        laws, prompt = self.scenario.fleet.types[0].latency, float(np.percentile(trace.prompt_tokens, 99))
        empty = {"ttft_s": laws.overhead_s + laws.prefill_s(prompt), "atgt_s": laws.decode_s(1, prompt)}
        found = {name: float(f"{_EASE * empty[name]:.3g}") for name in self.eased}
        told = ", ".join(f"--{name.removesuffix('_s')} {value:g}" for name, value in found.items())
        stderr().print(f"judged by {told} (s), {_EASE:g} times what an empty worker takes: give your own")
        slo = self.scenario.slo
        return SLO(found.get("ttft_s", slo.ttft_s), found.get("atgt_s", slo.atgt_s))

    def _draws(self) -> Draws:
        from aladdin_env.simulator.setup import draw

        drawn = draw(self.scenario, np.random.default_rng(self.seed))
        return replace(drawn, trace=drawn.trace.clip(self.max_prompt, self.max_output))

    async def _replay(
        self, scenario: Scenario, draws: Draws
    ) -> tuple[pd.DataFrame, int | None, ServerFault | InputError | None]:
        from aladdin_calibration.server.client import Client
        from aladdin_calibration.validation.replay import Replay
        from aladdin_env.policy import make_policy

        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(url, api_key_env=self.api_key_env)) for url in self.urls]
            for client in clients:
                await client.models()
                _check_model(scenario, client)
            before = [await _preemptions(client) for client in clients]
            with progress_bar("replaying", len(draws.trace)) as told:
                replay = Replay(
                    clients,
                    scenario,
                    draws,
                    make_policy(self.policy, scenario),
                    lambda done, of, said: told(done),
                )
                rows = await replay.run()
            if replay.fault is not None:
                return rows, None, replay.fault
            after = [await _preemptions(client) for client in clients]
        counted = [b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None]
        return rows, sum(counted) if len(counted) == len(clients) else None, None


def _simulator(scenario: Scenario, draws: Draws) -> Simulator:
    """The simulator; an objective that it refuses is called as the option that mends it."""
    from aladdin_env.simulator.run import Simulator

    try:
        return Simulator(scenario, draws=draws)
    except InputError as error:
        if not error.field.startswith("slo."):
            raise
        option = f"--{error.field.removeprefix('slo.').removesuffix('_s')}"
        raise InputError(option, error.value, error.mend) from error


def _check_model(scenario: Scenario, client: Client) -> None:
    """Say so where the profile is of another model than the server's."""
    measured, served = scenario.fleet.types[0].latency.provenance.model, str(client.model)
    if Path(measured).name.lower() != Path(served).name.lower():
        stderr().print(f"{client.url} serves {served}, the profile is of {measured or 'an unnamed model'}")


async def _preemptions(client: Client) -> int | None:
    """What the server has counted so far; None where it does not say."""
    from aladdin_calibration.server.client import ServerFault

    try:
        status, text = await client.get("/metrics")
    except ServerFault:
        return None
    found = [line for line in text.splitlines() if line.startswith("vllm:num_preemptions_total")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in found) if status == 200 and found else None


def _present(agreement: Agreement, slo: SLO, policy: str, json: bool) -> None:
    if json:
        print_json({"policy": policy, "slo": {"ttft_s": slo.ttft_s, "atgt_s": slo.atgt_s}, **agreement.summary()})
        return
    title = f"{agreement.requests} requests under {policy}, real ones by the {agreement.clock}'s clock"
    table = Table("measure", *(Column(name, justify="right") for name in ("real", "simulated", "error")), title=title)
    for name, (real, simulated, error) in agreement.table.iterrows():
        told = f"{error:+.1f} points" if name == "attainment" else f"{error:+.1%}"
        table.add_row(str(name), f"{real:.4g}", f"{simulated:.4g}", told)
    stdout().print(table)
    if agreement.failed:
        stderr().print(f"{agreement.failed} requests failed on the real servers")
    if agreement.late_p99_s > 0.05:
        stderr().print(
            f"sent up to {agreement.late_p99_s:.2f} s late: this machine is too busy to keep the trace's times"
        )
