"""What each part of Aladdin is worth, and what to do where nothing fits: ``python -m experiments.paper.parts``.

Every variant differs from the shipped placement in one thing; ``literal`` is the reconstruction as it reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from aladdin_agents import aladdin, literal
from aladdin_env.compare import TARGET, Contender
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from experiments.paper.pictures import RED, lanes, name_axes, new_figure
from experiments.paper.shared import Asked, Finding, Need, at_rate, only, paper_setting, script, seeds_text, variants

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
_DEFAULT = "as shipped"
PARTS: dict[str, Mapping[str, Any]] = {
    _DEFAULT: {},
    "promise over 20 tokens": {"ahead": 20.0},
    "promise over 200 tokens": {"ahead": 200.0},
    "no promise to new ones": {"fresh_ahead": 0.0},
    "not re-balanced": {"rebalance": 0.0},
    "theta stays": {"target": 0.0},
    "4 groups": {"groups": 4},
    "nothing fits: stretch, break": {"hold_share": 0.0},
    "nothing fits: hold, break": {"stretch": 0.0},
    "nothing fits: break": {"stretch": 0.0, "hold_share": 0.0},
}
"""Settings that differ from the shipped ones; what a placement does where nothing fits is named in its order."""
_LITERAL = "literal"


def find(asked: Asked) -> Finding:
    """GPUs and attainment of every variant in two settings."""
    found = []
    settings = _settings(asked)
    for number, (label, scenario) in enumerate(settings.items()):
        part = asked.part(number / len(settings), (number + 1) / len(settings))
        needs = {
            (name, "aladdin", seed): Need(scenario, one, seed)
            for (name, one), seed in product(_entered().items(), asked.seeds)
        }
        found.append(variants(needs, _DEFAULT, part).assign(setting=label))
    table = pd.concat(found, ignore_index=True)
    paper = "best fit under latency constraints saves GPUs; what happens where nothing fits is not told"
    return Finding(table, {"": _picture(table, list(settings), seeds_text(asked))}, paper, _told(table))


def _settings(asked: Asked) -> dict[str, Scenario]:
    """The paper's prefill-first workers, and chunked prefill."""
    seconds, share = (30.0, 0.2) if asked.quick else (300.0, 1.0)
    chunked = at_rate(load_scenario("azure-conv"), 200.0 * share, seconds)
    return {"Llama-2-13B, A100": paper_setting(50.0 * share, seconds), "Llama-3.1-8B, H100, chunked": chunked}


def _entered() -> dict[str, Contender]:
    entered = {
        name: Contender(name, partial(aladdin.make, settings=aladdin.Settings(**changes)))
        for name, changes in PARTS.items()
    }
    return entered | {_LITERAL: Contender(_LITERAL, literal.make)}


def _told(table: pd.DataFrame) -> str:
    parts = []
    for setting in table["setting"].unique():
        rows = table[table["setting"] == setting]
        worst = rows.sort_values("gpus", na_position="last", kind="stable").iloc[-1]
        needed = "no fleet holds 99 %" if pd.isna(worst["gpus"]) else f"{worst['gpus']:.1f}"
        shipped = only(rows, variant=_DEFAULT)["gpus"]
        parts.append(f"{setting}: {shipped:.1f} GPUs as shipped, {worst['variant']}: {needed}")
    return "; ".join(parts)


def _picture(table: pd.DataFrame, settings: Sequence[str], where: str) -> Figure:
    figure = new_figure(f"What each part is worth, {where}", columns=2, rows=len(settings), width=6.6, height=4.0)
    for (needed, attained), setting in zip(figure_rows(figure), settings, strict=True):
        rows = table[table["setting"] == setting].reset_index(drop=True)
        lanes(needed, rows, "gpus", 1.0)
        lanes(attained, rows, "attainment", 100.0)
        attained.axvline(100.0 * TARGET, color=RED, linewidth=0.9, linestyle=(0, (4, 3)))
        attained.tick_params(labelleft=False)
        name_axes(needed, f"{setting}: GPUs for 99 %", "GPUs (none: no fleet holds it)", "")
        name_axes(attained, f"on {rows['on_workers'].iloc[0]:.0f} workers (dashed: 99 %)", "SLO attainment (%)", "")
    return figure


def figure_rows(figure: Figure) -> list[tuple[Any, Any]]:
    """The panels of a figure of two columns, row by row."""
    panels = figure.axes
    return list(zip(panels[::2], panels[1::2], strict=True))


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
