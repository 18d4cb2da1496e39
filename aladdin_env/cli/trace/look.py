"""``aladdin trace info`` and ``aladdin trace fit``: what is in a trace, and which workload is like it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tomli_w
import typer
from rich import box
from rich.table import Table

from aladdin_env.cli.options import JsonOption
from aladdin_env.cli.output import check_writable, print_json, stderr, stdout
from aladdin_env.cli.tables import pairs_table
from aladdin_env.errors import InputError
from aladdin_traces import Description, Fidelity, Fit, ReadOptions, compare, describe, fit_workload, read_trace
from aladdin_traces.description import CACHE_BLOCKS, Lengths
from aladdin_traces.figure import trace_figure
from aladdin_traces.files import whole_file

PICTURES = (".png", ".svg", ".pdf")
TraceFile = Annotated[Path, typer.Argument(help="Recorded requests, also gzipped or Parquet.", show_default=False)]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="Format of the file; by default its content decides.")
]

SortOption = Annotated[bool, typer.Option("--sort", help="Sort rows that are out of order.")]
BlockSizeOption = Annotated[
    int | None, typer.Option("--block-size", help="Tokens of a prefix block, where the file does not say.")
]


def info(
    file: TraceFile,
    format: FormatOption = None,
    sort: SortOption = False,
    block_size: BlockSizeOption = None,
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
    trace = read_trace(file, format, ReadOptions(sort=sort, block_size=block_size))
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
        "requests": (f"{found.requests:,}", _what_was_done(found)),
        "duration": (f"{found.duration_s:,.0f} s", f"{found.duration_s / 3600:.3g} h"),
        "rate": ("-", "no times"),
    }
    if found.rate_rps is not None:
        rows["rate"] = (f"{found.rate_rps:.4g}/s", "mean requests per second")
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


def _what_was_done(found: Description) -> str:
    dropped = ", ".join(f"{count:,} with {reason}" for reason, count in found.dropped.items())
    notes = [f"{count:,} {note}" for note, count in found.notes.items()]
    return "; ".join([f"dropped: {dropped}" if dropped else "none dropped", *notes])


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name}: {count:,}" for name, count in list(counts.items())[:4]]
    return ", ".join(shown) + (", ..." if len(counts) > len(shown) else "")


def fit(
    file: TraceFile,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The workload, .toml: the table 'workload' of a scenario.")
    ] = None,
    format: FormatOption = None,
    sort: SortOption = False,
    block_size: BlockSizeOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample that is compared with the trace.")] = 0,
    json: JsonOption = False,
) -> None:
    """Fit a generated workload to a trace, and tell how close a sample of it comes."""
    check_writable("--out", out, (".toml",))
    trace = read_trace(file, format, ReadOptions(sort=sort, block_size=block_size))
    if trace.duration_s == 0:
        mend = "its requests all arrive at once: give them times first (Trace.with_arrivals)"
        raise InputError("FILE", str(file), mend)
    if not 0 <= seed < 2**32:
        raise InputError("--seed", seed, "give a whole number from 0 to 4294967295")
    found = fit_workload(trace)
    close = compare(trace, found.workload, seed)
    table = found.workload.to_dict()
    if out is not None:
        with whole_file(out) as temporary:
            temporary.write_text(tomli_w.dumps({"workload": table}), encoding="utf-8")
    if json:
        laws = {"arrivals_bic": found.arrivals_bic, "lengths_bic": found.lengths_bic}
        print_json({"file": str(file), "chosen": found.chosen, "workload": table, **laws, **close.to_dict()})
    else:
        stdout().print(_fidelity_table(found, close))
    if out is not None:
        stderr().print(f"wrote {out}")


def _fidelity_table(found: Fit, close: Fidelity) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=found.chosen, title_justify="left")
    table.add_column("")
    for heading in ("trace", "sample", "KS distance"):
        table.add_column(heading, justify="right")
    one, other = close.trace, close.sample
    table.add_row("requests/s", _short(one.rate_rps), _short(other.rate_rps), "")
    for window, index in one.dispersion.items():
        table.add_row(f"dispersion, {window:g} s", _short(index), _short(other.dispersion[window]), "")
    table.add_row("gap CV", _short(one.gap_cv), _short(other.gap_cv), "")
    for name, ks in (("prompt", close.ks_prompt), ("output", close.ks_output)):
        table.add_row(f"{name} mean", *(_short(getattr(d, name).mean) for d in (one, other)), f"{ks:.3f}")
        quantiles = [
            "/".join(f"{getattr(getattr(d, name), q):.0f}" for q in ("p50", "p95", "p99")) for d in (one, other)
        ]
        table.add_row(f"{name} p50/95/99", *quantiles, "")
    table.add_row("Spearman", f"{one.spearman:.2f}", f"{other.spearman:.2f}", "")
    if one.reuse is not None and other.reuse is not None:
        table.add_row("hit ratio, endless cache", f"{one.reuse.ideal:.3f}", f"{other.reuse.ideal:.3f}", "")
        for size, ratio in one.reuse.lru.items():
            table.add_row(f"hit ratio, {size:,} blocks", f"{ratio:.3f}", f"{other.reuse.lru[size]:.3f}", "")
    return table


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
