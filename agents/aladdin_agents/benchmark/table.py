"""The table: what a policy costs, or serves, in each scenario and over all, beside others and the bound."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aladdin_agents.benchmark.iqm import iqm_estimate
from aladdin_agents.benchmark.rows import Row
from aladdin_agents.benchmark.scenarios import SEEDS, SPLITS, TASKS, cases
from aladdin_agents.benchmark.scenes import RATIOS, Scene, counted
from aladdin_env.compare import Estimate, estimate

ALL = "all"
"""In place of a scenario: over all scenarios of a split and task."""

_MIDDLES = ("cost", "slo_attainment", "goodput_rps")
_MEANS = ("gpu_hours", "ttft_p99_s", "atgt_p99_s")
_RATIOS = tuple(f"{measure}_{ratio}" for measure in ("cost", "goodput") for ratio in RATIOS)
ESTIMATES = (*_MIDDLES, *_MEANS, *_RATIOS)
WITH_MIDDLES = (*_MIDDLES, *_RATIOS)
_UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Line:
    """A policy in a scenario, or over all scenarios of a split and task.

    Attributes:
        split: Of the scenarios.
        task: Of the scenarios.
        scenario: Name, or :data:`ALL`.
        policy: Name.
        seeds: Episodes behind it; over all: of the scenario with the fewest.
        scenarios: How many scenarios it stands for.
        held: In how many of them its mean attainment holds the target.
        means: Mean and 95 % interval (Student t over seeds; over all without interval) of :data:`ESTIMATES`; ratios are
            of what counts, seed by seed, and over all of the scenarios where both count.
        middles: Interquartile mean and 95 % bootstrap interval of :data:`WITH_MIDDLES`, over all runs.
        best_heuristic: The best heuristic of the scenario; empty where the file has none that counts.
    """

    split: str
    task: str
    scenario: str
    policy: str
    seeds: int
    scenarios: int
    held: int
    means: Mapping[str, Estimate]
    middles: Mapping[str, Estimate]
    best_heuristic: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys; NaN for what is not known."""
        flat: dict[str, Any] = {name: getattr(self, name) for name in ("split", "task", "scenario", "policy", "seeds")}
        flat |= {"scenarios": self.scenarios, "scenarios_held": self.held, "holds_target": self.held == self.scenarios}
        for name in ESTIMATES:
            flat |= _spread(name, self.means.get(name, _UNKNOWN))
            if name in WITH_MIDDLES:
                flat |= _spread(f"{name}_iqm", self.middles.get(name, _UNKNOWN))
        return flat | {"best_heuristic": self.best_heuristic}


def lines(rows: Sequence[Row]) -> list[Line]:
    """By split and task: those of each scenario, best policy first, then those over all scenarios."""
    found: list[Line] = []
    for split in SPLITS:
        for task in TASKS:
            mine = [row for row in rows if (row.split, row.task) == (split, task)]
            by_name = {
                case.name: Scene.of(task, [row for row in mine if row.scenario == case.name])
                for case in cases(split, task)
            }
            scenes = {name: scene for name, scene in by_name.items() if scene.runs}
            for name, scene in scenes.items():
                found += [_in_scenario(split, name, scene, policy) for policy in scene.in_order()]
            if len(scenes) > 1:
                found += _over_all(split, task, list(scenes.values()))
    return found


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader should know of the rows: few seeds, several versions."""
    told = []
    if min(Counter(row.key[:4] for row in rows).values(), default=SEEDS) < SEEDS:
        told.append(f"Some lines stand on fewer than {SEEDS} seeds: their intervals say little.")
    for name in ("commit", "aladdin_env", "numpy", "numba"):
        values = sorted({getattr(row, name) or "none" for row in rows})
        if len(values) > 1:
            told.append(f"The rows are of several versions, {name}: {', '.join(values)}.")
    return told


def _in_scenario(split: str, name: str, scene: Scene, policy: str) -> Line:
    values = {measure: scene.values(policy, measure) for measure in (*_MIDDLES, *_MEANS)}
    values |= {_ratio_name(scene.task, ratio): own for ratio, own in scene.ratios(policy).items()}
    return Line(
        split, scene.task, name, policy, len(scene.runs[policy]), 1, int(scene.holds(policy)),
        means={name: _mean(name, own) for name, own in values.items()},
        middles={name: iqm_estimate([own]) for name, own in values.items() if name in WITH_MIDDLES},
        best_heuristic=scene.best_heuristic,
    )  # fmt: skip


def _over_all(split: str, task: str, scenes: Sequence[Scene]) -> list[Line]:
    """A line per policy that has runs in every scenario: most scenarios held first, then by the ratio to the bound."""
    policies = [name for name in scenes[0].runs if all(name in scene.runs for scene in scenes)]
    found = [_of_policy(split, task, scenes, policy) for policy in policies]
    sign, ratio = (-1.0 if task == "placement" else 1.0), _ratio_name(task, "vs_bound")

    def order(line: Line) -> tuple[float, float, str]:
        return (-line.held if task != "placement" else 0.0, sign * line.middles[ratio].mean, line.policy)

    return sorted(found, key=order)


def _of_policy(split: str, task: str, scenes: Sequence[Scene], policy: str) -> Line:
    runs = {"slo_attainment": [scene.values(policy, "slo_attainment") for scene in scenes]}
    each = [scene.ratios(policy) for scene in scenes]
    runs |= {_ratio_name(task, ratio): [own[ratio] for own in each] for ratio in RATIOS}
    return Line(
        split, task, ALL, policy, min(len(scene.runs[policy]) for scene in scenes), len(scenes),
        sum(scene.holds(policy) for scene in scenes),
        means={name: _mean_of_means(own) for name, own in runs.items()},
        middles={name: iqm_estimate(own) for name, own in runs.items()},
    )  # fmt: skip


def _ratio_name(task: str, ratio: str) -> str:
    return f"{counted(task).removesuffix('_rps')}_{ratio}"


def _mean(name: str, values: Sequence[float]) -> Estimate:
    return estimate(values, least=0.0, most=1.0 if name == "slo_attainment" else math.inf)


def _mean_of_means(runs: Sequence[Sequence[float]]) -> Estimate:
    mean = estimate([estimate(own).mean for own in runs]).mean
    return Estimate(mean, math.nan, math.nan)


def _spread(name: str, value: Estimate) -> dict[str, float]:
    return {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
