"""``aladdin compare``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from aladdin_env import presets
from aladdin_env.cli import options as opt
from aladdin_env.cli.exit_codes import NO_ANSWER
from aladdin_env.cli.output import (
    check_writable,
    print_json,
    progress_bar,
    say_if_compiling,
    stderr,
    stdout,
    write_table,
)
from aladdin_env.cli.tables import comparison_table
from aladdin_env.compare import (
    TARGET,
    Comparison,
    Contender,
    Ladder,
    compare_fewest,
    contenders,
    default_contenders,
    rounds,
    searches,
)
from aladdin_env.compare import compare as run_comparison
from aladdin_env.compare.comparison import check_share
from aladdin_env.errors import InputError
from aladdin_env.scenario import Scenario
from aladdin_traces.files import whole_file


def compare(
    scenario: opt.ScenarioOption = opt.DEFAULT_SCENARIO,
    policies: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: placement or placement+scaler; by default every placement and every scaler once.",
            autocompletion=opt.complete_policies,
        ),
    ] = None,
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
    min_gpus: Annotated[
        float | None,
        typer.Option(help="Search, for each policy, the fewest workers of a fixed fleet that hold this attainment."),
    ] = None,
    target: Annotated[float, typer.Option(help="Attainment that divides the table.")] = TARGET,
    seed: opt.SeedOption = 0,
    seeds: opt.SeedsOption = 1,
    jobs: opt.JobsOption = None,
    plot: Annotated[Path | None, typer.Option(help="Picture: attainment against cost, the fleet over time.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The table as .csv or .parquet; or a folder, for table and picture.")
    ] = None,
    json: opt.JsonOption = False,
) -> None:
    """Compare policies on the very same requests: SLO attainment, latency, GPUs, cost.

    The fleet scales; with --workers it is fixed, and with --min-gpus its least size is searched. On a scaling fleet a
    placement without a scaler runs with the scaler "aladdin".
    """
    if out is not None and out.is_dir():
        plot, out = plot or out / "comparison.png", out / "comparison.csv"
    check_writable("--plot", plot, (".png", ".svg", ".pdf"))
    check_writable("--out", out, (".csv", ".parquet"))
    say_if_compiling()
    limit = max_workers if min_gpus is None else None
    changes = opt.Changes(trace, rate, rate_scale, horizon, profile, price, ttft, atgt, limit)
    base = changes.apply(presets.load_scenario(scenario))
    numbers = opt.seeds_from(seed, seeds)
    counts = opt.fixed_counts(base, workers)
    names = None if policies is None else _names(policies)
    processes = opt.checked_jobs(jobs)
    if min_gpus is None:
        check_share("--target", target)
        found = _side_by_side(_Question(base, counts, names, numbers, target, processes))
    else:
        check_share("--min-gpus", min_gpus)
        found = _fewest(_Question(base, counts, names, numbers, min_gpus, processes), max_workers)
    _present(found, plot, out, json)
    if min_gpus is not None and all(row.workers is None for row in found.rows):
        raise typer.Exit(NO_ANSWER)


@dataclass(frozen=True)
class _Question:
    scenario: Scenario
    counts: tuple[int, ...] | None
    policies: list[str] | None
    seeds: tuple[int, ...]
    target: float
    jobs: int | None

    def entered(self, scenario: Scenario) -> tuple[list[Contender], list[str]]:
        """The policies, and remarks about those that cannot take part."""
        if self.policies is None:
            return default_contenders(scenario)
        return contenders(scenario, self.policies), []


def _names(policies: str) -> list[str]:
    return [name.strip() for name in policies.split(",") if name.strip()]


def _side_by_side(asked: _Question) -> Comparison:
    scenario = asked.scenario if asked.counts is None else asked.scenario.with_workers(asked.counts)
    entered, remarks = asked.entered(scenario)
    with progress_bar("simulating", rounds(len(entered), len(asked.seeds))) as told:
        found = run_comparison(scenario, entered, asked.seeds, target=asked.target, jobs=asked.jobs, progress=told)
    return replace(found, notes=found.notes + remarks)


def _fewest(asked: _Question, max_workers: int | None) -> Comparison:
    if max_workers is not None and not 1 <= max_workers <= 8192:
        raise InputError("--max-workers", max_workers, "give 1 to 8192")
    ladder = Ladder.of(asked.scenario, asked.counts, max_workers)
    entered, remarks = asked.entered(asked.scenario.with_workers(ladder.counts(ladder.least)))
    with progress_bar("searching", searches(len(entered), len(asked.seeds))) as told:
        found = compare_fewest(
            asked.scenario, entered, asked.seeds, target=asked.target, ladder=ladder, jobs=asked.jobs, progress=told
        )
    return replace(found, notes=found.notes + remarks)


def _present(found: Comparison, plot: Path | None, out: Path | None, json: bool) -> None:
    if plot is not None:
        from aladdin_env.plots import comparison_figure  # matplotlib takes a second

        with whole_file(plot) as temporary:
            comparison_figure(found, temporary)
    if out is not None:
        write_table(pd.DataFrame([row.to_dict() for row in found.rows]), out)
    if json:
        print_json([row.to_dict() for row in found.rows])
        return
    stdout().print(comparison_table(found))
    for path in (plot, out):
        if path is not None:
            stderr().print(f"wrote {path}")
