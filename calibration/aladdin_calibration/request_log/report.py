"""The report of a fit to a request log: one page of Markdown, and one picture."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from aladdin_calibration.pages import places, title
from aladdin_calibration.request_log.judged import MEASURES, UNQUEUED, Unqueued
from aladdin_calibration.request_log.log import Array, RequestLog, per_token
from aladdin_calibration.request_log.result import LogFit
from aladdin_env.latency import LatencyProfile
from aladdin_env.simulator.replay import Replay
from aladdin_traces.files import whole_file

UNITS = {
    "k1": ("us/token", 1e6),
    "c1": ("ms", 1e3),
    "attention": ("ns/token^2", 1e9),
    "floor_tokens": ("tokens", 1.0),
    "k2": ("us/token", 1e6),
    "c2": ("ms/request", 1e3),
    "c3": ("ms", 1e3),
    "mixed_overlap_s": ("ms", 1e3),
    "overhead_s": ("ms", 1e3),
}
"""Unit of each coefficient for people, and the factor from SI."""
FIGURES = ("mean", "p50", "p90", "p99", "median_absolute")
_TITLES = {"ttft": "time to first token (s)", "tpot": "time per token (s)", "latency": "latency (s)"}


def write_log_report(log: RequestLog, fit: LogFit, profile: LatencyProfile, stem: str | Path) -> tuple[Path, Path]:
    """Write ``stem.md`` and ``stem.png``: logged beside simulated requests, coefficients with 95 % intervals, errors.

    Args:
        log: What was fitted.
        fit: The fit.
        profile: The profile made of it.
        stem: Path of both files without their endings.

    Returns:
        The two files.

    Raises:
        InputError: A file cannot be written, or is there and no report.
    """
    page, picture = places(stem)
    with whole_file(picture) as file:
        _draw(log, fit, profile.name, file)
    with whole_file(page) as file:
        file.write_text("\n".join(_lines(log, fit, profile, picture.name)) + "\n", encoding="utf-8")
    return page, picture


def simulated_measures(log: RequestLog, fit: LogFit) -> Array:
    """TTFT, time per token and latency of every request under the fitted laws, seconds, shape (3, n)."""
    replay = Replay(log.trace, fit.limits.worker())
    blocks = max(replay.least_blocks, fit.kv.tokens // fit.limits.block_size)
    outcome = replay.run(fit.laws.row(fit.limits.max_num_seqs), blocks)
    arrival = log.trace.arrival_s
    pace = per_token(outcome.finish_s - outcome.first_token_s, log.trace.output_tokens)
    return np.stack([outcome.first_token_s - arrival, pace, outcome.finish_s - arrival])


def _lines(log: RequestLog, fit: LogFit, profile: LatencyProfile, picture: str) -> Iterable[str]:
    source = profile.provenance
    yield title(profile.name)
    yield ""
    yield f"{source.model} on {source.gpu}: {source.method}. Log: {source.source}, {len(log):,} requests, "
    yield f"{log.trace.duration_s:.0f} s. {fit.simulations:,} simulations in {fit.seconds:.0f} s, seed {fit.seed}."
    yield ""
    yield f"![Logged and simulated requests, coefficients]({picture})"
    yield ""
    yield "## Errors"
    yield ""
    yield "Simulated over logged; out of sample: requests whose outcomes the laws had not seen."
    yield ""
    yield f"| measure | {' | '.join(FIGURES)} |"
    yield f"| --- |{' --- |' * len(FIGURES)}"
    for kind, figures in (("out of sample", fit.held_out), ("in sample", fit.in_sample)):
        for measure in (*MEASURES, UNQUEUED):
            cells = (f"{figures[f'{measure}_{f}']:+.2%}" if f"{measure}_{f}" in figures else "-" for f in FIGURES)
            yield f"| {measure}, {kind} | {' | '.join(cells)} |"
    yield ""
    yield f"`{UNQUEUED}`: {Unqueued.of(log, simulated_measures(log, fit))}."
    yield ""
    yield "## Coefficients"
    yield ""
    yield "| coefficient | value | 95 % interval |"
    yield "| --- | --- | --- |"
    for name, (unit, factor) in UNITS.items():
        found = fit.coefficients[name]
        if found.value:
            value, low, high = (factor * number for number in (found.value, found.low, found.high))
            yield f"| {name} | {value:.4g} {unit} | {low:.4g} to {high:.4g} |"
    room = fit.kv
    bound = (
        f"{room.low:,.0f} to {room.high:,.0f}"
        if room.identified
        else f"{room.low:,.0f} or more: memory never ran short"
    )
    yield f"| KV capacity | {room.tokens:,} tokens | {bound} |"
    yield ""
    yield "## Not covered"
    yield ""
    yield f"- KV bytes per token: a log shows none; the profile has {profile.kv_bytes_per_token:,.0f}."
    if not room.identified:
        yield "- KV capacity: only a lower bound, see above."
    yield f"- Prefill law: {fit.form}; what a form leaves out is in its other coefficients."


def _draw(log: RequestLog, fit: LogFit, name: str, file: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).ravel()
    logged = (log.ttft_s, log.tpot_s, log.latency_s)
    for axis, measure, ours, theirs in zip(axes, MEASURES, simulated_measures(log, fit), logged, strict=False):
        _scatter(axis, _TITLES[measure], ours, theirs)
    _intervals(axes[3], fit)
    figure.suptitle(f"{name}: {len(log):,} requests, logged and simulated")
    figure.savefig(file, dpi=120)


def _scatter(axis: Any, title: str, simulated: Array, logged: Array) -> None:
    shown = np.isfinite(logged) & (logged > 0) & (simulated > 0)
    low, high = logged[shown].min(), logged[shown].max()
    axis.loglog(logged[shown], simulated[shown], ".", alpha=0.5, color="#2a5c8f")
    axis.plot([low, high], [low, high], color="#c8503a", linewidth=1, label="equal")
    axis.set(xlabel=f"logged {title}", ylabel=f"simulated {title}")
    _plain_ticks(axis.xaxis)
    _plain_ticks(axis.yaxis)
    axis.legend(frameon=False)
    axis.grid(alpha=0.2)


def _plain_ticks(axis: Any) -> None:
    """1, 2, 5 of each decade, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _intervals(axis: Any, fit: LogFit) -> None:
    """Every coefficient over its value: how far the log leaves it open."""
    found = [(name, e) for name, e in fit.coefficients.items() if e.value]
    rows = np.arange(len(found))
    ratios = np.array([(e.low / e.value, e.high / e.value) for _, e in found])
    axis.hlines(rows, ratios[:, 0], ratios[:, 1], color="#2a5c8f", linewidth=3)
    axis.plot(np.ones(len(found)), rows, "o", color="#2a5c8f")
    labels = [f"{name} = {UNITS[name][1] * e.value:.3g} {UNITS[name][0]}" for name, e in found]
    axis.set(xlabel="95 % interval over the fitted value", xscale="log", yticks=rows, yticklabels=labels)
    _plain_ticks(axis.xaxis)
    axis.grid(alpha=0.2, axis="x")
