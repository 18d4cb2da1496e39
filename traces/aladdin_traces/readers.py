"""Reading recorded traces: one small reader per format, chosen by the head of the file.

A further format is one more `Reader` given to `register_reader`; nothing else changes.
"""

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aladdin_traces.errors import InputError, suggest
from aladdin_traces.files import whole_file
from aladdin_traces.source import Source, open_source
from aladdin_traces.tables import CsvTable, trace_from_columns
from aladdin_traces.trace import SLO_CLASSES, Trace


@dataclass(frozen=True)
class Reader:
    """One file format.

    Attributes:
        name: What the user writes as ``format``.
        looks_like: The head of such a file, for messages.
        matches: Says whether a file looks like this format; it may look at nothing but the head.
        read: Turns the text into a trace, or raises `InputError`.
    """

    name: str
    looks_like: str
    matches: Callable[[Source], bool]
    read: Callable[[Source], Trace]


READERS: dict[str, Reader] = {}
"""All known formats by name, in the order in which they are tried."""


def register_reader(reader: Reader) -> None:
    """Add a format; it is tried after those registered before.

    Raises:
        InputError: The name is taken.
    """
    if reader.name in READERS:
        raise InputError("reader.name", reader.name, "another reader has this name; choose a new one")
    READERS[reader.name] = reader


def read_trace(path: str | os.PathLike[str], format: str | None = None) -> Trace:
    """Read a recorded trace, gzipped or not. Times become seconds from the first row.

    Args:
        path: The file.
        format: Name of a reader in `READERS`; by default the head of the file decides.

    Returns:
        The trace; rows of requests that were not served (0 tokens) are left out and counted in ``dropped``.

    Raises:
        InputError: The file cannot be read as a trace; names file, line, column and value where they are known.
    """
    if format is not None and (not isinstance(format, str) or format not in READERS):
        raise InputError("format", format, suggest(str(format), READERS))
    source = open_source(path)
    return _choose(source, format).read(source)


def write_trace(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write the plain CSV, gzipped if the name ends in ``.gz``; the same trace gives the same bytes.

    The column ``klass`` is written only when a request has another class than 0.

    Raises:
        InputError: The trace is empty, or the file cannot be written.
    """
    if len(trace) == 0:
        raise InputError("trace", trace, "give a trace with at least one request")
    table = trace.to_frame() if trace.klass.any() else trace.to_frame().drop(columns="klass")
    name = os.fspath(path)
    with whole_file(name) as temporary:
        if name.endswith(".gz"):  # neither the clock nor the temporary name may stand in the file
            with open(temporary, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                table.to_csv(packed, index=False, lineterminator="\n")
        else:
            table.to_csv(temporary, index=False, lineterminator="\n")


def _choose(source: Source, format: str | None) -> Reader:
    if format is not None:
        return READERS[format]
    for reader in READERS.values():
        if reader.matches(source):
            return reader
    known = "; ".join(f"{reader.name}: {reader.looks_like}" for reader in READERS.values())
    raise InputError(f"{source.name} line 1", source.first_line, f"give one of the known formats ({known})")


# A file that has some of a format's columns is taken for it, so that the missing ones are named.
_AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_ARRIVAL = ("arrived_at_s", "arrival_s")
_PLAIN_COLUMNS = (*_ARRIVAL, "prompt_tokens", "output_tokens")


def _read_azure(source: Source) -> Trace:
    table = CsvTable(source)
    table.require(*((name,) for name in _AZURE_COLUMNS))
    cells = table.column("TIMESTAMP")
    times = pd.to_datetime(cells, format="ISO8601", utc=True, errors="coerce")
    table.refuse(cells, times.isna().to_numpy(), "give a time such as 2023-11-16 18:15:46.6805900")
    try:
        seconds = (times - times.iloc[0]).dt.as_unit("ns").to_numpy().astype(np.int64) / 1e9
    except (OverflowError, ValueError):  # int64 nanoseconds reach 292 years
        raise InputError(f"{source.name} column TIMESTAMP", cells.iloc[0], "give times within one century") from None
    tokens = {
        "prompt_tokens": table.tokens("ContextTokens", low=-np.inf),
        "output_tokens": table.tokens("GeneratedTokens", low=-np.inf),
    }
    return trace_from_columns(table, cells, seconds, tokens)


def _read_plain(source: Source) -> Trace:
    table = CsvTable(source)
    table.require(_ARRIVAL, ("prompt_tokens",), ("output_tokens",))
    seconds = table.numbers(*_ARRIVAL, low=0.0)
    tokens = {name: table.tokens(name, low=0) for name in ("prompt_tokens", "output_tokens")}
    klass = table.numbers("klass", low=0, high=SLO_CLASSES - 1, whole=True) if table.has("klass") else None
    return trace_from_columns(table, table.column(*_ARRIVAL), seconds, tokens, klass)


def _has_one_of(columns: tuple[str, ...]) -> Callable[[Source], bool]:
    return lambda source: not set(columns).isdisjoint(source.header)


register_reader(Reader("azure", ",".join(_AZURE_COLUMNS), _has_one_of(_AZURE_COLUMNS), _read_azure))
register_reader(
    Reader("csv", "arrival_s,prompt_tokens,output_tokens[,klass]", _has_one_of(_PLAIN_COLUMNS), _read_plain)
)
