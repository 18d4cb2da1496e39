"""``aladdin simulate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

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
from aladdin_env.cli.tables import pairs_table
from aladdin_env.compare import Contender, contenders, estimate
from aladdin_env.errors import InputError
from aladdin_env.scenario import Scenario

_TABLES = (".csv", ".parquet")


def simulate(
    scenario: Annotated[
        str, typer.Argument(help="Name of a scenario or a TOML file.", autocompletion=opt.complete_scenarios)
    ] = opt.DEFAULT_SCENARIO,
    policy: Annotated[
        str, typer.Option(help="placement or placement+scaler.", autocompletion=opt.complete_policies)
    ] = "aladdin",
    trace: opt.TraceOption = None,
    rate: opt.RateOption = None,
    rate_scale: opt.RateScaleOption = None,
    horizon: opt.HorizonOption = None,
    profile: opt.ProfileOption = None,
    price: opt.PriceOption = None,
    ttft: opt.TtftOption = None,
    atgt: opt.AtgtOption = None,
    workers: opt.WorkersOption = None,
    max_workers: opt.MaxWorkersOption = None,
    seed: opt.SeedOption = 0,
    seeds: opt.SeedsOption = 1,
    out: Annotated[Path | None, typer.Option(help="A row per request, .csv or .parquet.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="The fleet at every heartbeat, .csv or .parquet.")] = None,
    json: opt.JsonOption = False,
) -> None:
    """Simulate one policy and print all measures."""
    check_writable("--out", out, _TABLES)
    check_writable("--fleet", fleet, _TABLES)
    numbers = opt.seeds_from(seed, seeds)
    if seeds > 1 and (out or fleet):
        raise InputError("--seeds", seeds, "give one seed with --out or --fleet: they hold a single simulation")
    say_if_compiling()
    changes = opt.Changes(trace, rate, rate_scale, horizon, profile, price, ttft, atgt, max_workers)
    base = changes.apply(presets.load_scenario(scenario))
    counts = opt.fixed_counts(base, workers)
    chosen = base if counts is None else base.with_workers(counts)
    (contender,) = contenders(chosen, [policy])
    found = _run(chosen, contender, numbers)
    for path, frame in ((out, found.requests), (fleet, found.fleet)):
        if path is not None:
            write_table(frame, path)
            stderr().print(f"wrote {path}")
    _present(found, chosen, contender.label, json)


@dataclass(frozen=True)
class _Simulated:
    """Summaries by seed; requests and fleet of the last one."""

    summaries: dict[int, dict[str, float]]
    requests: pd.DataFrame
    fleet: pd.DataFrame


def _run(scenario: Scenario, contender: Contender, seeds: tuple[int, ...]) -> _Simulated:
    from aladdin_env.simulator.run import Simulator  # compiles on import

    summaries = {}
    with progress_bar("simulating", len(seeds)) as told:
        for i, seed in enumerate(seeds):
            simulator = Simulator(scenario, seed)
            result = simulator.run(contender.make(scenario), progress=lambda part, i=i: told(i + part))  # type: ignore[misc]
            summaries[seed] = result.summary
            told(i + 1)
    return _Simulated(summaries, result.requests, result.fleet)


def _present(found: _Simulated, scenario: Scenario, policy: str, json: bool) -> None:
    head: dict[str, Any] = {"scenario": scenario.name, "policy": policy, "seeds": list(found.summaries)}
    first = next(iter(found.summaries.values()))
    merged = {name: estimate([summary[name] for summary in found.summaries.values()]) for name in first}
    several = len(found.summaries) > 1
    if json:
        values: dict[str, Any] = {}
        for name, value in merged.items():
            values[name] = value.mean if several else first[name]
            if several:
                values[f"{name}_low"], values[f"{name}_high"] = value.low, value.high
        print_json(head | values)
        return
    rows = {
        name: (_number(value.mean), f"{_number(value.low)} to {_number(value.high)}" if several else "")
        for name, value in merged.items()
    }
    seeds = f"seed {head['seeds'][0]}" if not several else f"{len(found.summaries)} seeds, mean and 95 % interval"
    stdout().print(pairs_table(f"{scenario.name} under {policy}, {seeds}", rows))


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.5g}"
