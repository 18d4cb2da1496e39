"""``aladdin trace info``: what is in a trace, in figures and in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aladdin_env.cli.options import JsonOption
from aladdin_env.cli.output import check_writable, print_json, stderr, stdout
from aladdin_env.cli.tables import pairs_table
from aladdin_env.errors import InputError
from aladdin_traces import Description, describe, read_trace
from aladdin_traces.description import CACHE_BLOCKS, Lengths
from aladdin_traces.figure import trace_figure
from aladdin_traces.files import whole_file

PICTURES = (".png", ".svg", ".pdf")
TraceFile = Annotated[Path, typer.Argument(help="Recorded requests, also gzipped or Parquet.", show_default=False)]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="Format of the file; by default its content decides.")
]


def info(
    file: TraceFile,
    format: FormatOption = None,
    cache: Annotated[
        list[int] | None, typer.Option("--cache", help="Blocks of a prefix cache whose hit ratio is told; repeatable.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the trace: .png, .svg or .pdf.")] = None,
    json: JsonOption = False,
) -> None:
    """Print the statistics of a trace, and draw it."""
    check_writable("--plot", plot, PICTURES)
    for size in cache or ():
        if size < 1:
            raise InputError("--cache", size, "give 1 or more")
    trace = read_trace(file, format)
    found = describe(trace, cache or CACHE_BLOCKS)
    if plot is not None:
        with whole_file(plot) as temporary:
            trace_figure(trace, found, file.name, temporary)
        stderr().print(f"wrote {plot}")
    if json:
        print_json({"file": str(file), **found.to_dict()})
    else:
        stdout().print(pairs_table(str(file), _rows(found)))


def _rows(found: Description) -> dict[str, tuple[str, str]]:
    rows = {
        "requests": (f"{found.requests:,}", _dropped(found)),
        "duration": (f"{found.duration_s:,.0f} s", f"{found.duration_s / 3600:.3g} h"),
        "rate": (f"{found.rate_rps:.4g}/s", "mean requests per second"),
    }
    for window, index in found.dispersion.items():
        value = "-" if index is None else f"{index:.3g}"
        rows[f"dispersion, {window:g} s"] = (value, "variance over mean of the count per window; Poisson has 1")
    rows["gap CV"] = (
        "-" if found.gap_cv is None else f"{found.gap_cv:.3g}",
        "of the time between arrivals; Poisson has 1",
    )
    rows["prompt tokens"] = _lengths(found.prompt)
    rows["output tokens"] = _lengths(found.output)
    rows["Spearman"] = (f"{found.spearman:.2f}", "rank correlation of prompt and output")
    if len(found.classes) > 1:
        rows["classes"] = (str(len(found.classes)), _counts({str(k): v for k, v in found.classes.items()}))
    if found.models is not None:
        rows["models"] = (str(len(found.models)), _counts(found.models))
    if found.sessions is not None:
        rows["sessions"] = (f"{found.sessions:,}", f"{found.turns_per_session:.3g} requests each")
    if found.reuse is not None:
        what = f"tokens hit over prompt tokens; {found.reuse.blocks:,} blocks of {found.reuse.block_size} tokens"
        rows["hit ratio, endless cache"] = (f"{100 * found.reuse.ideal:.1f} %", what)
        for size, ratio in found.reuse.lru.items():
            rows[f"hit ratio, {size:,} blocks"] = (f"{100 * ratio:.1f} %", "least recently used leave")
    return rows


def _lengths(lengths: Lengths) -> tuple[str, str]:
    quantiles = f"p50 {lengths.p50:,.0f}, p95 {lengths.p95:,.0f}, p99 {lengths.p99:,.0f}, most {lengths.maximum:,}"
    return f"{lengths.mean:,.0f}", f"mean; {quantiles}"


def _dropped(found: Description) -> str:
    if not found.dropped:
        return "none dropped"
    return "dropped: " + ", ".join(f"{count:,} with {reason}" for reason, count in found.dropped.items())


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name}: {count:,}" for name, count in list(counts.items())[:4]]
    return ", ".join(shown) + (", ..." if len(counts) > len(shown) else "")
