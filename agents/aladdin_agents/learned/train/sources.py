"""Where training episodes come from: scenarios by name or the benchmark's training split, and how they vary."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from aladdin_agents.learned.train.config import BENCHMARK, Config
from aladdin_agents.learned.train.curriculum import Load
from aladdin_env.envs.engine import ScenarioSampler
from aladdin_env.errors import InputError
from aladdin_env.presets import load_scenario
from aladdin_env.randomisation import randomised_scenario
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.setup import draw

_IDS = {"placement": "aladdin/Placement-v0", "scaling": "aladdin/Scaling-v0", "joint": "aladdin/Joint-v0"}
# Episodes that expect fewer requests than this are drawn twice, to see that there is one at all.
_FEW_REQUESTS = 10_000
_TRIES = 100


@dataclass(frozen=True)
class Source:
    """Episodes of one fleet.

    Attributes:
        name: For people.
        scenarios: What its episodes are variations of, by their names; all have one frame.
        sampler: Draws the scenario of an episode.
    """

    name: str
    scenarios: tuple[Scenario, ...]
    sampler: ScenarioSampler

    @property
    def scenario(self) -> Scenario:
        """One of them, for the frame."""
        return self.scenarios[0]


def sources_of(config: Config) -> tuple[Source, ...]:
    """The sources that a configuration names.

    Raises:
        InputError: a scenario that there is not.
    """
    spread = config.environment.randomise
    if config.scenarios == (BENCHMARK,):
        from aladdin_agents.benchmark import training_groups

        return tuple(
            Source(
                group.name,
                tuple(case.scenario for case in group.cases),
                group.sampler(load=(1.0, 1.0), spread=spread),
            )
            for group in training_groups(config.task)
        )
    found = [load_scenario(name) for name in config.scenarios]
    check_names([one.name for one in found], "scenarios")
    return tuple(Source(one.name, (one,), partial(randomised_scenario, one, scale=spread)) for one in found)


def single_sources(config: Config) -> tuple[Source, ...]:
    """The same, but each scenario a source of its own.

    Raises:
        InputError: a scenario that there is not.
    """
    if config.scenarios != (BENCHMARK,):
        return sources_of(config)
    from aladdin_agents.benchmark import training_groups

    found = []
    for group in training_groups(config.task):
        for case in group.cases:
            sampler = replace(group, cases=(case,)).sampler(load=(1.0, 1.0), spread=config.environment.randomise)
            found.append(Source(case.name, (case.scenario,), sampler))
    return tuple(found)


def check_names(names: Sequence[str], field: str) -> None:
    """Refuse two scenarios of one name: by it results and prices are told apart."""
    for name in names:
        if names.count(name) > 1:
            raise InputError(field, name, "two of the scenarios have this name: give each one of its own")


@dataclass(frozen=True)
class Varied:
    """Draws the scenario of a training episode: one of its source, at another load, for another time.

    Attributes:
        source: Where it comes from.
        load: Factor on its rate.
        horizon_s: About how long it lasts; 0: as long as the scenario.
    """

    source: Source
    load: Load
    horizon_s: float

    def __call__(self, rng: np.random.Generator) -> Scenario:
        """A scenario whose next draw from ``rng`` has requests."""
        for _ in range(_TRIES):
            scenario = self._draw(rng)
            if self._has_requests(scenario, rng):
                return scenario
        raise InputError("environment.horizon_s", self.horizon_s, f"too short for {self.source.name}: no request comes")

    def _draw(self, rng: np.random.Generator) -> Scenario:
        scenario = self.source.sampler(rng)
        factor = self.load.draw(rng)
        if factor != 1.0:
            workload = scenario.workload
            scenario = replace(scenario, workload=workload.with_rate(factor * workload.mean_rate_rps))
        if self.horizon_s > 0:
            most_s = scenario.horizon_s or np.inf
            scenario = replace(scenario, horizon_s=min(most_s, float(rng.uniform(0.5, 1.5)) * self.horizon_s))
        return scenario

    @staticmethod
    def _has_requests(scenario: Scenario, rng: np.random.Generator) -> bool:
        """Whether the environment will draw any: a short piece of a load in bursts may be silent throughout."""
        if scenario.horizon_s is None or scenario.workload.mean_rate_rps * scenario.horizon_s > _FEW_REQUESTS:
            return True
        return len(draw(scenario, copy.deepcopy(rng)).trace) > 0


def env_id(task: str) -> str:
    """The environment of a task."""
    return _IDS[task]


def env_options(config: Config) -> dict[str, Any]:
    """Its keyword arguments but the scenario."""
    chosen = config.environment
    options: dict[str, Any] = {}
    if config.places:
        options |= {"allow_hold": chosen.allow_hold, "allow_reject": chosen.allow_reject}
    if config.scales:
        options["max_change"] = chosen.max_change
    if config.task == "scaling":
        options["policy"] = chosen.placement
    if config.task == "placement" and chosen.scaler != "static":
        options["scaler"] = chosen.scaler
    return options


def _shares(whole: int, weights: Sequence[int]) -> list[int]:
    """``whole`` in proportion to ``weights``, at least 1 each."""
    shares = [1] * len(weights)
    for _ in range(whole - len(weights)):
        lacking = [weight / (n + 0.5) for n, weight in zip(shares, weights, strict=True)]
        shares[lacking.index(max(lacking))] += 1
    return shares


def make_pool(config: Config, sources: Sequence[Source], load: Load) -> Any:
    """The environments of a run as a ``PooledVecEnv``; its sources share them by how many scenarios they have.

    Raises:
        InputError: fewer environments than sources; an MLP for several fleets; a policy inside that there is not.
    """
    from aladdin_agents.learned.train.pool import Frame, PooledVecEnv  # Stable-Baselines3, hence torch
    from aladdin_env.envs.sb3 import SB3VecEnv

    chosen = config.environment
    if chosen.envs < len(sources):
        raise InputError("environment.envs", chosen.envs, f"give at least {len(sources)}, one for each source")
    frames = {Frame.of(source.scenario) for source in sources}
    if config.network.kind == "mlp" and len(frames) > 1:
        mend = f"an MLP fits one fleet, and these differ in slots or types ({len(frames)} kinds): take equivariant"
        raise InputError("network.kind", "mlp", mend)
    parts = []
    for source, count in zip(sources, _shares(chosen.envs, [len(one.scenarios) for one in sources]), strict=True):
        sampler = Varied(source, load, chosen.horizon_s)
        made = {"scenario": source.scenario, "scenario_sampler": sampler, **env_options(config)}
        parts.append(SB3VecEnv.make(env_id(config.task), count, **made))
    names = [scenario.name for source in sources for scenario in source.scenarios]
    return PooledVecEnv(parts, config.decides, names, config.network.adviser)
