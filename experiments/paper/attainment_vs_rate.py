"""SLO attainment and pace against the rate on a fixed fleet: ``python -m experiments.paper.attainment_vs_rate``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from aladdin_env.compare import TARGET
from experiments.paper.pictures import COLOURS, POLICIES, RED, band, legend, name_axes, new_figure
from experiments.paper.shared import (
    Asked,
    Finding,
    Need,
    measured,
    measures_over_seeds,
    paper_setting,
    policy,
    script,
    seeds_text,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
WORKERS = 8
RATES_RPS = (15.0, 17.5, 20.0, 22.5, 25.0, 27.5, 30.0, 32.5, 35.0)
HORIZON_S = 600.0
_SHOWN = {"slo_attainment": "attainment", "ttft_p99_s": "ttft_p99_s", "atgt_p99_s": "atgt_p99_s"}


def find(asked: Asked) -> Finding:
    """The four policies at every rate, on the same episodes."""
    rates, horizon_s = (RATES_RPS[::4], 60.0) if asked.quick else (RATES_RPS, HORIZON_S)
    needs = {
        (rate, name, seed): Need(paper_setting(rate, horizon_s), policy(name), seed)
        for rate, seed, name in product(rates, asked.seeds, POLICIES)
    }
    table = measures_over_seeds(measured(needs, (WORKERS,), asked), "rate_rps", _SHOWN)
    held = table[table["attainment"] >= TARGET].groupby("policy")["rate_rps"].max()
    told = [f"{label} {held[name]:g}/s" if name in held else f"{label} none" for name, label in POLICIES.items()]
    paper = "Aladdin holds the SLO at higher rates than default vLLM, JSQ and power of two (no figures known to us)"
    ours = f"highest rate tried with 99 % on {WORKERS} workers: " + ", ".join(told)
    return Finding(table, {"": _picture(table, seeds_text(asked))}, paper, ours)


def _picture(table: pd.DataFrame, seeds: str) -> Figure:
    title = f"{WORKERS} workers, Llama-2-13B on A100, ShareGPT lengths, Poisson arrivals; {seeds}"
    figure = new_figure(title, columns=2)
    attainment, pace = figure.axes
    for name, label in POLICIES.items():
        rows = table[table["policy"] == name]
        band(attainment, rows, "rate_rps", "attainment", COLOURS[name], label, scale=100.0)
        band(pace, rows, "rate_rps", "atgt_p99_s", COLOURS[name], label, scale=1e3)
    objective_ms = 1e3 * paper_setting(1.0).slo.atgt_s
    attainment.axhline(100.0 * TARGET, color=RED, linewidth=0.9, linestyle=(0, (4, 3)), label="99 %")
    pace.axhline(objective_ms, color=RED, linewidth=0.9, linestyle=(0, (4, 3)), label="objective")
    name_axes(attainment, "Requests within their SLO", "rate (requests/s)", "SLO attainment (%)")
    name_axes(pace, "Pace of the slowest", "rate (requests/s)", "99th percentile of ATGT (ms per token)")
    legend(attainment, loc="lower left")
    legend(pace, loc="upper left")
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
