"""Pictures of a comparison (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aladdin_env.compare import Comparison, Row, is_scaling
from aladdin_env.plot_labels import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ALADDIN, _HELD, _MISSED, _RATE = "#1b7f4d", "#2f5d8a", "#9a9a9a", "#d9d9d9"
_BOUND = "#7a5195"
_NEAR = 0.4  # share of the least cost from which a bound is drawn: the axis must reach it
_LINES = (_ALADDIN, "#c8553d", "#2f5d8a", "#b58900")
_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999)


def comparison_figure(found: Comparison, path: Path) -> None:
    """Write the picture: attainment against cost, and the fleet over time of some policies.

    The ending of ``path`` says the format.
    """
    figure = draw_comparison(found)
    figure.savefig(path, dpi=150)


def draw_comparison(found: Comparison) -> Figure:
    """The figure of :func:`comparison_figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    figure.suptitle(_title(found), fontsize=11)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    _over_time(right, found)
    _attainment_against_cost(left, found)
    return figure


def _title(found: Comparison) -> str:
    seeds = f"{len(found.seeds)} seeds" if len(found.seeds) > 1 else f"seed {found.seeds[0]}"
    return f"{found.scenario.name}: {found.rate_rps:.3g} requests/s, {seeds}"


# --- left ---


def _nines(share: float | NDArray[np.float64], top: float) -> Any:
    """Scale of the attainment axis: equal steps for 90 %, 99 %, 99.9 %; 0 % at 0; all beyond ``top`` at its height."""
    return -np.log10(np.maximum(1.0 - np.asarray(share), 10.0**-top))


def _attainment_against_cost(axes: Axes, found: Comparison) -> None:
    rows = [row for row in found.rows if not row.is_search or row.workers is not None]
    if not rows:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"no fleet holds {found.target:.4g}", ha="center", transform=axes.transAxes)
        return
    _name_the_missing(axes, [row.policy for row in found.rows if row not in rows])
    top = _top(rows, found.target)
    points = [(row["cost"].mean, float(_nines(row["slo_attainment"].mean, top))) for row in rows]
    for row, (x, y) in zip(rows, points, strict=True):
        _point(axes, row, x, y, top, found.target)
    axes.axhline(float(_nines(found.target, top)), color="#c8553d", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1.5)
    lowest = min([float(_nines(found.target, top)), *(y for _, y in points)])
    _attainment_ticks(axes, max(0.0, lowest - 0.12 * (top - lowest)), top)
    axes.margins(x=0.18)
    axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
    _bound(axes, found, min(x for x, _ in points))
    axes.set_xlabel("cost, on the workers each policy needs" if rows[0].is_search else "cost")
    axes.set_ylabel("requests within their SLO")
    axes.set_title("SLO attainment against cost", fontsize=10, loc="left")
    axes.grid(color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    labels = [_label(row) for row in rows]
    colours = [_colour(row, found.target) for row in rows]
    place_labels(axes, points, labels, colours)


def _bound(axes: Axes, found: Comparison, cheapest: float) -> None:
    """A line at the least cost of any policy that holds the target, where it is near enough to be seen."""
    bound = float(np.mean(found.bounds))
    if not _NEAR * cheapest <= bound <= axes.get_xlim()[1]:
        return
    left, right = axes.get_xlim()
    axes.set_xlim(left=max(0.0, min(left, bound - 0.06 * (right - bound))))
    axes.axvline(bound, color=_BOUND, linewidth=0.8, zorder=1.5)
    text = f"no policy holds {found.target * 100:.4g} % for less "
    at = axes.get_xaxis_transform()
    axes.text(bound, 0.98, text, rotation=90, ha="right", va="top", fontsize=8, color=_BOUND, transform=at)


def _name_the_missing(axes: Axes, names: Sequence[str]) -> None:
    """Policies of a search that no fleet satisfies have no place in the picture."""
    if names:
        text = "no fleet holds the target with " + ", ".join(names)
        axes.text(0.01, 0.01, fill(text, 80), transform=axes.transAxes, fontsize=8, color=_MISSED, va="bottom")


def _label(row: Row) -> str:
    if not row.is_search:
        return row.policy
    return f"{row.policy} ({row.gpus} GPUs)"


def _colour(row: Row, target: float) -> str:
    if row.is_reference:
        return _ALADDIN
    return _HELD if row["slo_attainment"].mean >= target else _MISSED


def _point(axes: Axes, row: Row, x: float, y: float, top: float, target: float) -> None:
    cost, share = row["cost"], row["slo_attainment"]
    colour = _colour(row, target)
    if row.seeds > 1:
        low, high = float(_nines(share.low, top)), float(_nines(share.high, top))
        axes.errorbar(
            x, y, xerr=[[x - cost.low], [cost.high - x]], yerr=[[y - low], [high - y]], color=colour, linewidth=0.9,
            alpha=0.6, zorder=5,
        )  # fmt: skip
    size = 70 if row.is_reference else 34
    axes.scatter([x], [y], s=size, color=colour, marker="D" if row.is_reference else "o", zorder=3)


def _top(rows: Sequence[Row], target: float) -> float:
    """Height of the best attainment that is not 100 %, with some room: where 100 % is drawn."""
    below = [row["slo_attainment"].mean for row in rows if row["slo_attainment"].mean < 1.0]
    best = max([*below, target if target < 1 else 0.99])
    return min(6.0, float(-np.log10(1.0 - best)) + 0.35)


def _attainment_ticks(axes: Axes, bottom: float, top: float) -> None:
    heights = [float(_nines(tick, top)) for tick in _TICKS]
    shown = [(h, t) for h, t in zip(heights, _TICKS, strict=True) if bottom <= h < top - 0.08]
    step = max(1, len(shown) // 9)
    kept = [*shown[::-1][::step], (top, 1.0)]
    axes.set_yticks([h for h, _ in kept], [f"{t * 100:.10g} %" for _, t in kept])
    axes.set_ylim(bottom, top + 0.08 * (top - bottom))


# --- right ---


def _over_time(axes: Axes, found: Comparison) -> None:
    fixed = not is_scaling(found.scenario) or found.rows[0].is_search
    chosen = [row for row in _shown(found) if row.policy in found.fleets]
    rate = axes.twinx()
    axes.set_zorder(rate.get_zorder() + 1)
    axes.patch.set_visible(False)
    if chosen:
        _rate_area(rate, found.fleets[chosen[0].policy], found)
    hours = _in_hours(found)
    for row, colour in zip(chosen, _colours(chosen), strict=True):
        frame = found.fleets[row.policy]
        values = frame["waiting"] + frame["running"] + frame["held"] if fixed else frame["gpus"]
        emphasis = 1.8 if row.is_reference else 1.2
        label = f"{row.policy}" + (f" ({row.gpus} GPUs)" if row.gpus is not None else "")
        style = "default" if fixed else "steps-post"
        time = frame["time_s"] / (3600 if hours else 60)
        axes.plot(time, values, color=colour, linewidth=emphasis, label=label, drawstyle=style)
    axes.set_ylim(bottom=0)
    axes.set_ylim(top=axes.get_ylim()[1] * 1.22)  # room for the legend
    axes.set_xlim(left=0)
    axes.locator_params(axis="y", integer=True)
    axes.set_xlabel("hours" if hours else "minutes")
    axes.set_ylabel("requests in the system" if fixed else "GPUs, those that start included")
    what = "Requests in the system" if fixed else "The fleet"
    axes.set_title(f"{what} over time, seed {found.seeds[0]}; grey: arrivals", fontsize=10, loc="left")
    if chosen:
        axes.legend(frameon=False, fontsize=8.5, loc="upper left", ncols=2)


def _in_hours(found: Comparison) -> bool:
    return max((float(frame["time_s"].iloc[-1]) for frame in found.fleets.values()), default=0.0) > 3 * 3600


def _colours(rows: Sequence[Row]) -> list[str]:
    others = iter(_LINES[1:])
    return [_ALADDIN if row.is_reference else next(others) for row in rows]


def _shown(found: Comparison) -> list[Row]:
    """Aladdin, and others in the order of the table that scale differently (on a fixed fleet: place differently)."""
    reference = [row for row in found.rows if row.is_reference][:1]
    shown = list(reference)
    for row in found.rows:
        if _scaler(row) not in {_scaler(kept) for kept in shown}:
            shown.append(row)
    return shown[: len(_LINES)]


def _scaler(row: Row) -> str:
    """What makes fleets differ: the scaler, or on a fixed fleet the placement."""
    placement, plus, scaler = row.policy.partition("+")
    return scaler if plus else placement


def _rate_area(axes: Axes, frame: pd.DataFrame, found: Comparison) -> None:
    time_s = frame["time_s"].to_numpy(dtype=np.float64)
    arrived = frame["arrived"].to_numpy(dtype=np.float64)
    end = int(np.searchsorted(arrived, arrived[-1])) + 1
    time_s, arrived = time_s[:end], arrived[:end]
    if len(time_s) < 3:
        axes.set_yticks([])
        return
    beats = max(1, len(time_s) // 150)
    time_s, arrived = time_s[::beats], arrived[::beats]
    rate = np.diff(arrived) / np.diff(time_s)
    unit = 3600 if _in_hours(found) else 60
    axes.fill_between(time_s / unit, np.append(rate, rate[-1]), step="post", color=_RATE, alpha=0.6, linewidth=0)
    axes.set_ylim(0, 1.6 * float(rate.max()) or 1)
    axes.set_ylabel("requests per second", color="#777777")
    axes.tick_params(colors="#777777", labelsize=9)
    axes.spines[["top", "left"]].set_visible(False)
