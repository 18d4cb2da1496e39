"""The table of docs/agents.md: ``python -m experiments.tables.policies [--traces FOLDER]``.

Every placement with the scaler ``aladdin`` and every scaler with the placement ``least_request``, on the presets whose
fleet scales (of the day of "diurnal" two hours) and, where a folder has them, on the last quarters of Azure's 2023
traces. Seed 0; no setting was tuned on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from aladdin_env.compare import compare, contenders
from aladdin_env.presets import scenario_names
from aladdin_env.scenario import Scenario
from experiments.given import input_folder, processes
from experiments.heuristics import heuristic_specs
from experiments.tuning.loads import TRACES, part_of_trace, scenario_of

SEEDS = (0,)
TARGET = 0.99
REFERENCE = "aladdin+aladdin"
_LAST_QUARTER = (0.75, 1.0)

Cells = Mapping[str, tuple[float, float]]
"""By policy: attainment and cost."""


def measured(scenario: Scenario, jobs: int | None) -> Cells:
    """Mean attainment and cost of every policy over the seeds."""
    found = compare(scenario, contenders(scenario, heuristic_specs(scenario)), SEEDS, jobs=jobs)
    return {row.policy: (row["slo_attainment"].mean, row["cost"].mean) for row in found.rows}


def table(title: str, policies: list[str], columns: Mapping[str, Cells]) -> str:
    """Markdown: a row per policy, a column per scenario; attainment in per cent and cost over that of Aladdin."""
    lines = [f"| {title} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for policy in policies:
        cells = []
        for column in columns.values():
            attainment, cost = column[policy]
            text = f"{100 * attainment:.1f} / {cost / column[REFERENCE][1]:.2f}"
            cells.append(text if attainment >= TARGET else f"*{text}*")
        lines.append(f"| `{policy}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=input_folder, help="folder with Azure's 2023 traces")
    parser.add_argument("--jobs", type=processes)
    asked = parser.parse_args()
    scenarios = {name: scenario_of(name) for name in scenario_names()}
    if asked.traces is not None:
        scenarios |= {name: part_of_trace(name, asked.traces / file, *_LAST_QUARTER) for name, file in TRACES.items()}
    columns: dict[str, Cells] = {}
    for name, scenario in scenarios.items():
        columns[name] = measured(scenario, asked.jobs)
        print(f"{name}: done", flush=True)
    policies = heuristic_specs(next(iter(scenarios.values())))
    placements = [f"{name}+aladdin" for name in policies if "+" not in name]
    scalers = [name for name in policies if "+" in name]
    print("\n" + table("placement, with the scaler `aladdin`", placements, columns))
    print("\n" + table("scaler, under `least_request`", [REFERENCE, "least_request+aladdin", *scalers], columns))


if __name__ == "__main__":
    main()
