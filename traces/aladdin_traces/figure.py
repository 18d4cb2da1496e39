"""A picture of a trace: rate, gaps, lengths, outputs by prompt bucket, prefix reuse (matplotlib, without a display)."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from aladdin_traces.columns import FloatArray, TokenArray
from aladdin_traces.description import Description
from aladdin_traces.reuse import hit_blocks
from aladdin_traces.stats import index_of_dispersion
from aladdin_traces.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROMPT_EDGES = (128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
"""Upper ends of the prompt buckets, tokens."""

_PROMPT, _OUTPUT, _REFERENCE = "#2f5d8a", "#c8553d", "#9a9a9a"
_FEW, _BINS = 20, 120


def trace_figure(trace: Trace, found: Description, title: str, path: str | os.PathLike[str]) -> None:
    """Write the picture; the ending of ``path`` says the format.

    Args:
        trace: At least one request.
        found: Its `describe`.
        title: What stands above.
        path: The file.
    """
    draw_trace(trace, found, title).savefig(path, dpi=130)


def draw_trace(trace: Trace, found: Description, title: str) -> Figure:
    """Draw the figure of `trace_figure`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    rate = "no times" if found.rate_rps is None else f"{found.rate_rps:.3g} requests/s"
    figure.suptitle(f"{title}: {found.requests:,} requests, {rate}", fontsize=12)
    panels = figure.subplots(2, 3).ravel()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    _rate(panels[0], trace)
    _gaps(panels[1], trace.arrival_s)
    _dispersion(panels[2], trace)
    _lengths(panels[3], trace)
    _outputs_by_prompt(panels[4], trace)
    _reuse(panels[5], trace, found)
    return figure


def _rate(axes: Axes, trace: Trace) -> None:
    axes.set_title("Arrival rate", fontsize=10, loc="left")
    axes.set_ylabel("requests per second")
    duration = trace.duration_s
    if duration <= 0.0:
        _say(axes, "all requests arrive at once")
        return
    divisor, unit = _unit(duration)
    bin_s = _round_bin(duration / _BINS)
    edges = np.arange(0.0, math.floor(duration / bin_s) + 1) * bin_s
    edges = np.array([0.0, duration]) if len(edges) < 2 else edges
    counts, _ = np.histogram(trace.arrival_s, bins=edges)
    axes.stairs(counts / np.diff(edges), edges / divisor, color=_PROMPT, fill=True, alpha=0.35)
    axes.stairs(counts / np.diff(edges), edges / divisor, color=_PROMPT, linewidth=1.0)
    axes.axhline(trace.rate_rps, color=_REFERENCE, linestyle=(0, (4, 3)), linewidth=1.0, label="mean")
    axes.set_xlabel(f"time ({unit}; bins of {_duration_text(bin_s)})")
    axes.set_xlim(0.0, duration / divisor)
    axes.set_ylim(bottom=0.0, top=1.15 * float(counts.max() / np.diff(edges).min()))
    axes.legend(frameon=False, fontsize=9, loc="upper right")


def _gaps(axes: Axes, arrival_s: FloatArray) -> None:
    axes.set_title("Time between arrivals", fontsize=10, loc="left")
    gaps = np.sort(np.diff(arrival_s))
    if len(gaps) < _FEW or gaps[-1] <= 0.0:
        _say(axes, "too few arrivals at different times")
        return
    mean = float(gaps.mean())
    positive = gaps[gaps > 0.0]
    low = max(float(positive[0]), mean * 1e-5)
    at = np.geomspace(low, float(gaps[-1]), 400)
    beyond = 1.0 - np.searchsorted(gaps, at, side="right") / len(gaps)
    axes.loglog(at, np.where(beyond > 0, beyond, np.nan), color=_PROMPT, linewidth=1.8, label="trace")
    axes.loglog(at, np.exp(-at / mean), color=_REFERENCE, linestyle=(0, (4, 3)), label="Poisson, same rate")
    axes.set_ylim(0.5 / len(gaps), 1.6)
    axes.set_xlim(low, float(gaps[-1]) * 1.3)
    axes.set_xlabel("gap (s)")
    axes.set_ylabel("share of longer gaps")
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    zero = len(gaps) - len(positive)
    text = f"CV {gaps.std() / mean:.2f}" + (f"\n{100 * zero / len(gaps):.0f} % are 0 s" if zero else "")
    axes.text(0.97, 0.95, text, ha="right", va="top", transform=axes.transAxes, fontsize=9)


def _dispersion(axes: Axes, trace: Trace) -> None:
    axes.set_title("Burstiness by time scale", fontsize=10, loc="left")
    span = trace.duration_s
    if len(trace) < _FEW or span <= 0.0:
        _say(axes, "too few arrivals at different times")
        return
    windows = np.geomspace(0.2 / trace.rate_rps, span / _FEW, 30)
    index = [index_of_dispersion(trace.arrival_s, window) for window in windows.tolist()]
    axes.loglog(windows, index, color=_PROMPT, marker="o", markersize=3.5, label="trace")
    axes.axhline(1.0, color=_REFERENCE, linestyle=(0, (4, 3)), label="Poisson")
    axes.set_xlabel("window (s)")
    axes.set_ylabel("index of dispersion of counts")
    axes.set_ylim(min(0.5, 0.8 * min(index)), max(20.0, 2.0 * max(index)))
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _lengths(axes: Axes, trace: Trace) -> None:
    axes.set_title("Lengths", fontsize=10, loc="left")
    columns = (("prompt", trace.prompt_tokens, _PROMPT), ("output", trace.output_tokens, _OUTPUT))
    for name, tokens, colour in columns:
        ordered = np.sort(tokens)
        label = f"{name}: mean {_tokens_text(tokens.mean())}, p50 {_tokens_text(np.median(tokens))}"
        axes.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.28)
    axes.set_yticks(np.linspace(0.0, 1.0, 6))
    axes.set_xlabel("tokens")
    axes.set_ylabel("share of shorter or equal lengths")
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _outputs_by_prompt(axes: Axes, trace: Trace) -> None:
    axes.set_title("Output given prompt length", fontsize=10, loc="left")
    groups, labels = _buckets(trace.prompt_tokens, trace.output_tokens)
    if not groups:
        _say(axes, "too few requests")
        return
    boxes = axes.boxplot(
        groups,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        widths=0.6,
        medianprops={"color": "black", "linewidth": 1.4},
    )
    for box in boxes["boxes"]:
        box.set(facecolor=_OUTPUT, alpha=0.55)
    axes.set_yscale("log")
    axes.set_xticks(range(1, len(labels) + 1), labels, fontsize=8)
    axes.set_xlabel("prompt up to (tokens), and requests")
    axes.set_ylabel("output (tokens)")
    axes.text(0.98, 0.98, "median, quartiles, 5 to 95 %", ha="right", va="bottom", transform=axes.transAxes, fontsize=8)


def _buckets(prompt: TokenArray, output: TokenArray) -> tuple[list[TokenArray], list[str]]:
    bucket = np.searchsorted(np.asarray(PROMPT_EDGES), prompt, side="left")
    groups, labels = [], []
    for k in range(len(PROMPT_EDGES) + 1):
        inside = output[bucket == k]
        if len(inside) >= _FEW:
            groups.append(inside)
            end = f"{PROMPT_EDGES[k]:,}" if k < len(PROMPT_EDGES) else "more"
            labels.append(f"{end}\n({_tokens_text(len(inside))})")
    return groups, labels


def _reuse(axes: Axes, trace: Trace, found: Description) -> None:
    axes.set_title("Prefix reuse", fontsize=10, loc="left")
    if trace.prefix_blocks is None or found.reuse is None:
        _say(axes, "the source says nothing of shared prefixes")
        return
    hits = np.minimum(hit_blocks(trace) * trace.prefix_blocks.block_size, trace.prompt_tokens)
    share = np.sort(hits / trace.prompt_tokens)
    axes.step(100 * share, np.arange(1, len(share) + 1) / len(share), where="post", color=_PROMPT)
    axes.set_xlim(0.0, 100.0)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel("prompt already cached, endless cache (%)")
    axes.set_ylabel("share of requests with less or equal")
    lines = ["token hit ratio", f"endless cache: {100 * found.reuse.ideal:.1f} %"]
    lines += [f"LRU, {size:,} blocks: {100 * ratio:.1f} %" for size, ratio in found.reuse.lru.items()]
    lines.append(f"(blocks of {found.reuse.block_size} tokens)")
    axes.text(0.97, 0.05, "\n".join(lines), ha="right", va="bottom", transform=axes.transAxes, fontsize=9)


def _say(axes: Axes, text: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#606060", fontsize=10)


def _unit(duration_s: float) -> tuple[float, str]:
    for divisor, name, least in ((86_400.0, "days", 3.0), (3600.0, "hours", 3.0), (60.0, "minutes", 3.0)):
        if duration_s >= least * divisor:
            return divisor, name
    return 1.0, "s"


def _round_bin(seconds: float) -> float:
    """Return the next longer of the usual spans."""
    usual = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)
    return next((float(span) for span in usual if span >= seconds), seconds) if seconds > 1.0 else seconds


def _duration_text(seconds: float) -> str:
    for divisor, name in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= divisor:
            return f"{seconds / divisor:g} {name}"
    return f"{seconds:.3g} s"


def _tokens_text(tokens: float) -> str:
    if tokens >= 10_000:
        return f"{tokens / 1000:.0f}k"
    return f"{tokens / 1000:.1f}k" if tokens >= 1000 else f"{tokens:.0f}"
