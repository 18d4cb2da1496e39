"""What predicting outputs and re-balancing are worth: ``python -m experiments.paper.prediction_ablation``.

The paper's predictor (the mean of the prompt's bucket), the true length, and the true length with an error; the first
and the worst also without re-balancing. In the paper's setting, where the pace limits a worker, and under twice the
time per token, where KV memory does and the outputs to come matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from aladdin_agents import aladdin
from aladdin_env.compare import TARGET, Contender
from aladdin_env.scenario import Predictor, Scenario
from experiments.paper.pictures import RED, lanes, name_axes, new_figure
from experiments.paper.shared import (
    Asked,
    Finding,
    Need,
    memory_bound,
    paper_setting,
    script,
    seeds_text,
    stacked,
    variants,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
RATE_RPS, HORIZON_S = 50.0, 200.0
SETTINGS = {"pace binds": paper_setting, "memory binds": memory_bound}
_DEFAULT, _WORST = "bucket mean", "true length, noise 1"
_PREDICTORS = {
    _DEFAULT: Predictor(),
    "true length": Predictor("oracle"),
    "true length, noise 0.25": Predictor("noisy_oracle", noise=0.25),
    "true length, noise 0.5": Predictor("noisy_oracle", noise=0.5),
    _WORST: Predictor("noisy_oracle", noise=1.0),
}


def find(asked: Asked) -> Finding:
    """GPUs, attainment and preemptions of every predictor in both settings."""
    rate_rps, horizon_s = (10.0, 30.0) if asked.quick else (RATE_RPS, HORIZON_S)
    tables = {}
    for i, (name, setting) in enumerate(SETTINGS.items()):
        cases = product(_tried(setting(rate_rps, horizon_s)), asked.seeds)
        needs = {
            (label, "aladdin", seed): Need(scenario, contender, seed) for (label, scenario, contender), seed in cases
        }
        tables[name] = variants(needs, _DEFAULT, asked.part(i / len(SETTINGS), (i + 1) / len(SETTINGS)))
    table = stacked(tables, "setting")
    paper = "means of prompt buckets suffice: errors partly cancel in a batch, and re-balancing steers by the rest"
    return Finding(table, {"": _picture(table, seeds_text(asked))}, paper, _told(table))


def _tried(scenario: Scenario) -> Iterator[tuple[str, Scenario, Contender]]:
    """Label, scenario, policy: every predictor, the first and the worst also without re-balancing."""
    for name, predictor in _PREDICTORS.items():
        for rebalance in (1.0, 0.0) if name in (_DEFAULT, _WORST) else (1.0,):
            label = name if rebalance else f"{name}, not re-balanced"
            make = partial(aladdin.make, settings=aladdin.Settings(rebalance=rebalance))
            yield label, replace(scenario, predictor=predictor), Contender(label, make)


def _told(table: pd.DataFrame) -> str:
    parts = []
    for name, rows in table.groupby("setting", sort=False):
        told = zip(rows["variant"], rows["gpus"], rows["preemptions"], strict=True)
        parts.append(f"{name}: " + ", ".join(f"{label} {gpus:.1f} ({lost:.0f})" for label, gpus, lost in told))
    return "GPUs (preemptions) " + "; ".join(parts)


def _picture(table: pd.DataFrame, seeds: str) -> Figure:
    title = f"Prediction of the output length: Llama-2-13B on A100, {RATE_RPS:g} requests/s; {seeds}"
    figure = new_figure(title, 3, len(SETTINGS), width=5.2, height=3.2)
    for row, (name, setting) in enumerate(SETTINGS.items()):
        needed, attained, preempted = figure.axes[3 * row : 3 * row + 3]
        rows = table[table["setting"] == name]
        for axes, column, scale in (
            (needed, "gpus", 1.0),
            (attained, "attainment", 100.0),
            (preempted, "preemptions", 1.0),
        ):
            lanes(axes, rows, column, scale)
            axes.tick_params(labelleft=axes is needed)
        preempted.set_xlim(0.0, max(1.0, preempted.get_xlim()[1]))  # whole numbers, be they all 0
        attained.axvline(100.0 * TARGET, color=RED, linewidth=0.9, linestyle=(0, (4, 3)))
        workers = f"on {rows['on_workers'].iloc[0]:.0f} workers"
        objective = f"{1e3 * setting(1.0, 1.0).slo.atgt_s:g} ms per token: {name}"
        name_axes(needed, objective, "GPUs for 99 % attainment", "")
        name_axes(attained, f"{workers} (dashed: 99 %)", "SLO attainment (%)", "")
        name_axes(preempted, workers, "preemptions in a run", "")
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
