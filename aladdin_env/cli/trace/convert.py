"""``aladdin trace convert``: a trace in another format, a part of it, or at another rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from aladdin_env.cli.options import JsonOption
from aladdin_env.cli.output import print_json, stderr, stdout
from aladdin_env.errors import InputError
from aladdin_traces import (
    READERS,
    SPLITS,
    WRITERS,
    ReadOptions,
    Trace,
    jitter,
    merge,
    read_trace,
    repeat,
    split,
    thin,
    write_trace,
)
from aladdin_traces.writers import Writer, writer_for

_OPTION_NAMES = {
    "block_size": "--block-size",
    "output_tokens": "--output-tokens",
    "seed": "--seed",
    "models": "--model",
    "log_types": "--log-type",
    "vllm_filter": "--vllm-filter",
    "format": "--format",
}


def _complete(names: Iterable[str]) -> Callable[[str], list[str]]:
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def convert(
    file: Annotated[Path, typer.Argument(help="Recorded requests, in any known format, gzipped or not.")],
    out: Annotated[Path, typer.Argument(help="The file to write; an ending in .gz gzips it.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help=f"Format of OUT: {', '.join(WRITERS)}; by default by its ending, .csv or .parquet.",
            autocompletion=_complete(WRITERS),
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"Format of FILE: {', '.join(READERS)}; by default its content decides.",
            autocompletion=_complete(READERS),
        ),
    ] = None,
    block_size: Annotated[
        int | None, typer.Option("--block-size", help="Tokens of a prefix block in FILE, where it does not say.")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="BurstGPT: keep only this model; repeatable.")
    ] = None,
    log_types: Annotated[
        list[str] | None, typer.Option("--log-type", help="BurstGPT: keep only this log type; repeatable.")
    ] = None,
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", help="Output length of texts that come without one.")
    ] = ReadOptions.output_tokens,
    vllm_filter: Annotated[
        bool, typer.Option("--vllm-filter", help="ShareGPT: keep only the lengths that vLLM's benchmark keeps.")
    ] = False,
    sort: Annotated[
        bool, typer.Option("--sort", help="Sort rows that are out of order instead of refusing them.")
    ] = False,
    no_jitter: Annotated[
        bool, typer.Option("--no-jitter", help="Keep coarse ticks, such as Mooncake's of 3 s, as they are.")
    ] = False,
    also: Annotated[list[Path] | None, typer.Option("--merge", help="Merge with this trace too; repeatable.")] = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--split",
            help=f"A part by time: {', '.join(SPLITS)} (first half, third and last quarter).",
            autocompletion=_complete(SPLITS),
        ),
    ] = None,
    window: Annotated[
        str | None, typer.Option("--window", help="Seconds to keep, as START:END; either may be left out.")
    ] = None,
    share: Annotated[float | None, typer.Option("--thin", help="Keep each request with this probability.")] = None,
    times: Annotated[int | None, typer.Option("--repeat", help="Play it so many times, one after the other.")] = None,
    rate_scale: Annotated[float | None, typer.Option("--rate-scale", help="So many times the rate.")] = None,
    spread: Annotated[
        float | None, typer.Option("--jitter", help="Add a random delay of up to so many seconds to each arrival.")
    ] = None,
    clip_prompt: Annotated[int | None, typer.Option("--clip-prompt", help="Cut prompts to so many tokens.")] = None,
    clip_output: Annotated[int | None, typer.Option("--clip-output", help="Cut outputs to so many tokens.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of thinning, jitter, and requests drawn as ServeGen's are.")] = 0,
    json: JsonOption = False,
) -> None:
    """Convert a trace to another format, for ourselves or for the load generator that is to replay it.

    The changes are made in the order of the options above: merge, split, window, thin, repeat, rate, jitter, clip.
    """
    writer = writer_for(out, to)
    if not out.parent.is_dir():
        raise InputError("OUT", str(out), "give a file in a folder that exists")
    if out.exists() and any(path.exists() and out.samefile(path) for path in (file, *(also or ()))):
        raise InputError("OUT", str(out), "it is a file that is read; give another name, or it would be lost")
    with _as_option(_OPTION_NAMES):
        options = ReadOptions(
            block_size=block_size,
            jitter=not no_jitter,
            seed=seed,
            sort=sort,
            models=tuple(models or ()),
            log_types=tuple(log_types or ()),
            output_tokens=output_tokens,
            vllm_filter=vllm_filter,
        )
        trace = read_trace(file, format, options)
    if also:
        trace = merge([trace, *(read_trace(path, options=ReadOptions(seed=seed)) for path in also)])
    changes: list[tuple[str, Any, Callable[[Trace, Any], Trace]]] = [
        ("--split", part, split),
        ("--window", window, lambda trace, text: trace.window(*_bounds(text))),
        ("--thin", share, lambda trace, share: thin(trace, share, seed)),
        ("--repeat", times, repeat),
        ("--rate-scale", rate_scale, Trace.scale_rate),
        ("--jitter", spread, lambda trace, width: jitter(trace, width, seed)),
        ("--clip-prompt", clip_prompt, lambda trace, most: trace.clip(max_prompt_tokens=most)),
        ("--clip-output", clip_output, lambda trace, most: trace.clip(max_output_tokens=most)),
    ]
    for option, value, change in changes:
        if value is not None:
            with _as_option(option):
                trace = change(trace, value)
    if len(trace) == 0:
        raise InputError("FILE", str(file), "no request is left of it; keep more with --split, --window or --thin")
    write_trace(trace, out, writer.name)
    _report(trace, out, writer, json)


@contextmanager
def _as_option(option: str | dict[str, str]) -> Iterator[None]:
    """Let errors raised within name the option, or the one that stands for their field."""
    try:
        yield
    except InputError as error:
        name = option if isinstance(option, str) else option.get(error.field, error.field)
        raise InputError(name, error.value, error.mend) from None


def _bounds(text: str) -> tuple[float, float]:
    start, colon, end = text.partition(":")
    try:
        bounds = (float(start or 0.0), float(end) if end else math.inf)
    except ValueError:
        colon = ""
    if not colon:
        raise InputError("--window", text, "write START:END in seconds, such as 0:3600 or 1800:")
    return bounds


def _report(trace: Trace, out: Path, writer: Writer, json: bool) -> None:
    remark = writer.remark(trace)
    if json:
        print_json(
            {
                "file": str(out),
                "format": writer.name,
                "requests": len(trace),
                "duration_s": trace.duration_s,
                "rate_rps": trace.rate_rps,
                "dropped": dict(trace.dropped),
                "notes": dict(trace.notes),
                "remark": remark,
            }
        )
        return
    stdout().print(f"{out}: {len(trace):,} requests in {trace.duration_s:,.6g} s, as {writer.name}", soft_wrap=True)
    for reason, count in trace.dropped.items():
        stdout().print(f"dropped {count:,}: {reason}", soft_wrap=True)
    for note, count in trace.notes.items():
        stdout().print(f"{count:,} {note}", soft_wrap=True)
    if remark:
        stderr().print(remark, markup=False, soft_wrap=True)
