"""What the scripts of this folder share: their command line and files, the style of pictures, settings, searches."""

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
from aladdin_env.latency import LatencyProfile, load_profile, profile_names
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import SLO, Scenario
from aladdin_traces.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULTS = Path(__file__).with_name("results")
SEEDS = (0, 1, 2)

POLICIES = {
    "round_robin": "round robin (vLLM's default)",
    "least_request": "join the shortest queue",
    "power_of_two": "power of two choices",
    "aladdin": "Aladdin",
}
"""The paper's baselines and Aladdin, with their names in pictures."""
COLOURS = {"round_robin": "#9a9a9a", "least_request": "#2f5d8a", "power_of_two": "#b58900", "aladdin": "#1b7f4d"}
SERIES = ("#1b7f4d", "#2f5d8a", "#b58900", "#c8553d", "#6a4c93", "#9a9a9a")
"""Colours of anything but policies."""
RED = "#c8553d"


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
        parser.add_argument("--trace", type=Path, help="a recorded trace instead of the generated workload")
    options = parser.parse_args(given)
    asked = Asked(options.quick, options.jobs, options.trace if takes_trace else None)
    with progress_bar() as bar:
        finding = watched(bar, name, find, asked)
    write(name, finding, options.out)
    print("\n".join(lines(finding)))


def command_line(name: str) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.paper.{name}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table and the picture")
    parser.add_argument("--quick", action="store_true", help="a small version that takes seconds")
    parser.add_argument("--jobs", type=int, help="processes (by default several where that pays)")
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


def write(name: str, finding: Finding, folder: Path) -> None:
    """NAME.csv and the pictures, each whole or not at all; the table last, as ``--resume`` goes by it."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, figure in finding.figures.items():
        with whole_file(folder / f"{name}{suffix}.png") as file:
            figure.savefig(file, dpi=120, format="png", metadata={"Software": None})
    with whole_file(folder / f"{name}.csv") as file:
        finding.table.to_csv(file, index=False, float_format="%.6g", lineterminator="\n")


# --- pictures ---


def new_figure(title: str, columns: int = 1, rows: int = 1, width: float = 6.0, height: float = 4.4) -> Figure:
    """An empty figure with panels in the house's style; ``width`` and ``height`` are those of a panel, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    for axes in figure.subplots(rows, columns, squeeze=False).ravel():
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        axes.grid(color="#eeeeee", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure


def name_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Title and axes of a panel."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def band(axes: Axes, rows: pd.DataFrame, x: str, y: str, colour: str, label: str, *, scale: float = 1.0) -> None:
    """A line of means with their intervals: the columns ``y``, ``y_low``, ``y_high`` over ``x``, times ``scale``."""
    at, mean, low, high = (rows[name].to_numpy(dtype=float) for name in (x, y, f"{y}_low", f"{y}_high"))
    axes.plot(at, scale * mean, marker="o", markersize=4, linewidth=1.4, color=colour, label=label)
    axes.fill_between(at, scale * low, scale * high, color=colour, alpha=0.15, linewidth=0)


def lanes(axes: Axes, rows: pd.DataFrame, column: str, scale: float) -> None:
    """A lane per variant, the first on top: the mean of a column and its interval, times ``scale``."""
    at = range(len(rows))[::-1]
    mean, low, high = (scale * rows[name] for name in (column, f"{column}_low", f"{column}_high"))
    axes.errorbar(mean, at, xerr=[mean - low, high - mean], fmt="o", color=SERIES[0], capsize=3, markersize=5)
    axes.set_yticks(at, rows["variant"])
    axes.set_ylim(-0.6, len(rows) - 0.4)


def same_height(panels: Sequence[Axes]) -> None:
    """One scale for several panels, so that they compare."""
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def legend(axes: Axes, **more: object) -> None:
    """The legend in the house's style."""
    axes.legend(**({"fontsize": 8.5, "frameon": False} | more))


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
    profiles = [load_profile(name) for name in profile_names() if name.startswith(f"{model}-{gpu}-")]
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
        _find,
        jobs=asked.jobs,
        progress=lambda done: asked.tell(done / len(needs)),
    )
    return dict(zip(needs, crew.do(list(needs.values())), strict=True))


def _find(lab: Lab, need: Need, progress: Tell) -> Search:
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


def measured(needs: Mapping[Key, Need], workers: int | None, asked: Asked) -> dict[Key, dict[str, float]]:
    """The measures of each policy on so many workers, or on the scenario's own fleet, whatever it needs.

    See :func:`aladdin_env.metrics.summarise`.
    """
    crew = Crew(
        next(iter(needs.values())).scenario,
        partial(_measure, workers),
        jobs=asked.jobs,
        progress=lambda done: asked.tell(done / len(needs)),
    )
    return dict(zip(needs, crew.do(list(needs.values())), strict=True))


def _measure(workers: int | None, lab: Lab, need: Need, progress: Tell) -> dict[str, float]:
    counts = None if workers is None else (workers,)
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
    shares = measured(needs, workers, asked.part(0.8, 1.0))
    table = over_seeds(needed, "variant", {}).drop(columns="policy")
    columns = {"slo_attainment": "attainment", "preemptions": "preemptions"}
    attained = measures_over_seeds(shares, "variant", columns).drop(columns="policy")
    return table.merge(attained, on="variant").assign(on_workers=workers)
