"""Pictures with a panel per setting and a lane per policy."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from experiments.paper.pictures import RED, SERIES, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panels = Iterator[tuple["Axes", pd.DataFrame, str]]
_COLUMNS = 3
_LANE = 0.22
"""Inches of height."""
_TITLE = 56
"""Characters that fit above a panel."""


def panels(text: str, table: pd.DataFrame, titles: Mapping[str, str]) -> tuple[Figure, Panels]:
    """A figure, and for each setting its panel, rows and title."""
    names = list(dict.fromkeys(table["setting"]))
    columns = min(_COLUMNS, len(names))
    lanes = table.groupby("setting").size().max()
    figure = new_figure(text, columns, math.ceil(len(names) / columns), width=6.6, height=1.2 + _LANE * lanes)
    for axes in figure.axes[len(names) :]:
        axes.remove()
    rows = (table[table["setting"] == name] for name in names)
    return figure, zip(figure.axes, rows, (f"{name}. {titles[name]}" for name in names), strict=True)


def above(text: str) -> str:
    """A title on as many lines as it needs above a panel."""
    return textwrap.fill(text, _TITLE)


def lanes_of_policies(axes: Axes, rows: pd.DataFrame, column: str, holds: pd.Series[bool]) -> None:
    """The mean of a column and its interval, the first policy on top; hollow where it does not hold."""
    for i, row in enumerate(rows.to_dict("records")):
        at, colour = len(rows) - 1 - i, SERIES[0] if str(row["policy"]).startswith("aladdin") else SERIES[1]
        mean, low, high = (float(row[name]) for name in (column, f"{column}_low", f"{column}_high"))
        if math.isnan(mean):
            axes.annotate("none", (0.02, at), xycoords=("axes fraction", "data"), fontsize=8, color=RED, va="center")
            continue
        face = colour if holds.iloc[i] else "white"
        axes.errorbar(
            mean,
            at,
            xerr=[[mean - low], [high - mean]],
            fmt="o",
            color=colour,
            markerfacecolor=face,
            capsize=3,
            markersize=5,
        )
    axes.set_yticks(range(len(rows))[::-1], rows["policy"])
    axes.set_ylim(-0.6, len(rows) - 0.4)
