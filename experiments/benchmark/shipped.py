"""The shipped agents on the test split: ``python -m experiments.benchmark.shipped``.

Prints, from the committed rows, the tables of docs/benchmark.md in Markdown: each scenario with its best heuristic (the
best in hindsight), Aladdin, and the learned agent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from aladdin_agents.benchmark.entrants import REFERENCE
from aladdin_agents.benchmark.results import read_files
from aladdin_agents.benchmark.table import ALL, Line, lines

RESULTS = Path(__file__).with_name("results")
FILES = (RESULTS / "heuristics" / "test.csv", RESULTS / "learned" / "test.csv")
AGENTS = {"placement": "learned_placement", "scaling": "aladdin+learned_scaling", "joint": "learned_joint"}


def table(task: str, found: Sequence[Line]) -> list[str]:
    """Lines of Markdown for one task."""
    is_placement = task == "placement"
    what = "goodput" if is_placement else "cost"
    rows = [
        f"| {task} | best heuristic | SLO met, % | {REFERENCE[task]}, % | `{AGENTS[task]}`, % | "
        f"its {what} over the best heuristic's | over Aladdin's | over the bound's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    scenarios = dict.fromkeys(line.scenario for line in found if line.task == task and line.scenario != ALL)
    for scenario in scenarios:
        mine = {line.policy: line for line in found if (line.task, line.scenario) == (task, scenario)}
        agent = mine[AGENTS[task]]
        best = mine.get(agent.best_heuristic)
        cells = [
            scenario,
            f"`{best.policy}`" if best else "none holds 99 %",
            _share(best),
            _share(mine[REFERENCE[task]]),
            _share(agent),
            *(_ratio(agent, f"{what}_{ratio}") for ratio in ("vs_best_heuristic", "vs_aladdin", "vs_bound")),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _share(line: Line | None) -> str:
    return "" if line is None else f"{100 * line.means['slo_attainment'].mean:.2f}"


def _ratio(line: Line, name: str) -> str:
    one = line.means.get(name)
    if one is None or math.isnan(one.mean):
        return ""
    return f"{one.mean:.3f} ± {0.5 * (one.high - one.low):.3f}"


def main() -> None:
    """Print the three tables."""
    found = lines(read_files(FILES))
    for task in AGENTS:
        print("\n".join(table(task, found)), end="\n\n")


if __name__ == "__main__":
    main()
