"""Scenarios to train on: those of the split "train", drawn anew for every episode.

An environment needs scenarios of one frame (worker types, their slots); the training scenarios of a task therefore come
in groups, each for an environment of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from aladdin_agents.benchmark.scenarios import Case, cases
from aladdin_agents.tunable import type_weights
from aladdin_env.errors import InputError, suggest
from aladdin_env.randomisation import randomised_scenario
from aladdin_env.scenario import Scenario, WorkerType
from aladdin_traces import Diurnal, Workload

LOAD = (0.7, 1.2)
_COLD_START = (0.6, 1.6)
_PRICE = (0.4, 1.6)
_INITIAL = (0.7, 1.5)
_LEAST_WORKERS = 4


@dataclass
class TrainingSampler:
    """Draws a scenario for an episode: a ``scenario_sampler`` of the environments.

    A scenario of the group is drawn; then its load, the hour at which a day begins, the fleet (of a placement the
    whole of it, at a load in proportion), cold starts, the prices of several types, and the laws of the workers within
    their errors. All but the generator's state is settings, which may be changed between episodes: a curriculum.

    Attributes:
        cases: What is drawn from, all with the same chance.
        load: Range of the factor on the rates.
        horizon_s: Longest episode, seconds; None: as long as the scenarios are.
        spread: Multiplies the spread of the workers' laws, 0 to 20; 0 leaves them as they are.
    """

    cases: tuple[Case, ...]
    load: tuple[float, float] = LOAD
    horizon_s: float | None = None
    spread: float = 1.0

    def __call__(self, rng: np.random.Generator) -> Scenario:
        """A scenario, all random choices from ``rng``."""
        case = self.cases[int(rng.integers(len(self.cases)))]
        scenario = case.scenario
        kinds, growth = _fleet(rng, scenario, fixed=case.task == "placement")
        factor = growth * float(rng.uniform(*self.load))
        horizon_s = scenario.horizon_s
        if self.horizon_s is not None and horizon_s is not None:
            horizon_s = min(horizon_s, self.horizon_s)
        drawn = replace(
            scenario,
            workload=_workload(rng, scenario.workload, factor),
            fleet=replace(scenario.fleet, types=kinds),
            horizon_s=horizon_s,
        )
        return randomised_scenario(drawn, rng, self.spread) if self.spread else drawn


@dataclass(frozen=True)
class TrainingGroup:
    """Training scenarios of one frame.

    Attributes:
        name: "one-type" or "three-types".
        task: "placement", "scaling" or "joint".
        cases: The scenarios.
    """

    name: str
    task: str
    cases: tuple[Case, ...]

    @property
    def scenario(self) -> Scenario:
        """One of them, for the environment's argument ``scenario``."""
        return self.cases[0].scenario

    def sampler(
        self, *, load: tuple[float, float] = LOAD, horizon_s: float | None = None, spread: float = 1.0
    ) -> TrainingSampler:
        """What the environment's argument ``scenario_sampler`` takes; see :class:`TrainingSampler`."""
        return TrainingSampler(self.cases, load, horizon_s, spread)


@cache
def training_groups(task: str) -> tuple[TrainingGroup, ...]:
    """The training scenarios of a task by their frames, the larger group first.

    Raises:
        InputError: an unknown task.
    """
    found: dict[str, list[Case]] = {}
    for case in cases("train", task):
        several = len(case.scenario.fleet.types) > 1
        found.setdefault("three-types" if several else "one-type", []).append(case)
    return tuple(TrainingGroup(name, task, tuple(mine)) for name, mine in found.items())


def training_sampler(
    task: str,
    group: str = "one-type",
    *,
    load: tuple[float, float] = LOAD,
    horizon_s: float | None = None,
    spread: float = 1.0,
) -> TrainingSampler:
    """The sampler of one group of :func:`training_groups`, by its name.

    Raises:
        InputError: an unknown task or group.
    """
    groups = {one.name: one for one in training_groups(task)}
    if group not in groups:
        raise InputError("group", group, suggest(group, groups))
    return groups[group].sampler(load=load, horizon_s=horizon_s, spread=spread)


def _workload(rng: np.random.Generator, workload: Workload, factor: float) -> Workload:
    """The workload at ``factor`` times its rate, a day beginning at any hour."""
    arrivals = workload.arrivals
    if isinstance(arrivals, Diurnal):
        arrivals = replace(arrivals, start_s=float(rng.uniform(0.0, arrivals.period_s)))
        workload = replace(workload, arrivals=arrivals)
    return workload.with_rate(factor * workload.mean_rate_rps)


def _fleet(rng: np.random.Generator, scenario: Scenario, *, fixed: bool) -> tuple[tuple[WorkerType, ...], float]:
    """Worker types with other numbers, cold starts and prices; by how much a fixed fleet is larger than before."""
    kinds = scenario.fleet.types
    drawn = tuple(_counts(rng, kind, fixed, len(kinds)) for kind in kinds)
    changed = tuple(
        replace(
            kind,
            initial=n,
            minimum=n if fixed else kind.minimum,
            cold_start=replace(kind.cold_start, mean_s=kind.cold_start.mean_s * float(rng.uniform(*_COLD_START))),
            price_per_gpu_hour=kind.price_per_gpu_hour * (float(rng.uniform(*_PRICE)) if len(kinds) > 1 else 1.0),
        )
        for kind, n in zip(kinds, drawn, strict=True)
    )
    if not fixed:
        return changed, 1.0
    speeds = 1.0 / type_weights(scenario)
    before = np.array([kind.initial for kind in kinds])
    return changed, float((np.array(drawn) @ speeds) / (before @ speeds))


def _counts(rng: np.random.Generator, kind: WorkerType, fixed: bool, types: int) -> int:
    """Workers at time 0: of a fixed fleet any number, of one that scales a little more or less than given."""
    if fixed:
        return int(rng.integers(_LEAST_WORKERS if types == 1 else 1, kind.maximum + 1))
    low, high = (round(kind.initial * factor) for factor in _INITIAL)
    return int(rng.integers(max(low, kind.minimum), min(high, kind.maximum) + 1))
