"""``aladdin plan``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from aladdin_env import presets
from aladdin_env.cli import options as opt
from aladdin_env.cli.exit_codes import NO_ANSWER
from aladdin_env.cli.output import print_json, progress_bar, say_if_compiling, stdout
from aladdin_env.compare import TARGET
from aladdin_env.compare.planning import Candidate, Plan
from aladdin_env.compare.planning import plan as make_plan
from aladdin_env.errors import InputError
from aladdin_env.latency import load_profile, profile_names
from aladdin_env.scenario import Fleet, Scenario
from aladdin_traces import Poisson, Workload


def plan(
    profile: Annotated[
        str | None,
        typer.Option(
            help="Latency profiles to choose from, comma-separated: names, JSON files, or the beginning of shipped "
            "names (llama-3.1-8b-h100 stands for all its sizes). By default the scenario's worker types.",
            autocompletion=opt.complete_profiles,
        ),
    ] = None,
    scenario: opt.ScenarioOption = opt.DEFAULT_SCENARIO,
    trace: opt.TraceOption = None,
    rate: Annotated[float | None, typer.Option(help="Poisson arrivals of so many requests per second.")] = None,
    rate_scale: opt.RateScaleOption = None,
    lengths: Annotated[
        str | None, typer.Option(help="Length law of generated requests: sharegpt, azure-conv, azure-code, ...")
    ] = None,
    horizon: opt.HorizonOption = None,
    price: opt.PriceOption = None,
    ttft: opt.TtftOption = None,
    atgt: opt.AtgtOption = None,
    target: Annotated[float, typer.Option(help="Attainment to hold.")] = TARGET,
    by: Annotated[str, typer.Option(help="What to have least of: gpus or cost.")] = "gpus",
    policy: Annotated[str, typer.Option(help="Placement.", autocompletion=opt.complete_policies)] = "aladdin",
    max_workers: Annotated[int | None, typer.Option(help="Most workers to try.")] = None,
    seed: opt.SeedOption = 0,
    seeds: opt.SeedsOption = 1,
    jobs: opt.JobsOption = None,
    json: opt.JsonOption = False,
) -> None:
    """Find the fewest GPUs that hold the SLO, and which worker type: Aladdin's sizing, confirmed by simulation."""
    say_if_compiling()
    numbers = opt.seeds_from(seed, seeds)
    if max_workers is not None and not 1 <= max_workers <= 8192:
        raise InputError("--max-workers", max_workers, "give 1 to 8192")
    base = presets.load_scenario(scenario)
    workload = _workload(base, rate if trace is None else None, lengths, trace is not None)
    changes = opt.Changes(trace, None if trace is None else rate, rate_scale, horizon, None, None, ttft, atgt)
    chosen = changes.apply(replace(base, workload=workload))
    chosen = replace(chosen, fleet=_choice(chosen.fleet, profile, price))
    with progress_bar("planning", len(chosen.fleet.types)) as told:
        found = make_plan(
            chosen, policy=policy, seeds=numbers, target=target, by=by, most=max_workers,
            jobs=opt.checked_jobs(jobs), progress=told,
        )  # fmt: skip
    _present(found, json)
    if found.best is None:
        raise typer.Exit(NO_ANSWER)


def _workload(base: Scenario, rate: float | None, lengths: str | None, has_trace: bool) -> Workload:
    """The scenario's workload with Poisson arrivals and other lengths where they were asked for."""
    old = base.workload
    if lengths is not None and (has_trace or old.arrivals is None):
        whose = "the trace" if has_trace or old.requests is None else "the scenario's sessions or clients"
        raise InputError("--lengths", lengths, f"leave it out: the lengths are those of {whose}")
    if old.requests is not None:
        return old if rate is None else old.with_rate(rate)
    if old.arrivals is None or old.lengths is None or (rate is None and lengths is None):
        return old
    arrivals = old.arrivals if rate is None else Poisson(rate)
    return Workload.generated(arrivals, lengths or old.lengths, old.class_shares)


def _choice(fleet: Fleet, profiles: str | None, price: float | None) -> Fleet:
    """The worker types to choose from."""
    if profiles is not None:
        names = [name.strip() for name in profiles.split(",") if name.strip()]
        loaded = [load_profile(found) for name in names for found in _shipped(name)]
        types = {one.name: opt.with_profile(fleet, one).types[0] for one in loaded}
        if not types:
            raise InputError("--profile", profiles, "name at least one")
        fleet = Fleet(tuple(types.values()), failures=fleet.failures)
    if price is None:
        return fleet
    return replace(fleet, types=tuple(replace(kind, price_per_gpu_hour=price) for kind in fleet.types))


def _shipped(name: str) -> list[str]:
    """``name`` itself, or the shipped profiles that begin with it: sizes of one kind, not also what was measured."""
    known = profile_names()
    sizes = [one for one in known if one.startswith(f"{name}-") and "-tp" in one]
    return [name] if name in known else sizes or [name]


def _present(found: Plan, json: bool) -> None:
    if json:
        slo = found.scenario.slo
        best = found.best
        print_json(
            {
                "scenario": found.scenario.name,
                "rate_rps": found.scenario.workload.mean_rate_rps,
                "slo": {"ttft_s": slo.ttft_s, "atgt_s": slo.atgt_s},
                "target": found.target,
                "policy": found.policy,
                "seeds": list(found.seeds),
                "best": None if best is None else best.to_dict(),
                "candidates": [candidate.to_dict() for candidate in found.candidates],
            }
        )
        return
    stdout().print(_table(found))


_HEADINGS = (
    "GPUs per\nworker",
    "sized\nworkers",
    "workers",
    "GPUs",
    "cost\nper hour",
    "SLO met\n%",
    "TTFT p99\nms",
    "ATGT p99\nms",
)


def _table(found: Plan) -> Group:
    scenario = found.scenario
    aims = f"TTFT {scenario.slo.ttft_s:g} s, ATGT {scenario.slo.atgt_s * 1e3:g} ms for {found.target * 100:g} %"
    title = f"{scenario.name}: {scenario.workload.mean_rate_rps:.3g} requests/s, {aims}, placed by {found.policy}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("worker type", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for candidate in found.candidates:
        table.add_row(*_cells(candidate), style="bold green" if candidate is found.best else "")
    lines = [_answer(found)] + [f"{one.kind.name}: {one.reason}" for one in found.candidates if one.reason]
    return Group(table, *(Text(line) for line in lines))


def _answer(found: Plan) -> str:
    best = found.best
    if best is None:
        return "No worker type holds the SLO."
    return f"{best.workers} x {best.kind.name}: {best.gpus} GPUs, {best.cost_per_hour:.2f} per hour."


def _cells(candidate: Candidate) -> list[str]:
    row = candidate.row
    measured = ["-"] * 3
    if row is not None:
        share, ttft_s, atgt_s = (row[name].mean for name in ("slo_attainment", "ttft_p99_s", "atgt_p99_s"))
        measured = [f"{share * 100:.2f}", f"{ttft_s * 1e3:.0f}", f"{atgt_s * 1e3:.1f}"]
    cost = None if candidate.cost_per_hour is None else f"{candidate.cost_per_hour:.2f}"
    numbers = [candidate.kind.gpus, candidate.sizing.workers, candidate.workers, candidate.gpus, cost]
    return [candidate.kind.name, *("-" if value is None else str(value) for value in numbers), *measured]
