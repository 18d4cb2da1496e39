"""Learning curves: ``python -m experiments.training.curves RUN [RUN ...] [--out FOLDER]``.

For each run of ``aladdin train``, NAME.csv (its validations) and NAME.png: what was reached on the validation split
against the decisions learned from (of a search: the episodes simulated), beside the expert.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from aladdin_agents.learned.checkpoint import load
from aladdin_agents.learned.train.keeper import BEST, HISTORY

RESULTS = Path(__file__).parent / "results"
_TITLES = {"score": "score", "attainment": "SLO attainment, mean of the cases", "cost_ratio": "cost over the expert's"}


def draw(history: pd.DataFrame, expert: dict[str, float], title: str, path: Path) -> None:
    """One panel for each measure that moves; the best validation is marked, the expert is a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [name for name in _TITLES if name == "score" or history[name].nunique() > 1]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.2 * len(shown), 3.2), squeeze=False, layout="constrained")
    best = history["score"].idxmax()
    for name, ax in zip(shown, axes[0], strict=True):
        _panel(ax, history, name, best, expert[name])
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(ax: Any, history: pd.DataFrame, name: str, best: Any, expert: float) -> None:
    steps = history["steps"] / 1e3
    ax.plot(steps, history[name], marker=".", label="learned")
    ax.plot(steps[best], history[name][best], "o", color="C2", label="kept")
    ax.axhline(expert, color="C3", linestyle="--", label="expert")
    ax.set_xlabel("decisions or episodes, thousands")
    ax.set_title(_TITLES[name], fontsize=9)
    ax.grid(alpha=0.3)


def main() -> None:
    """Read the runs, write tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for run in given.runs:
        shutil.copyfile(run / HISTORY, given.out / f"{run.name}.csv")
        card = load(run / BEST)[1]
        expert = {name: card.results[f"expert_{name}"] for name in _TITLES}
        path = given.out / f"{run.name}.png"
        draw(pd.read_csv(run / HISTORY), expert, f"{run.name}: {card.command}", path)
        print(path)


if __name__ == "__main__":
    main()
