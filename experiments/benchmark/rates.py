"""Where the rates of the benchmark come from: ``python -m experiments.benchmark.rates``.

Placement: the highest rate at which ``aladdin`` holds the target on the scenario's fleet, without failures, and how
many times that the scenario has. Scaling and joint: what ``least_request`` attains on a fixed fleet of all slots,
which must be more than the target, or no agent could hold it. Seeds from 900 on, which no split has.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from aladdin_agents.benchmark.scenarios import SPLITS, TARGET, Case, cases
from aladdin_env.scenario import Failures, Scenario
from aladdin_env.simulator.run import simulate
from experiments.given import processes

SEEDS = (900, 901, 902, 903)
_PLACEMENT, _ROUTER = "aladdin", "least_request"
_HALVINGS = 7
_LEAST, _MOST = 0.5, 1.7
"""The rate is looked for between these multiples of the scenario's."""


def attainment(scenario: Scenario, policy: str) -> float:
    """Mean over the seeds."""
    return float(np.mean([simulate(scenario, policy, seed).summary["slo_attainment"] for seed in SEEDS]))


def held_rps(scenario: Scenario) -> float:
    """Highest rate at which the fleet, without failures, holds the target."""
    sound = replace(scenario, fleet=replace(scenario.fleet, failures=Failures()))
    rate_rps, low, high = scenario.workload.mean_rate_rps, _LEAST, _MOST
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        holds = attainment(sound.with_workload(sound.workload.with_rate(middle * rate_rps)), _PLACEMENT) >= TARGET
        low, high = (middle, high) if holds else (low, middle)
    return low * rate_rps


def line(case: Case) -> str:
    """What is printed about a scenario."""
    rate_rps, name = case.scenario.workload.mean_rate_rps, "/".join(case.key)
    if case.task == "placement":
        held = held_rps(case.scenario)
        return f"{name:32} {rate_rps:7.2f} requests/s, held {held:7.2f}, ratio {rate_rps / held:.2f}"
    all_slots = case.scenario.with_workers(tuple(kind.maximum for kind in case.scenario.fleet.types))
    return f"{name:32} {rate_rps:7.2f} requests/s, all slots attain {attainment(all_slots, _ROUTER):.4f}"


def main() -> None:
    """Print a line per scenario."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark.rates", description=__doc__)
    parser.add_argument("--jobs", type=processes, default=2)
    asked = parser.parse_args()
    found = [case for split in SPLITS for task in ("placement", "joint") for case in cases(split, task)]
    with ProcessPoolExecutor(asked.jobs) as pool:
        for text in pool.map(line, found):
            print(text, flush=True)


if __name__ == "__main__":
    main()
