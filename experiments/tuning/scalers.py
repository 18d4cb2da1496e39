"""Settings of the shipped scalers: ``python -m experiments.tuning.scalers [--traces FOLDER] [NAME ...]``.

Every scaler, under the placement ``least_request``, on the loads of :mod:`experiments.tuning.loads`. What is looked
for: the least cost, over that of the fleet at time 0 kept throughout, on average over the loads, subject to an
attainment of 99 % (the mean of the seeds) on each load that this fleet would hold; where no try does it, an
attainment that is at most half a point below what the best try has on its worst such load. The winner is then shown on
the validation loads. ``--validate`` only does that, for the defaults.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from aladdin_agents.scale_aladdin import AladdinScaler, ScalerSettings
from aladdin_agents.scale_planner import Planner, PlannerSettings
from aladdin_agents.scale_reactive import (
    HpaSettings,
    Kpa,
    KpaSettings,
    ReactiveSettings,
    TargetUtilisation,
    TunedReactive,
)
from aladdin_agents.scale_saturation import Saturation, SaturationSettings
from aladdin_agents.scalers import Static
from aladdin_env.policy import Combined, Scaler, make_policy
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.run import Simulator
from experiments.given import input_folder, processes
from experiments.tuning.loads import Load, loads

TARGET = 0.99
SLACK = 0.005
SEEDS = 2


@dataclass(frozen=True)
class Question:
    """A scaler and what is tried of its settings."""

    make: Callable[[Scenario, Mapping[str, float]], Scaler]
    grid: Mapping[str, Sequence[float]]

    def tries(self) -> Iterator[dict[str, float]]:
        """Every combination."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))


def _aladdin(scenario: Scenario, given: Mapping[str, Any]) -> Scaler:
    return AladdinScaler(scenario, ScalerSettings(**given))


def _hpa(scenario: Scenario, given: Mapping[str, Any]) -> Scaler:
    return TargetUtilisation(scenario, HpaSettings(**given))


def _kpa(scenario: Scenario, given: Mapping[str, Any]) -> Scaler:
    return Kpa(scenario, KpaSettings(**given))


def _reactive(scenario: Scenario, given: Mapping[str, Any]) -> Scaler:
    return TunedReactive(scenario, ReactiveSettings(**given))


def _planner(scenario: Scenario, given: Mapping[str, Any]) -> Scaler:
    return Planner(scenario, PlannerSettings(**given))


def _saturation(scenario: Scenario, given: Mapping[str, Any]) -> Scaler:
    return Saturation(scenario, SaturationSettings(**given))


def _static(scenario: Scenario, given: Mapping[str, Any]) -> Scaler:
    return Static()


QUESTIONS = {
    "static": Question(_static, {}),
    "aladdin": Question(_aladdin, {"rho": (0.85, 0.9), "settle_s": (300.0, 600.0, 900.0), "memory_s": (0.0, 1800.0)}),
    "target_utilisation": Question(_hpa, {"target": (0.5, 0.55, 0.6, 0.65), "down_s": (300.0, 900.0, 1800.0)}),
    "kpa": Question(_kpa, {"target": (0.5, 0.55, 0.6), "delay_s": (0.0, 900.0, 1800.0), "panic_threshold": (1.5, 2.0)}),
    "tuned_reactive": Question(
        _reactive, {"high": (0.6, 0.7), "low": (0.4, 0.5), "down_s": (60.0, 300.0, 600.0), "step": (0.25, 0.5)}
    ),
    "planner": Question(
        _planner, {"interval_s": (30.0, 60.0, 180.0), "target": (0.6, 0.7, 0.8, 1.0), "trend": (0.0, 0.3)}
    ),
    "saturation": Question(
        _saturation,
        {"kv": (0.3, 0.5, 0.8), "queue_spare": (3.0, 4.0), "interval_s": (15.0, 60.0), "down_s": (300.0, 1800.0)},
    ),
}

Outcome = tuple[float, float]
"""Attainment, and cost over that of the fleet at time 0."""


@dataclass(frozen=True)
class _Unit:
    load: Load
    scaler: str
    tries: tuple[dict[str, float], ...]


def _work(unit: _Unit) -> list[Outcome]:
    scenario = unit.load.scenario
    simulator = Simulator(scenario, unit.load.seed)
    trace = scenario.workload.trace
    length_s = scenario.horizon_s if trace is None else trace.duration_s
    assert length_s is not None
    whole = length_s * sum(kind.initial * kind.price_per_s for kind in scenario.fleet.types)
    found = []
    for given in unit.tries:
        placement = make_policy("least_request", scenario).placement
        policy = Combined(placement, QUESTIONS[unit.scaler].make(scenario, given))
        summary = simulator.run(policy).summary
        found.append((summary["slo_attainment"], summary["cost"] / whole))
    return found


def outcomes(pool: ProcessPoolExecutor, on: Sequence[Load], scaler: str, tries: Sequence[dict[str, float]]) -> Any:
    """Per try, an outcome per load."""
    units = [_Unit(load, scaler, tuple(tries)) for load in on]
    return list(zip(*pool.map(_work, units), strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def by_name(on: Sequence[Load], found: Sequence[Outcome]) -> dict[str, float]:
    """Mean attainment of each load over its seeds."""
    names = dict.fromkeys(load.name for load in on)
    return {name: _mean([a for load, (a, _) in zip(on, found, strict=True) if load.name == name]) for name in names}


def _line(on: Sequence[Load], given: Mapping[str, float], found: Sequence[Outcome]) -> str:
    names = list(dict.fromkeys(load.name for load in on))
    parts = []
    for name in names:
        mine = [one for load, one in zip(on, found, strict=True) if load.name == name]
        parts.append(f"{name} {100 * _mean([a for a, _ in mine]):.1f} % at {_mean([c for _, c in mine]):.2f}")
    attainment, cost = (_mean([one[i] for one in found]) for i in (0, 1))
    settings = " ".join(f"{key}={value:g}" for key, value in given.items())
    return f"{100 * attainment:6.2f} % at {cost:.3f}  {settings or 'defaults'} | " + ", ".join(parts)


def main() -> None:
    """Tune or validate the scalers that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(QUESTIONS)}; all by default")
    parser.add_argument("--traces", type=input_folder, help="folder with Azure's 2023 traces")
    parser.add_argument("--validate", action="store_true", help="only show the defaults on the validation loads")
    parser.add_argument("--jobs", type=processes, default=2)
    asked = parser.parse_args()
    tuning, validation = (loads(part, asked.traces, SEEDS) for part in ("tuning", "validation"))
    with ProcessPoolExecutor(asked.jobs) as pool:
        kept = outcomes(pool, tuning, "static", [{}])[0]
        held = {name for name, share in by_name(tuning, kept).items() if share >= TARGET}
        for name in asked.names or QUESTIONS:
            print(f"\n{name}: attainment and cost over that of the fleet at time 0")
            best: dict[str, float] = {}
            if not asked.validate:
                tries = list(QUESTIONS[name].tries())
                found = outcomes(pool, tuning, name, tries)
                order = sorted(range(len(tries)), key=lambda i: _mean([c for _, c in found[i]]))
                for i in order:
                    print(_line(tuning, tries[i], found[i]), flush=True)
                attained = [min(share for name, share in by_name(tuning, one).items() if name in held) for one in found]
                holds = max(attained) >= TARGET
                asked_for = TARGET if holds else max(attained) - SLACK
                best = tries[next(i for i in order if attained[i] >= asked_for)]
                print("best:" if holds else f"none holds {TARGET:.0%} on each; nearest:", best)
            print("validation:", _line(validation, best, outcomes(pool, validation, name, [best])[0]), flush=True)


if __name__ == "__main__":
    main()
