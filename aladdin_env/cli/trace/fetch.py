"""``aladdin trace fetch``: public traces from their publishers, and what there is to fetch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from aladdin_env.cli.options import JsonOption
from aladdin_env.cli.output import print_json, stderr, stdout
from aladdin_env.errors import InputError
from aladdin_traces.fetch import SOURCES, FetchedTrace, TraceSource, cached_path, fetch_trace, own_source
from aladdin_traces.fetch.catalogue import source_named
from aladdin_traces.fetch.transfer import Progress as ProgressCall


def _complete(incomplete: str) -> list[str]:
    return [name for name in SOURCES if name.startswith(incomplete)]


def fetch(
    name: Annotated[
        str | None, typer.Argument(help="A trace of the list; without a name, the list.", autocompletion=_complete)
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Fetch this address instead of one of the list.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Hash that the file of --url must have.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Put it in this file, not in the cache.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch it anew although it is there.")] = False,
    json: JsonOption = False,
) -> None:
    """Fetch a public trace from its publisher, verify it, and keep it in the cache; resumes what broke off.

    The cache is $ALADDIN_TRACES_CACHE, else the user's cache folder.
    """
    source = _asked_for(name, url, sha256)
    if source is None:
        if to is not None or force:
            raise InputError("name", name, "say which trace to fetch, or give none of --to and --force to see the list")
        _print_catalogue(json)
        return
    try:
        with _download_bar(source.name) as progress:
            found = fetch_trace(source, to, force=force, progress=progress)
    except KeyboardInterrupt:
        stderr().print("what has come is kept; the same command goes on from there")
        raise
    if json:
        print_json(_as_row(found.source) | _result(found))
    else:
        _print_result(found)


def _asked_for(name: str | None, url: str | None, sha256: str | None) -> TraceSource | None:
    if url is not None:
        if name is not None:
            raise InputError("name", name, "give a name or --url, not both")
        return own_source(url, sha256)
    if sha256 is not None:
        raise InputError("--sha256", sha256, "it goes with --url; the traces of the list have their own")
    return None if name is None else source_named(name)


@contextmanager
def _download_bar(what: str) -> Iterator[ProgressCall]:
    columns = (TextColumn(what), BarColumn(40), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = stderr()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _print_catalogue(json: bool) -> None:
    if json:
        print_json([_as_row(source) for source in SOURCES.values()])
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("trace", "what", "format", "size", "licence", "hash", "here"):
        table.add_column(heading, justify="right" if heading == "size" else "left", no_wrap=heading != "what")
    for source in SOURCES.values():
        size = "" if source.size_bytes is None else decimal(source.size_bytes)
        known, here = "yes" if source.sha256 else "no", "yes" if cached_path(source).is_file() else ""
        table.add_row(source.name, source.title, source.format, size, source.licence, known, here)
    stdout().print(table)
    print("aladdin trace fetch NAME fetches one from its publisher, whose licence it has; hash: can it be verified?")


def _as_row(source: TraceSource) -> dict[str, Any]:
    here = cached_path(source)
    return {
        "name": source.name,
        "title": source.title,
        "format": source.format,
        "licence": source.licence,
        "page": source.page,
        "urls": source.urls,
        "size_bytes": source.size_bytes,
        "sha256": source.sha256,
        "path": str(here) if here.is_file() else None,
    }


def _result(found: FetchedTrace) -> dict[str, Any]:
    return {
        "path": str(found.path),
        "size_bytes": found.size_bytes,
        "sha256": found.sha256,
        "verified": found.source.sha256 is not None,
        "was_there": found.was_there,
    }


def _print_result(found: FetchedTrace) -> None:
    source = found.source
    print(f"{source.name}: {decimal(found.size_bytes)} {'was there' if found.was_there else 'fetched'}")
    if source.sha256 is None:
        print(f"No SHA-256 is known for it, so it could not be verified; that of this file is {found.sha256}")
    else:
        print(f"SHA-256 {found.sha256}, as it must be")
    if source.licence is not None:
        print(f"Licence {source.licence}; described, with how to cite it, at {source.page}")
    print(f"Use it: aladdin compare --trace {shlex.quote(str(found.path))}")
