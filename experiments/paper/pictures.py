"""Pictures in the house's style, and what policies are called and coloured in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POLICIES = {
    "round_robin": "round robin (vLLM's default)",
    "least_request": "join the shortest queue",
    "power_of_two": "power of two choices",
    "aladdin": "Aladdin",
}
"""The paper's baselines and Aladdin, with their names in pictures."""
COLOURS = {"round_robin": "#9a9a9a", "least_request": "#2f5d8a", "power_of_two": "#b58900", "aladdin": "#1b7f4d"}
SERIES = ("#1b7f4d", "#2f5d8a", "#b58900", "#c8553d", "#6a4c93", "#9a9a9a")
"""Colours of anything but policies."""
RED = "#c8553d"


def new_figure(title: str, columns: int = 1, rows: int = 1, width: float = 6.0, height: float = 4.4) -> Figure:
    """An empty figure with panels in the house's style; ``width`` and ``height`` are those of a panel, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    for axes in figure.subplots(rows, columns, squeeze=False).ravel():
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        axes.grid(color="#eeeeee", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure


def name_axes(axes: Axes, title: str, x: str, y: str) -> None:
    """Title and axes of a panel."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def band(axes: Axes, rows: pd.DataFrame, x: str, y: str, colour: str, label: str, *, scale: float = 1.0) -> None:
    """A line of means with their intervals: the columns ``y``, ``y_low``, ``y_high`` over ``x``, times ``scale``."""
    at, mean, low, high = (rows[name].to_numpy(dtype=float) for name in (x, y, f"{y}_low", f"{y}_high"))
    axes.plot(at, scale * mean, marker="o", markersize=4, linewidth=1.4, color=colour, label=label)
    axes.fill_between(at, scale * low, scale * high, color=colour, alpha=0.15, linewidth=0)


def lanes(axes: Axes, rows: pd.DataFrame, column: str, scale: float) -> None:
    """A lane per variant, the first on top: the mean of a column and its interval, times ``scale``."""
    at = range(len(rows))[::-1]
    mean, low, high = (scale * rows[name] for name in (column, f"{column}_low", f"{column}_high"))
    axes.errorbar(mean, at, xerr=[mean - low, high - mean], fmt="o", color=SERIES[0], capsize=3, markersize=5)
    axes.set_yticks(at, rows["variant"])
    axes.set_ylim(-0.6, len(rows) - 0.4)


def same_height(panels: Sequence[Axes]) -> None:
    """One scale for several panels, so that they compare."""
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def legend(axes: Axes, **more: object) -> None:
    """The legend in the house's style."""
    axes.legend(**({"fontsize": 8.5, "frameon": False} | more))
