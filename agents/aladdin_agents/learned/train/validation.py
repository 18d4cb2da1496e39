"""How good a checkpoint is: on episodes of their own, with the best action each time, by the code that is deployed.

One number orders checkpoints. Placement: the goodput, as the mean share of requests within their objectives.
Scaling and joint: what is saved against the expert while the target is held,

    1 - mean over the cases of (cost / the expert's + max(0, needed - attainment) / (1 - target)),

where ``needed`` is the target, or what the expert attains where that is less: to save is worth nothing where a promise
is broken that the expert keeps, and every allowed share of misses too many counts as much as a whole fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aladdin_agents.learned.policy import load_policy
from aladdin_agents.learned.train.config import BENCHMARK, Config
from aladdin_agents.learned.train.sources import check_names
from aladdin_env.policy import Combined, Placement, combine, make_policy, make_scaler
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.run import Simulator

#: Seeds of validation on scenarios by name; the benchmark's cases bring their own.
FIRST_SEED = 50_000
_MEASURES = ("slo_attainment", "cost", "gpus_mean", "ttft_p99_s", "atgt_p99_s")

Maker = Callable[[Scenario], Combined]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Trial:
    """Episodes of one scenario."""

    name: str
    scenario: Scenario
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """What came out.

    Attributes:
        score: Higher is better; see the head of this module.
        attainment: Mean over the cases.
        cost_ratio: Cost over the expert's, mean over the cases.
        cases: Means over the seeds by case: attainment, cost, GPUs, p99 of TTFT and ATGT.
    """

    score: float
    attainment: float
    cost_ratio: float
    cases: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, object]:
        """As plain numbers."""
        return asdict(self)


def trials_of(config: Config) -> tuple[Trial, ...]:
    """The validation episodes of a run: those named, else the benchmark's split, else the training scenarios."""
    chosen = config.validation
    if chosen.scenarios or config.scenarios != (BENCHMARK,):
        found = map(load_scenario, chosen.scenarios or config.scenarios)
        seeds = tuple(range(FIRST_SEED, FIRST_SEED + chosen.seeds))
        made = [Trial(scenario.name, scenario, seeds) for scenario in found]
    else:
        from aladdin_agents.benchmark import cases

        some = cases("validate", config.task)
        made = [Trial(case.name, case.scenario, case.first_seeds(chosen.seeds)) for case in some]
    if chosen.horizon_s > 0:
        made = [replace(one, scenario=_cut(one.scenario, chosen.horizon_s)) for one in made]
    check_names([one.name for one in made], "validation.scenarios")
    return tuple(made)


def completed(config: Config, policy: Combined, scenario: Scenario) -> Combined:
    """What the task leaves to others is theirs, as in the environments."""
    chosen = config.environment
    if config.task == "placement" and chosen.scaler != "static":
        return Combined(policy.placement, make_scaler(chosen.scaler, scenario))
    if config.task == "placement":
        return Combined(policy.placement)
    if config.task == "scaling":
        return Combined(make_policy(chosen.placement, scenario).placement, policy.scaler)
    return policy


def expert_of(config: Config, scenario: Scenario) -> Combined:
    """The policy that others are compared with."""
    return completed(config, make_policy(config.imitation.expert, scenario), scenario)


def as_combined(policy: Any) -> Combined:
    """What a checkpoint decides; of one that only scales the placement must not be asked."""
    return combine(policy) if isinstance(policy, Placement) else Combined(policy, policy)


def learned(checkpoint: Path, scenario: Scenario) -> Combined:
    """The policy of a checkpoint."""
    return as_combined(load_policy(checkpoint, scenario))


def _cut(scenario: Scenario, horizon_s: float) -> Scenario:
    return replace(scenario, horizon_s=min(horizon_s, scenario.horizon_s or horizon_s))


class Validator:
    """Judges policies on the same drawn episodes, against the expert.

    Args:
        config: Says what the policy decides, who decides the rest, and who the expert is.
        trials: The episodes.
    """

    def __init__(self, config: Config, trials: Sequence[Trial]) -> None:
        self._config = config
        self._simulators = {
            (one.name, seed): Simulator(one.scenario, seed) for one in trials for seed in one.seeds
        }  # fmt: skip
        self._reference: dict[str, dict[str, float]] = {}

    @property
    def reference(self) -> dict[str, dict[str, float]]:
        """What the expert does, by case."""
        if not self._reference:
            self._reference = self._run(self._expert, lambda part: None)
        return self._reference

    def restore(self, reference: Mapping[str, Mapping[str, float]]) -> None:
        """Take what the expert did from an earlier run."""
        self._reference = {name: dict(measures) for name, measures in reference.items()}

    def judge(self, checkpoint: Path, progress: Progress = lambda part: None) -> Verdict:
        """The verdict on a checkpoint file."""
        return self.compare(self._run(lambda scenario: self._learned(checkpoint, scenario), progress))

    def judge_expert(self) -> Verdict:
        """The verdict on the expert itself."""
        return self.compare(self.reference)

    def compare(self, cases: dict[str, dict[str, float]]) -> Verdict:
        """The verdict on these results."""
        target = self._config.validation.target
        attained = {name: case["slo_attainment"] for name, case in cases.items()}
        ratios, losses = [], []
        for name, case in cases.items():
            expert = self.reference[name]
            ratio = case["cost"] / expert["cost"] if expert["cost"] > 0 else 1.0
            needed = min(target, expert["slo_attainment"])
            ratios.append(ratio)
            losses.append(ratio + max(0.0, needed - attained[name]) / (1.0 - target))
        mean = float(np.mean(list(attained.values())))
        score = 1.0 - float(np.mean(losses)) if self._config.scales else mean
        return Verdict(score, mean, float(np.mean(ratios)), cases)

    def _run(self, make: Maker, progress: Progress) -> dict[str, dict[str, float]]:
        rows: dict[str, list[list[float]]] = {}
        for done, ((name, _), simulator) in enumerate(self._simulators.items()):
            summary = simulator.run(make(simulator.scenario)).summary
            rows.setdefault(name, []).append([summary[measure] for measure in _MEASURES])
            progress((done + 1) / len(self._simulators))
        means = {name: np.nan_to_num(np.mean(values, axis=0)).tolist() for name, values in rows.items()}
        return {name: dict(zip(_MEASURES, values, strict=True)) for name, values in means.items()}

    def _learned(self, checkpoint: Path, scenario: Scenario) -> Combined:
        return completed(self._config, learned(checkpoint, scenario), scenario)

    def _expert(self, scenario: Scenario) -> Combined:
        return expert_of(self._config, scenario)
