"""How far policies are from the clairvoyant bound: ``python -m experiments.tables.bounds [--jobs N]``.

Every preset (of the day of "diurnal" two hours) under seed 0: the bound at 99 %, Aladdin's cost and that of the best
other default policy over it; and for presets with one worker type the fewest workers of a fixed fleet beside the bound.
Then "sharegpt-poisson" at a high rate, where whole workers and starts cease to count, with what the sizing formulas
would need if the mean pace could be the objective itself.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from aladdin_agents.sizing import Safety, plan
from aladdin_env.compare import TARGET, Comparison, Row, compare, compare_fewest, contenders
from aladdin_env.presets import scenario_names
from aladdin_env.scenario import Fleet, Scenario
from aladdin_env.yardsticks import least_workers
from experiments.given import processes
from experiments.heuristics import heuristics
from experiments.paper.shared import at_rate
from experiments.tuning.loads import scenario_of

SEED = 0
HIGH_RATE_RPS, HIGH_RATE_HORIZON_S = 200.0, 300.0
FIXED = ("aladdin", "least_request")
_HEADINGS = (
    "preset", "bound", "`aladdin+aladdin`", "best other", "workers: bound", *(f"`{name}`" for name in FIXED),
)  # fmt: skip


def line(scenario: Scenario, jobs: int | None) -> str:
    """The row of a preset."""
    found = compare(scenario, heuristics(scenario), (SEED,), target=TARGET, jobs=jobs)
    aladdin = next(row for row in found.rows if row.is_reference)
    holding = (row for row in found.rows if row["slo_attainment"].mean >= TARGET)
    others = [row for row in holding if not row.policy.startswith("aladdin")]  # its variants are no others
    best = f"{_over(others[0])} `{others[0].policy}`" if others else "none"
    cells = [f"{found.bounds[0]:.2f}", f"{_over(aladdin)} at {_per_cent(aladdin)}", best, *_workers(scenario, jobs)]
    return " | ".join([f"| `{scenario.name}`", *cells]) + " |"


def _workers(scenario: Scenario, jobs: int | None) -> list[str]:
    """The bound and the fewest workers with each of :data:`FIXED`; dashes where there are several worker types."""
    if len(scenario.fleet.types) > 1:
        return ["-"] * (1 + len(FIXED))
    trace = scenario.workload.sample(np.random.default_rng(SEED), scenario.horizon_s)
    fixed = scenario.with_workers((scenario.fleet.types[0].initial,))
    found = compare_fewest(scenario, contenders(fixed, FIXED), (SEED,), target=TARGET, jobs=jobs)
    return [str(least_workers(scenario, trace, TARGET)), *(_fewest(found, name) for name in FIXED)]


def high_rate(jobs: int | None) -> str:
    """Workers of a fixed fleet at :data:`HIGH_RATE_RPS`."""
    scenario = at_rate(scenario_of("sharegpt-poisson"), HIGH_RATE_RPS, HIGH_RATE_HORIZON_S)
    wide = replace(scenario, fleet=Fleet(tuple(replace(kind, maximum=96) for kind in scenario.fleet.types)))
    bound, *needed = _workers(wide, jobs)
    (formula,) = plan(wide, safety=Safety(1.0, 1.0, 1.0, 1.0, 1.0))
    told = ", ".join(f"{name} {workers}" for name, workers in zip(FIXED, needed, strict=True))
    return (
        f"sharegpt-poisson at {HIGH_RATE_RPS:g} requests/s: bound {bound} workers, {told}; "
        f"a worker at the objective itself takes {formula.rate_per_worker_rps:.2f}/s, hence {formula.workers} workers"
    )


def _fewest(found: Comparison, policy: str) -> str:
    return next(str(row.workers or "-") for row in found.rows if row.policy == policy)


def _over(row: Row) -> str:
    return f"{row['cost_vs_bound'].mean:.2f}"


def _per_cent(row: Row) -> str:
    return f"{100 * row['slo_attainment'].mean:.2f} %"


def main() -> None:
    """Print the table, each preset as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=processes)
    jobs = parser.parse_args().jobs
    print("| " + " | ".join(_HEADINGS) + " |\n" + "|---" * len(_HEADINGS) + "|", flush=True)
    for name in scenario_names():
        print(line(scenario_of(name), jobs), flush=True)
    print(high_rate(jobs))


if __name__ == "__main__":
    main()
