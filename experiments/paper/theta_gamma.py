"""How full a worker may be in time and in memory, theta and gamma: ``python -m experiments.paper.theta_gamma``.

Each is moved where it counts: theta under the paper's setting's objective, where the pace limits a worker, gamma under
twice the time per token, where KV memory does. Theta stays where it is put (it would tune itself otherwise).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from aladdin_agents import aladdin
from aladdin_env.compare import TARGET, Contender
from experiments.paper.pictures import RED, SERIES, band, legend, name_axes, new_figure
from experiments.paper.shared import (
    Asked,
    Finding,
    Need,
    memory_bound,
    only,
    paper_setting,
    script,
    seeds_text,
    stacked,
    variants,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
RATE_RPS, HORIZON_S = 50.0, 200.0
SETTINGS = {"theta": paper_setting, "gamma": memory_bound}


def find(asked: Asked) -> Finding:
    """GPUs and attainment, one of the two parameters moved at a time."""
    theta, gamma = (_sweep(name, asked.part(i / 2, (i + 1) / 2)) for i, name in enumerate(SETTINGS))
    table = stacked({"theta": theta, "gamma": gamma}, "parameter")
    paper = "theta and gamma say how full a worker may be in time and in memory (no sweep known to us)"
    return Finding(table, {"": _picture(table, seeds_text(asked))}, paper, _told(table))


def _sweep(name: str, asked: Asked) -> pd.DataFrame:
    """The variants of one parameter, by its value."""
    shares = SHARES[1::3] if asked.quick else SHARES
    rate_rps, horizon_s = (10.0, 30.0) if asked.quick else (RATE_RPS, HORIZON_S)
    scenario = SETTINGS[name](rate_rps, horizon_s)
    needs = {
        (share, name, seed): Need(scenario, _with(name, share), seed) for share, seed in product(shares, asked.seeds)
    }
    default = min(shares, key=lambda share: abs(share - getattr(aladdin.Settings(), name)))
    return variants(needs, default, asked).rename(columns={"variant": "share"})


def _with(name: str, share: float) -> Contender:
    """Aladdin with one of its parameters moved."""
    theta, gamma = (share if name == one else getattr(aladdin.Settings(), one) for one in SETTINGS)
    settings = aladdin.Settings(theta=theta, gamma=gamma, target=0.0)
    return Contender(f"{name} {share:g}", partial(aladdin.make, settings=settings))


def _told(table: pd.DataFrame) -> str:
    parts = []
    for name in SETTINGS:
        rows = table[table["parameter"] == name]
        ends = [(share, only(rows, share=share)["gpus"]) for share in (rows["share"].min(), 0.9, rows["share"].max())]
        parts.append(f"{name} {', '.join(f'{share:g}: {amount:.1f}' for share, amount in ends)}")
    return "GPUs needed at " + "; ".join(parts)


def _picture(table: pd.DataFrame, seeds: str) -> Figure:
    figure = new_figure(f"How full a worker may be: Llama-2-13B on A100, {RATE_RPS:g} requests/s; {seeds}", columns=2)
    needed, attained = figure.axes
    for (name, setting), colour in zip(SETTINGS.items(), SERIES, strict=False):
        rows = table[table["parameter"] == name]
        objective = f"{name}, objective {1e3 * setting(1.0, 1.0).slo.atgt_s:g} ms per token"
        band(needed, rows, "share", "gpus", colour, objective)
        label = f"{objective}, {rows['on_workers'].iloc[0]:.0f} workers"
        band(attained, rows, "share", "attainment", colour, label, scale=100.0)
    attained.axhline(100.0 * TARGET, color=RED, linewidth=0.9, linestyle=(0, (4, 3)), label="99 %")
    name_axes(needed, "GPUs for 99 % attainment", "theta or gamma (the other at its default)", "GPUs")
    name_axes(attained, "On the workers that the default needs", "theta or gamma", "SLO attainment (%)")
    needed.set_ylim(bottom=0.0)
    legend(needed)
    legend(attained)
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
