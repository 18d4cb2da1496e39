"""The benchmark "v1": a fixed, named set of scenarios in three splits and three tasks.

A result is comparable with another one only where the version is the same; a change of any scenario is a new version.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from aladdin_agents.benchmark.splits import test, train, validate
from aladdin_env.errors import InputError, suggest
from aladdin_env.scenario import Scenario

BENCHMARK = "v1"
TASKS = ("placement", "scaling", "joint")
SPLITS = ("train", "validate", "test")
SEEDS = 10
TARGET = 0.99
"""Attainment that a policy of the tasks "scaling" and "joint" has to hold; then cost counts."""

_SETTINGS = {"train": train, "validate": validate, "test": test}
_FIRST_SEED = {"train": 10_000, "validate": 20_000, "test": 30_000}
_ONLY_JOINT = ("large",)


@dataclass(frozen=True)
class Case:
    """A scenario of the benchmark.

    Attributes:
        name: Of the scenario; the same in several splits for the same kind of load.
        task: "placement" (the fleet is fixed), "scaling" (some policy places), or "joint".
        split: "train", "validate" or "test".
        scenario: What is simulated.
        seeds: Its episodes.
    """

    name: str
    task: str
    split: str
    scenario: Scenario
    seeds: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """Split, task, name."""
        return (self.split, self.task, self.name)

    def first_seeds(self, count: int) -> tuple[int, ...]:
        """The first ``count`` seeds; beyond the fixed ones the numbers go on."""
        return tuple(range(self.seeds[0], self.seeds[0] + count))


@cache
def cases(split: str, task: str) -> tuple[Case, ...]:
    """The scenarios of a task in a split.

    Raises:
        InputError: an unknown split or task, with the nearest known one.
    """
    _check("split", split, SPLITS)
    _check("task", task, TASKS)
    module = _SETTINGS[split]
    settings = module.PLACEMENT if task == "placement" else module.JOINT
    seeds = tuple(range(_FIRST_SEED[split], _FIRST_SEED[split] + SEEDS))
    return tuple(
        Case(one.name, task, split, one.scenario(f"{split}/{task}/{one.name}", fixed=task == "placement"), seeds)
        for one in settings
        if task != "scaling" or one.name not in _ONLY_JOINT
    )


def case_of(split: str, task: str, name: str) -> Case:
    """One scenario.

    Raises:
        InputError: no such split, task or scenario, with the nearest known one.
    """
    found = {case.name: case for case in cases(split, task)}
    _check("scenario", name, tuple(found))
    return found[name]


def _check(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(field, value, suggest(value, known))
