"""Every placement on the fewest workers that hold 99 %: ``python -m experiments.beyond.placements``.

A fixed fleet, many settings, each rival that is registered. The gap is that between round robin, vLLM's default, and
the clairvoyant bound, in price per hour, episode by episode. First tokens and attainment are compared on one and the
same fleet, the largest that the placement ``aladdin`` needs in any episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from aladdin_agents.sizing import plan
from aladdin_env.compare import TARGET, Ladder, estimate
from aladdin_env.scenario import Scenario
from experiments.beyond.panels import above, lanes_of_policies, panels
from experiments.beyond.script import Script
from experiments.beyond.settings import Setting, fixed_fleets
from experiments.beyond.tables import Row, best, by_policy, by_setting, grid, holding, marked, share, with_half
from experiments.beyond.units import Episodes, Fewest, Found, LeastFleets, Measures, Unit, together
from experiments.heuristics import heuristics
from experiments.paper.pictures import name_axes
from experiments.paper.shared import Asked, only, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
BOUND, ALADDIN, PLUS, DEFAULT = "bound", "aladdin", "aladdin_plus", "round_robin"
QUICK = ("chat", "types")
_START, _MOST, _LEAST_MOST = 0.9, 4, 48
"""Searches begin at this share of the computed size, and give up at so many times that, or at so many workers."""


def measure(setting: Setting, asked: Asked) -> pd.DataFrame:
    """A row per placement, and one of the bound."""
    scenario, seeds = setting.scenario, setting.seeds
    start, ladder = search_space(scenario)
    entered = heuristics(scenario.with_workers(ladder.counts(start)))
    units: dict[str, Unit] = {one.label: Fewest(scenario, seeds, one, ladder, start) for one in entered}
    found = together(units | {BOUND: LeastFleets(scenario, seeds)}, asked.part(0.0, 0.85))
    counts = ladder.counts(_same_for_all(found, ladder))
    runs = together({one.label: Episodes(scenario, seeds, one, counts) for one in entered}, asked.part(0.85, 1.0))
    objectives_s = scenario.slo.targets()[: max(1, len(scenario.slo.classes)), 0]
    fleet = {"fleet": "+".join(map(str, counts)), "ttft_slo_s": float(objectives_s.min())}
    rows = [needed(found, label) | _on_fleet(mine) | fleet for label, mine in runs.items()]
    return pd.DataFrame([*rows, needed(found, BOUND)])


def search_space(scenario: Scenario) -> tuple[int, Ladder]:
    """Where searches begin, and which fleets they try."""
    shares = {kind.name: kind.initial for kind in scenario.fleet.types}
    carried = sum(shares[one.type] / one.workers for one in plan(scenario) if one.workers)
    start = max(1, round(_START * sum(shares.values()) / carried)) if carried else 1
    return start, Ladder.of(scenario, most=max(_LEAST_MOST, _MOST * start))


def _same_for_all(found: Found, ladder: Ladder) -> int:
    """The most workers that Aladdin needs in any episode; those of the others where it holds in none."""
    for labels in ([ALADDIN], list(found)):
        known = [one["workers"] for label in labels for one in found[label] if "workers" in one]
        if known:
            return round(max(known))
    return ladder.most


def needed(found: Found, label: str) -> dict[str, object]:
    """The fewest workers of a placement: GPUs and price, beside the bound's, Aladdin's and round robin's."""
    prices = {who: np.array([one.get("price_per_h", math.nan) for one in mine]) for who, mine in found.items()}
    mine, bound, default = prices[label], prices[BOUND], prices[DEFAULT]
    gap = np.where(default > bound, default - bound, math.nan)
    return (
        {"policy": label, "seeds": len(mine), "held": int(np.isfinite(mine).sum())}
        | spread("gpus", estimate([one.get("gpus", math.nan) for one in found[label]], least=0.0))
        | spread("price_per_h", estimate(mine.tolist(), least=0.0))
        | spread("over_bound", estimate((mine / bound).tolist(), least=0.0))
        | spread("over_aladdin", estimate((mine / prices[ALADDIN]).tolist(), least=0.0))
        | spread("over_plus", estimate((mine / prices[PLUS]).tolist(), least=0.0))
        | spread("gap_closed", estimate(((default - mine) / gap).tolist()))
    )


def _on_fleet(mine: Sequence[Measures]) -> dict[str, float]:
    """Attainment and first tokens on the fleet that all get."""
    found = spread("attainment", estimate([one["slo_attainment"] for one in mine], least=0.0, most=1.0))
    for name in ("ttft_p50_s", "ttft_p99_s", "prefix_hit_ratio"):
        found |= spread(name, estimate([one[name] for one in mine], least=0.0))
    return found


def told(table: pd.DataFrame) -> str:
    """Three tables: Aladdin beside the others, the gap closed, first tokens."""
    policies = table[table["policy"] != BOUND]
    gap = "gap closed, per cent"
    on_fleet = "attainment, per cent / TTFT p50 / p99, ms"
    return "\n\n".join(
        (
            _summary(table),
            by_policy(gap, policies, lambda row: holding(row, share(row, "gap_closed"))),
            by_policy(on_fleet, policies, lambda row: marked(row, _tails(row))),
        )
    )


def _tails(row: Row) -> str:
    p50, p99 = (1e3 * float(row[name]) for name in ("ttft_p50_s", "ttft_p99_s"))
    return f"{100.0 * float(row['attainment']):.1f} / {p50:.0f} / {p99:.0f}"


def _summary(table: pd.DataFrame) -> str:
    """A row per setting: price per hour of the bound, round robin, Aladdin and the best of the others."""
    headings = (
        "setting", "bound", "round robin", "`aladdin`", "closes, %", "`aladdin_plus`", "closes, %", "best other",
        "over `aladdin`", "over `aladdin_plus`",
    )  # fmt: skip
    return grid(headings, (_compared(name, rows) for name, rows in by_setting(table)))


def _compared(name: str, rows: pd.DataFrame) -> list[str]:
    bound, default, aladdin, plus = (only(rows, policy=who) for who in (BOUND, DEFAULT, ALADDIN, PLUS))
    cells = [name, *(_price(row) for row in (bound, default))]
    for row in (aladdin, plus):
        cells += [_price(row), share(row, "gap_closed")]
    everywhere = rows[(rows["held"] == rows["seeds"]) & (rows["policy"] != BOUND)]
    other = best(everywhere[~everywhere["policy"].str.startswith(ALADDIN)], "price_per_h")
    if other is None:
        return [*cells, "none", "-", "-"]
    over = (holding(row, with_half(other, column)) for row, column in ((aladdin, "over_aladdin"), (plus, "over_plus")))
    return [*cells, f"`{other['policy']}`", *over]


def _price(row: Row) -> str:
    """Of the episodes in which a fleet holds, and in how many one does where not in all."""
    return holding(row, with_half(row, "price_per_h", digits=1))


def figures(table: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Figure]:
    """Prices over the bound, and first tokens on one fleet."""
    return {"": _prices(table, titles), "-ttft": _first_tokens(table, titles)}


def _prices(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    text = "Fewest workers with 99 % attainment: price over the clairvoyant bound; dashed: round robin"
    figure, each = panels(text, table, titles)
    for axes, rows, title in each:
        policies = rows[rows["policy"] != BOUND].reset_index(drop=True)
        lanes_of_policies(axes, policies, "over_bound", policies["held"] == policies["seeds"])
        default = float(only(policies, policy=DEFAULT)["over_bound"])
        axes.axvline(default, color="black", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_xlim(left=1.0)
        name_axes(axes, above(title), "price over the bound", "")
    return figure


def _first_tokens(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    text = "99th percentile of TTFT on the fleet that Aladdin needs; filled: 99 % attainment; dashed: the objective"
    figure, each = panels(text, table, titles)
    for axes, rows, title in each:
        policies = rows[rows["policy"] != BOUND].reset_index(drop=True)
        lanes_of_policies(axes, policies, "ttft_p99_s", policies["attainment"] >= TARGET)
        axes.axvline(float(policies["ttft_slo_s"].iloc[0]), color="black", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        name_axes(axes, above(f"{title}: {policies['fleet'].iloc[0]} workers"), "TTFT p99 (s)", "")
    return figure


SCRIPT = Script(NAME, fixed_fleets, QUICK, measure, figures, told)

if __name__ == "__main__":
    SCRIPT.main()
