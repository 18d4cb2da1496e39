"""The picture of a calibration: laws over measured steps, KV memory, residuals (matplotlib, without a display).

Its 95 % prediction intervals are relative and out of sample: a step that the laws predict to take t is between
t / (1 + q) and t / (1 - q), where q is the 95th percentile of the held-out errors of its kind. (The paper's Figures 6
to 8 show the same three relations with intervals of a linear regression.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aladdin_calibration.forms import predict
from aladdin_calibration.measurement import Measurement
from aladdin_calibration.repeats import pace
from aladdin_calibration.steps import KINDS, Array, column, of_kind
from aladdin_env.latency import LatencyProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = dict(zip(KINDS, ("#2f5d8a", "#1b7f4d", "#c8553d"), strict=True))
_BATCHES = ("#2f5d8a", "#1b7f4d", "#b58900", "#c8553d", "#6a4c93")
_GREY = "#9a9a9a"
_MS, _GIB = 1e3, 2**30
_POINTS = 200


def draw_report(measurement: Measurement, profile: LatencyProfile) -> Figure:
    """The figure: prefill, decode and KV memory above; mixed steps and residuals below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8.6), layout="constrained")
    FigureCanvasAgg(figure)
    p = profile.provenance
    figure.suptitle(
        f"{profile.name}: {p.model} on {p.gpu}, {p.engine} {p.engine_version}, clock: {measurement.facts.clock}",
        fontsize=11,
    )
    panels = figure.subplots(2, 3).ravel()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        axes.grid(color="#eeeeee", linewidth=0.8)
        axes.set_axisbelow(True)
    steps = measurement.steps
    predicted = predict(steps, profile.prefill, profile.decode, profile.mixed_overlap_s)
    _prefill(panels[0], measurement, profile)
    _decode(panels[1], measurement, profile)
    _memory(panels[2], measurement, profile)
    _mixed(panels[3], measurement, profile, predicted)
    _residuals(panels[4], measurement, profile, predicted)
    _over_time(panels[5], measurement, predicted)
    return figure


def _title(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)


def _logarithmic(axes: Axes, *sides: str) -> None:
    """Logarithmic axes whose ticks are plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for side in sides:
        axes.set(**{f"{side}scale": "log"})
        axis = axes.xaxis if side == "x" else axes.yaxis
        low, high = axis.get_data_interval()
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000.0 * low else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())


def _interval(axes: Axes, x: Array, seconds: Array, profile: LatencyProfile, kind: str, colour: str) -> None:
    q = min(profile.provenance.errors.get(f"{kind}_p95", 0.0), 0.95)
    low, high = seconds / (1.0 + q) * _MS, seconds / (1.0 - q) * _MS
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _prefill(axes: Axes, measurement: Measurement, profile: LatencyProfile) -> None:
    rows = of_kind(measurement.steps, "prefill")
    tokens, squares = column(rows, "prefill_tokens"), column(rows, "sum_squares")
    single = squares >= tokens**2 * (1.0 - 1e-9)
    for mask, marker, label in ((single, "o", "one prompt"), (~single, "s", "several prompts or chunks")):
        axes.plot(
            tokens[mask], column(rows, "seconds")[mask] * _MS, marker, ms=3.5, mew=0, alpha=0.6,
            color=_COLOURS["prefill"] if marker == "o" else _GREY, label=f"measured, {label}",
        )  # fmt: skip
    x = np.geomspace(max(1.0, tokens.min()), tokens.max(), _POINTS)
    law = np.array([profile.prefill_s(n) for n in x.tolist()])
    axes.plot(x, law * _MS, color=_COLOURS["prefill"], linewidth=1.4, label="law, one prompt (band: 95 %)")
    _interval(axes, x, law, profile, "prefill", _COLOURS["prefill"])
    axes.plot(
        x, [profile.prefill_s(n, 0.0) * _MS for n in x.tolist()], color=_GREY, linewidth=1.0, linestyle="--",
        label="law without attention",
    )  # fmt: skip
    _logarithmic(axes, "x", "y")
    axes.legend(fontsize=8, frameon=False)
    _title(axes, "Prefill", "prompt tokens in the step", "duration of the step (ms)")


def _decode(axes: Axes, measurement: Measurement, profile: LatencyProfile) -> None:
    rows = of_kind(measurement.steps, "decode")
    context = rows.groupby("batch")["context_tokens"].agg(["size", "min", "max"])
    varied = context[(context["size"] >= 0.1 * context["size"].max()) & (context["max"] > context["min"])].index
    evenly = np.linspace(0, max(0, len(varied) - 1), len(_BATCHES)).round().astype(int)
    picks = varied[np.unique(evenly)] if len(varied) else varied
    for batch, colour in zip(picks, _BATCHES, strict=False):
        of_batch = rows[rows["batch"] == batch]
        axes.plot(of_batch["context_tokens"], of_batch["seconds"] * _MS, "o", ms=3, mew=0, alpha=0.5, color=colour)
        x = np.geomspace(max(1.0, context.loc[batch, "min"]), context.loc[batch, "max"], _POINTS)
        law = np.array([profile.decode_s(int(batch), c) for c in x.tolist()])
        axes.plot(x, law * _MS, color=colour, linewidth=1.4, label=f"batch {batch:g}")
        _interval(axes, x, law, profile, "decode", colour)
    if len(picks):
        _logarithmic(axes, "x", "y")
        axes.legend(fontsize=8, frameon=False, title="measured, law, 95 %", title_fontsize=8)
    _title(axes, "Decode", "context tokens of the batch", "duration of the step (ms)")


def _memory(axes: Axes, measurement: Measurement, profile: LatencyProfile) -> None:
    capacity, per_token = profile.kv_capacity_tokens, profile.kv_bytes_per_token
    x = np.array([0.0, 1.1 * capacity])
    axes.plot(x, (x * per_token + profile.kv_bytes_per_request) / _GIB, color=_COLOURS["prefill"], linewidth=1.4)
    known = "" if measurement.facts.kv_capacity_tokens else " (stand-in)"
    axes.axvline(capacity, color=_GREY, linewidth=1.0, linestyle="--", label=f"capacity{known}: {capacity:,} tokens")
    seats = measurement.facts.max_num_seqs
    axes.plot([], [], " ", label=f"per token: {per_token:,.0f} bytes")
    axes.plot([], [], " ", label=f"max_num_seqs: {'unknown' if seats is None else f'{seats:,}'}")
    axes.set_xlim(left=0.0)
    axes.set_ylim(bottom=0.0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    _title(axes, "KV memory", "tokens in the KV cache of a worker", "KV memory (GiB)")


def _mixed(axes: Axes, measurement: Measurement, profile: LatencyProfile, predicted: Array) -> None:
    rows = (measurement.steps["kind"] == "mixed").to_numpy()
    title = "Mixed steps", "predicted duration (ms)", "measured duration (ms)"
    if not rows.any():
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes, color=_GREY)
        _title(axes, *title)
        return
    seconds = column(measurement.steps, "seconds")
    axes.plot(predicted[rows] * _MS, seconds[rows] * _MS, "o", ms=3.5, mew=0, alpha=0.6, color=_COLOURS["mixed"])
    x = np.geomspace(predicted[rows].min(), predicted[rows].max(), _POINTS)
    axes.plot(x * _MS, x * _MS, color=_COLOURS["mixed"], linewidth=1.2, label="equal (band: 95 %)")
    _interval(axes, x * _MS, x, profile, "mixed", _COLOURS["mixed"])
    _logarithmic(axes, "x", "y")
    axes.legend(fontsize=8, frameon=False)
    _title(axes, *title)


def _residuals(axes: Axes, measurement: Measurement, profile: LatencyProfile, predicted: Array) -> None:
    off = (column(measurement.steps, "seconds") / predicted - 1.0) * 100.0
    for kind in KINDS:
        rows = (measurement.steps["kind"] == kind).to_numpy()
        errors = profile.provenance.errors
        if rows.any():
            held_out = f"{errors[f'{kind}_median']:.1%} / {errors[f'{kind}_p95']:.1%}"
            label = f"{kind}, held out: {held_out}"
            axes.plot(predicted[rows] * _MS, off[rows], "o", ms=3, mew=0, alpha=0.5, color=_COLOURS[kind], label=label)
    axes.axhline(0.0, color="black", linewidth=0.8)
    _logarithmic(axes, "x")
    axes.legend(fontsize=8, frameon=False, title="median / 95th percentile", title_fontsize=8)
    _title(axes, "Residuals", "predicted duration of the step (ms)", "measured against predicted (%)")


def _over_time(axes: Axes, measurement: Measurement, predicted: Array) -> None:
    steps = measurement.steps
    off = (column(steps, "seconds") / predicted - 1.0) * 100.0
    drift = pace(steps)
    if drift.spread == 0.0:
        inner = off[np.abs(off) <= np.quantile(np.abs(off), 0.99)]
        axes.hist(inner, bins=40, color=_GREY)
        _title(axes, "Residuals, the inner 99 %", "measured against predicted (%)", "steps")
        return
    axes.plot(column(steps, "at_s"), off, "o", ms=3, mew=0, alpha=0.4, color=_GREY, label="steps")
    axes.plot(drift.at_s, (drift.factor - 1.0) * 100.0, color="#c8553d", linewidth=1.4, label="the machine's pace")
    axes.legend(fontsize=8, frameon=False)
    _title(axes, "Residuals while it was measured", "time since the run began (s)", "measured against predicted (%)")
