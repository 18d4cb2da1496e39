"""What the scripts of this folder share: their command line and files, settings, searches."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aladdin_agents.sizing import plan
from aladdin_env.compare import TARGET, Contender, Estimate, Ladder, Search, estimate
from aladdin_env.compare.search import Question, fewest_workers
from aladdin_env.compare.work import Crew, Lab
from aladdin_env.compare.work import Progress as Tell
from aladdin_env.errors import InputError
from aladdin_env.latency import LatencyProfile, load_profile, profile_names
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import SLO, Scenario
from aladdin_traces.files import whole_file
from experiments.given import input_file, output_folder, processes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).with_name("results")
SEEDS = (0, 1, 2)


# --- a script ---


def _silent(done: float) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Asked:
    """What the user wants of a script.

    Attributes:
        quick: A small version, in seconds: for tests.
        jobs: Processes; None: several where that pays. The results do not depend on it.
        trace: A recorded trace, for scripts that can do with one.
        tell: Told which share of the work is done, 0 to 1.
    """

    quick: bool = False
    jobs: int | None = None
    trace: Path | None = None
    tell: Tell = field(default=_silent)

    def part(self, begin: float, end: float) -> Asked:
        """The same for a stage of the work, from the share ``begin`` to the share ``end``."""
        return replace(self, tell=lambda done: self.tell(begin + done * (end - begin)))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the simulations."""
        return SEEDS[:1] if self.quick else SEEDS


@dataclass(frozen=True)
class Finding:
    """What a script found.

    Attributes:
        table: The numbers.
        figures: Pictures by what follows the script's name in the name of the file; the main one under "".
        paper: What the paper reports, one line.
        ours: What came out here, one line.
    """

    table: pd.DataFrame
    figures: Mapping[str, Figure]
    paper: str
    ours: str


Find = Callable[[Asked], Finding]


def script(name: str, find: Find, given: Sequence[str] | None, *, takes_trace: bool = False) -> None:
    """The command line of a script: find, write, print both lines."""
    parser = command_line(name)
    if takes_trace:
        parser.add_argument("--trace", type=input_file, help="a recorded trace instead of the generated workload")
    options = parser.parse_args(given)
    asked = Asked(options.quick, options.jobs, options.trace if takes_trace else None)
    try:
        with progress_bar() as bar:
            finding = watched(bar, name, find, asked)
    except InputError as error:
        parser.error(str(error))
    write(name, finding.table, finding.figures, options.out)
    print("\n".join(lines(finding)))


def command_line(name: str, package: str = "experiments.paper", results: Path = RESULTS) -> argparse.ArgumentParser:
    """The options that all scripts have, checked as they are read."""
    parser = argparse.ArgumentParser(prog=f"python -m {package}.{name}")
    parser.add_argument("--out", type=output_folder, default=str(results), help="folder of the table and the picture")
    parser.add_argument("--quick", action="store_true", help="a small version that takes seconds")
    parser.add_argument("--jobs", type=processes, help="processes (by default several where that pays)")
    return parser


def progress_bar() -> Progress:
    """A bar per script on stderr; results go to stdout."""
    columns = (TextColumn("{task.description:<22}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))


def watched(bar: Progress, name: str, find: Find, asked: Asked) -> Finding:
    """``find``, with a bar of its own."""
    task = bar.add_task(name, total=1.0)
    finding = find(replace(asked, tell=lambda done: bar.update(task, completed=done)))
    bar.update(task, completed=1.0)
    return finding


def lines(finding: Finding) -> tuple[str, str]:
    """What the paper says and what we got."""
    return f"paper: {finding.paper}", f"here:  {finding.ours}"


def write(name: str, table: pd.DataFrame, figures: Mapping[str, Figure], folder: Path) -> None:
    """NAME.csv and the pictures, each whole or not at all; the table last, as ``--resume`` goes by it."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, figure in figures.items():
        with whole_file(folder / f"{name}{suffix}.png") as file:
            figure.savefig(file, dpi=120, format="png", metadata={"Software": None})
    with whole_file(folder / f"{name}.csv") as file:
        table.to_csv(file, index=False, float_format="%.6g", lineterminator="\n")


# --- numbers ---


def spread(name: str, found: Estimate) -> dict[str, float]:
    """Mean and interval as columns of a table."""
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def stacked(tables: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """One table of several, with their names in the first column."""
    return pd.concat(tables, names=[name, None]).reset_index(level=0).reset_index(drop=True)


def most(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """The row with the largest value of a column."""
    return {str(k): v for k, v in rows.sort_values(column, kind="stable").iloc[-1].items()}


def only(rows: pd.DataFrame, **where: object) -> dict[str, Any]:
    """The one row with these values."""
    for column, value in where.items():
        rows = rows[rows[column] == value]
    (found,) = rows.to_dict("records")
    return {str(k): v for k, v in found.items()}


def percent(row: Mapping[str, Any], name: str) -> str:
    """A share with its interval, from the columns of :func:`spread`: ``12 % (10 to 14 %)``."""
    mean, low, high = (100.0 * float(row[column]) for column in (name, f"{name}_low", f"{name}_high"))
    return f"{mean:.0f} % ({low:.0f} to {high:.0f} %)"


# --- settings and searches ---

_START = 0.7
"""Searches begin at this share of the computed size: a fleet that is much too small, simulated, takes long."""
Key = tuple[Any, str, int]
"""A setting (a rate, a variant), the name of a policy, a seed."""


def paper_setting(rate_rps: float, horizon_s: float = 600.0) -> Scenario:
    """The paper's setting as we have it, the preset ``sharegpt-poisson``, at another rate."""
    return at_rate(load_scenario("sharegpt-poisson"), rate_rps, horizon_s)


def memory_bound(rate_rps: float, horizon_s: float) -> Scenario:
    """The paper's setting with twice the time per token: KV memory limits a worker before the pace does."""
    return replace(paper_setting(rate_rps, horizon_s), slo=SLO(1.0, 0.1))


def at_rate(scenario: Scenario, rate_rps: float, horizon_s: float) -> Scenario:
    """The scenario at another mean rate and for another time."""
    return scenario.with_workload(scenario.workload.with_rate(rate_rps), horizon_s)


def of_profile(scenario: Scenario, profile: LatencyProfile) -> Scenario:
    """The scenario with workers of another size, or on another GPU, instead of its one type."""
    (kind,) = scenario.fleet.types
    return replace(scenario, fleet=replace(scenario.fleet, types=(replace(kind, name=profile.name, profile=profile),)))


def sizes_of(model: str, gpu: str) -> list[LatencyProfile]:
    """The shipped profiles of a model on a GPU, as their names write both, by GPUs per worker."""
    profiles = [load_profile(name) for name in profile_names() if name.startswith(f"{model}-{gpu}-tp")]
    return sorted(profiles, key=lambda profile: profile.gpus)


def configured(scenario: Scenario) -> Scenario:
    """The scenario with the GPUs per worker of most throughput per GPU by the formulas; the GPU stays."""
    model_and_gpu = scenario.fleet.types[0].latency.name.rpartition("-")[0]
    sizes = {profile.name: profile for profile in sizes_of(*model_and_gpu.rsplit("-", 1))}
    known = [one for one in plan(scenario, all_profiles=True) if one.profile in sizes]
    return of_profile(scenario, sizes[max(known, key=lambda one: one.rate_per_gpu_rps).profile])


def seeds_text(asked: Asked) -> str:
    """How many seeds, for the title of a picture."""
    return "1 seed" if len(asked.seeds) == 1 else f"{len(asked.seeds)} seeds, 95 % intervals"


def policy(name: str) -> Contender:
    """A shipped placement on a fixed fleet."""
    return Contender(name, name)


@dataclass(frozen=True)
class Need:
    """A fleet that is looked for: the fewest workers on which a policy holds the target in one episode.

    Attributes:
        scenario: The setting; its fleet has one type, or ``ladder`` says how it grows.
        contender: The policy.
        seed: The episode.
        start: Where the search begins; 0: where the sizing formulas say.
        ladder: The fleets to search; by default so many of the one type.
    """

    scenario: Scenario
    contender: Contender
    seed: int
    start: int = 0
    ladder: Ladder | None = None


def fewest(needs: Mapping[Key, Need], asked: Asked) -> dict[Key, Search]:
    """The answer to each need."""
    crew = Crew(
        next(iter(needs.values())).scenario,
        searched,
        jobs=asked.jobs,
        progress=lambda done: asked.tell(done / len(needs)),
    )
    return dict(zip(needs, crew.do(list(needs.values())), strict=True))


def searched(lab: Lab, need: Need, progress: Tell) -> Search:
    """The answer to one need, a unit of work."""
    start = need.start or max(1, round(_START * sized(need.scenario)))
    ladder = need.ladder or Ladder((1,), max(32, 10 * start))
    return fewest_workers(Lab(need.scenario), Question(need.contender, (need.seed,), TARGET, ladder, start), progress)


def sized(scenario: Scenario) -> int:
    """Workers of the scenario's one type by the formulas; 1 where they say that no number would do."""
    return max(1, plan(scenario)[0].workers)


def gpus(need: Need, search: Search) -> float:
    """GPUs of the fleet that a search found, all of one type; NaN where none holds the target."""
    return float("nan") if search.workers is None else float(search.workers * need.scenario.fleet.types[0].gpus)


def fewest_gpus(needs: Mapping[Key, Need], asked: Asked) -> dict[Key, float]:
    """GPUs of the answer to each need."""
    return {key: gpus(needs[key], search) for key, search in fewest(needs, asked).items()}


def over_seeds(amounts: Mapping[Key, float], x: str, references: Mapping[str, str]) -> pd.DataFrame:
    """A row per setting and policy: GPUs, and the share saved against others, mean and interval over the seeds.

    Args:
        amounts: GPUs by setting, name of the policy, seed.
        x: What to call the setting.
        references: Names of policies to compare with, each with the name of the column.
    """
    seeds: dict[tuple[Any, str], list[int]] = {}
    for setting, name, seed in amounts:
        seeds.setdefault((setting, name), []).append(seed)
    rows = []
    for (setting, name), mine in seeds.items():
        row = {x: setting, "policy": name} | spread("gpus", estimate([amounts[setting, name, seed] for seed in mine]))
        for reference, column in references.items():
            saved = [1.0 - amounts[setting, name, seed] / amounts[setting, reference, seed] for seed in mine]
            row |= spread(column, estimate(saved))
        rows.append(row)
    return pd.DataFrame(rows)


def measured(needs: Mapping[Key, Need], counts: tuple[int, ...] | None, asked: Asked) -> dict[Key, dict[str, float]]:
    """The measures of each policy on so many workers per type, or on the scenario's own fleet, whatever it needs.

    See :func:`aladdin_env.metrics.summarise`.
    """
    crew = Crew(
        next(iter(needs.values())).scenario,
        partial(_measure, counts),
        jobs=asked.jobs,
        progress=lambda done: asked.tell(done / len(needs)),
    )
    return dict(zip(needs, crew.do(list(needs.values())), strict=True))


def _measure(counts: tuple[int, ...] | None, lab: Lab, need: Need, progress: Tell) -> dict[str, float]:
    return Lab(need.scenario).run(need.contender, need.seed, counts, progress=progress).summary


def measures_over_seeds(found: Mapping[Key, Mapping[str, float]], x: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """A row per setting and policy: mean and interval over the seeds of the measures in ``columns``, by new names."""
    runs: dict[tuple[Any, str], list[Mapping[str, float]]] = {}
    for (setting, name, _), summary in found.items():
        runs.setdefault((setting, name), []).append(summary)
    rows = []
    for (setting, name), mine in runs.items():
        row = {x: setting, "policy": name}
        for measure, column in columns.items():
            most = 1.0 if measure == "slo_attainment" else math.inf
            row |= spread(column, estimate([one[measure] for one in mine], least=0.0, most=most))
        rows.append(row)
    return pd.DataFrame(rows)


def variants(needs: Mapping[Key, Need], default: object, asked: Asked) -> pd.DataFrame:
    """A row per setting: the GPUs it needs; what it attains on the most workers that ``default`` needs at a seed."""
    needed = fewest_gpus(needs, asked.part(0.0, 0.8))
    of_default = max(amount for (setting, _, _), amount in needed.items() if setting == default)
    workers = round(of_default / next(iter(needs.values())).scenario.fleet.types[0].gpus)
    shares = measured(needs, (workers,), asked.part(0.8, 1.0))
    table = over_seeds(needed, "variant", {}).drop(columns="policy")
    columns = {"slo_attainment": "attainment", "preemptions": "preemptions"}
    attained = measures_over_seeds(shares, "variant", columns).drop(columns="policy")
    return table.merge(attained, on="variant").assign(on_workers=workers)
