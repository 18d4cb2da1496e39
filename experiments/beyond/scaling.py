"""Every scaler under loads that change, two placements: ``python -m experiments.beyond.scaling``.

Costs are those of whole episodes, beside the clairvoyant bound and beside the smallest fixed fleet that holds 99 %
under ``least_request`` in that very episode: what an operator would run who knew the load and did not scale. The gap is
that between this fleet and the bound; where a scaler costs more than the fleet, the share closed is below 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from aladdin_env.compare import TARGET, Contender, Ladder, estimate
from experiments.beyond.panels import above, lanes_of_policies, panels
from experiments.beyond.script import Script
from experiments.beyond.settings import Setting, changing_loads
from experiments.beyond.tables import Row, best, by_policy, by_setting, grid, holding, marked, share, with_half
from experiments.beyond.units import Episodes, Fewest, Found, LeastCosts, Unit, together
from experiments.heuristics import heuristic_scalers
from experiments.paper.pictures import name_axes
from experiments.paper.shared import Asked, only, policy, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
PLACEMENTS = ("least_request", "aladdin", "aladdin_plus")
_FIXED = ", best fixed"
BOUND, REFERENCE = "bound", f"least_request{_FIXED}"
ALADDIN, PLUS = "aladdin+aladdin", "aladdin_plus+aladdin"
QUICK = ("short-day",)
_RIVALS = tuple(name for name in heuristic_scalers() if not name.startswith("aladdin"))
_MOST = 6
"""Fixed fleets are looked for up to so many times the workers at time 0."""


def measure(setting: Setting, asked: Asked) -> pd.DataFrame:
    """A row per placement and scaler, two of fixed fleets, and one of the bound."""
    scenario, seeds = setting.scenario, setting.seeds
    start = sum(kind.initial for kind in scenario.fleet.types)
    ladder = Ladder.of(scenario, most=_MOST * start)
    units: dict[str, Unit] = {}
    for placement in PLACEMENTS:
        for scaler in heuristic_scalers():
            label = f"{placement}+{scaler}"
            units[label] = Episodes(scenario, seeds, Contender(label, label))
        units[f"{placement}{_FIXED}"] = Fewest(scenario, seeds, policy(placement), ladder, start)
    found = together(units | {BOUND: LeastCosts(scenario, seeds)}, asked)
    return pd.DataFrame(_row(found, label) for label in found)


def _row(found: Found, label: str) -> dict[str, object]:
    """Attainment and cost, beside the bound's and the fixed fleet's."""
    costs = {who: np.array([one.get("cost", math.nan) for one in mine]) for who, mine in found.items()}
    mine, bound, fixed = costs[label], costs[BOUND], costs[REFERENCE]
    gap = np.where(fixed > bound, fixed - bound, math.nan)
    shares, tails_s = ([one.get(name, math.nan) for one in found[label]] for name in ("slo_attainment", "ttft_p99_s"))
    return (
        {"policy": label, "seeds": len(mine), "held": sum(one >= TARGET for one in shares)}
        | spread("attainment", estimate(shares, least=0.0, most=1.0))
        | spread("cost", estimate(mine.tolist(), least=0.0))
        | spread("over_bound", estimate((mine / bound).tolist(), least=0.0))
        | spread("over_aladdin", estimate((mine / costs[ALADDIN]).tolist(), least=0.0))
        | spread("over_plus", estimate((mine / costs[PLUS]).tolist(), least=0.0))
        | spread("gap_closed", estimate(((fixed - mine) / gap).tolist()))
        | spread("ttft_p99_s", estimate(tails_s, least=0.0))
    )


def told(table: pd.DataFrame) -> str:
    """Three tables: Aladdin beside the others, attainment and cost, the gap closed."""
    policies = table[table["policy"] != BOUND]
    return "\n\n".join(
        (
            _summary(table),
            by_policy("attainment, per cent / cost over the bound", policies, lambda row: marked(row, _counted(row))),
            by_policy("gap closed, per cent", policies, lambda row: marked(row, share(row, "gap_closed"))),
        )
    )


def _cell(row: Row) -> str:
    return f"{100.0 * float(row['attainment']):.1f} / {with_half(row, 'over_bound')}"


def _counted(row: Row) -> str:
    """A fixed fleet is looked for until it holds: where it does not in each episode, in how many."""
    return holding(row, _cell(row)) if str(row["policy"]).endswith(_FIXED) else _cell(row)


def _summary(table: pd.DataFrame) -> str:
    """A row per setting: attainment and gap closed of Aladdin, and the cheapest scaler of the others that holds."""
    headings = (
        "setting", f"`{ALADDIN}`", "closes, %", f"`{PLUS}`", "closes, %", "best other scaler", f"over `{ALADDIN}`",
        f"over `{PLUS}`",
    )  # fmt: skip
    return grid(headings, (_compared(name, rows) for name, rows in by_setting(table)))


def _compared(name: str, rows: pd.DataFrame) -> list[str]:
    cells = [name]
    for row in (only(rows, policy=who) for who in (ALADDIN, PLUS)):
        cells += [marked(row, _cell(row)), share(row, "gap_closed")]
    others = rows[(rows["attainment"] >= TARGET) & rows["policy"].isin([f"least_request+{one}" for one in _RIVALS])]
    other = best(others, "cost")
    if other is None:
        return [*cells, "none", "-", "-"]
    return [*cells, f"`{other['policy']}`", with_half(other, "over_aladdin"), with_half(other, "over_plus")]


def figures(table: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Figure]:
    """Costs over the bound."""
    text = "Cost over the clairvoyant bound; filled: 99 % attainment; dashed: the best fixed fleet, known in hindsight"
    figure, each = panels(text, table, titles)
    for axes, rows, title in each:
        policies = rows[rows["policy"] != BOUND].reset_index(drop=True)
        lanes_of_policies(axes, policies, "over_bound", policies["attainment"] >= TARGET)
        fixed = float(only(policies, policy=REFERENCE)["over_bound"])
        axes.axvline(fixed, color="black", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_xlim(left=1.0)
        name_axes(axes, above(title), "cost over the bound", "")
    return {"": figure}


SCRIPT = Script(NAME, changing_loads, QUICK, measure, figures, told)

if __name__ == "__main__":
    SCRIPT.main()
