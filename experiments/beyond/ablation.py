"""What each part of ``aladdin_plus`` is worth on fixed fleets: ``python -m experiments.beyond.ablation``.

The fewest workers that hold 99 %, as in :mod:`experiments.beyond.placements`, with shedding and homes for prefixes
switched on one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from aladdin_agents import aladdin
from aladdin_env.compare import Contender, estimate
from aladdin_env.policy import Kernel
from aladdin_env.scenario import Scenario
from experiments.beyond.panels import above, panels
from experiments.beyond.placements import search_space
from experiments.beyond.script import Script
from experiments.beyond.settings import Setting, fixed_fleets
from experiments.beyond.tables import by_policy, holding, with_half
from experiments.beyond.units import Fewest, Unit, together
from experiments.paper.pictures import lanes, name_axes
from experiments.paper.shared import Asked, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
SHOWN = ("paper", "chat", "agents", "mooncake", "code")
_AFFINITY, _SHED = 0.3, 0.5


@dataclass(frozen=True)
class _Variant:
    """Makes Aladdin with these parts."""

    affinity: float
    shed: float

    def __call__(self, scenario: Scenario) -> Kernel:
        return aladdin.make(scenario, aladdin.Settings(affinity=self.affinity, shed=self.shed))


VARIANTS = {
    "aladdin": _Variant(0.0, 0.0),
    "homes for prefixes": _Variant(_AFFINITY, 0.0),
    "shedding": _Variant(0.0, _SHED),
    "both: aladdin_plus": _Variant(_AFFINITY, _SHED),
}


def some_fleets(traces: Path | None = None) -> dict[str, Setting]:
    """Settings with and without prefixes, with even and uneven prompts."""
    known = fixed_fleets(traces)
    return {name: known[name] for name in SHOWN}


def measure(setting: Setting, asked: Asked) -> pd.DataFrame:
    """A row per variant."""
    start, ladder = search_space(setting.scenario)
    units: dict[str, Unit] = {
        name: Fewest(setting.scenario, setting.seeds, Contender(name, make), ladder, start)
        for name, make in VARIANTS.items()
    }
    rows = []
    for name, found in together(units, asked).items():
        prices = [one.get("price_per_h", float("nan")) for one in found]
        row = {"policy": name, "seeds": len(found), "held": sum(math.isfinite(price) for price in prices)}
        rows.append(row | spread("price_per_h", estimate(prices, least=0.0)))
    return pd.DataFrame(rows)


def told(table: pd.DataFrame) -> str:
    """Price per hour."""
    return by_policy("price per hour", table, lambda row: holding(row, with_half(row, "price_per_h", digits=1)))


def figures(table: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Figure]:
    """A panel per setting."""
    text = "Parts of aladdin_plus: price of the fewest workers with 99 % attainment"
    figure, each = panels(text, table, titles)
    for axes, rows, title in each:
        lanes(axes, rows.rename(columns={"policy": "variant"}), "price_per_h", 1.0)
        name_axes(axes, above(title), "price per hour", "")
    return {"": figure}


SCRIPT = Script(NAME, some_fleets, ("chat",), measure, figures, told)

if __name__ == "__main__":
    SCRIPT.main()
