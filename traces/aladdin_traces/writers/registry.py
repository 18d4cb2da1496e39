"""The formats in which traces are written, and how one is chosen: by name, or by the ending of the file's name."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aladdin_traces.errors import InputError, suggest
from aladdin_traces.files import whole_file
from aladdin_traces.trace import Trace


@dataclass(frozen=True)
class Writer:
    """One file format.

    Attributes:
        name: What the user writes as ``format``.
        what: The file and its use, in a few words.
        write: Writes the trace to a path; the bool says whether to gzip it.
        remark: What a user must tell the load generator that replays the file, if anything.
    """

    name: str
    what: str
    write: Callable[[Trace, Path, bool], None]
    remark: Callable[[Trace], str | None] = lambda trace: None


WRITERS: dict[str, Writer] = {}
"""All formats by name."""

_BY_ENDING = {".csv": "csv", ".parquet": "parquet"}


def register_writer(writer: Writer) -> None:
    """Add a format."""
    WRITERS[writer.name] = writer


def writer_for(path: str | os.PathLike[str], format: str | None = None) -> Writer:
    """Return the writer of this name, or the one that the file's ending means.

    Raises:
        InputError: An unknown format, an ending that means none, or Parquet with the ending ``.gz``.
    """
    name = os.fspath(path)
    if format is not None and format not in WRITERS:
        raise InputError("format", format, suggest(str(format), WRITERS))
    chosen = format or _BY_ENDING.get(Path(name.removesuffix(".gz")).suffix)
    if chosen is None:
        mend = f"end it in .csv, .csv.gz or .parquet, or name the format: {', '.join(WRITERS)}"
        raise InputError("path", name, mend)
    if chosen == "parquet" and name.endswith(".gz"):
        raise InputError("path", name, "leave out .gz: Parquet is compressed already")
    return WRITERS[chosen]


def write_trace(trace: Trace, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write a trace, gzipped if the name ends in ``.gz``; the same trace gives the same bytes.

    Args:
        trace: At least one request.
        path: The file; it is there whole or not at all.
        format: Name of a writer in `WRITERS`; by default the ending of the name decides.

    Raises:
        InputError: The trace is empty or cannot be said in the format, the format is unknown, or the file cannot be
            written.
    """
    writer = writer_for(path, format)
    if len(trace) == 0:
        raise InputError("trace", trace, "give a trace with at least one request")
    with whole_file(path) as temporary:
        writer.write(trace, temporary, os.fspath(path).endswith(".gz"))
