"""The decision log of Aladdin's bridge (docs/bridge-log.md): JSON lines, a header first, then what happened.

Of its records those of the kind ``request``, one for each request that has ended, make a trace. A bridge that was
killed leaves half a line at the end; it is left out, and counted in the trace's notes. Any other damage is an error.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from aladdin_traces.errors import InputError
from aladdin_traces.json_table import JsonTable
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.tables import Table
from aladdin_traces.trace import Trace

VERSION = 1
HEADER_KEY = "aladdin_log"
REQUESTS, EVENTS = "requests", "events"
LEVELS = (REQUESTS, EVENTS)
"""How much a log tells: a line for each request, or all that happened to it."""
TRUNCATED = "truncated last line"
"""Note of a trace whose log ends in the middle of a line."""

_SHOWN_BYTES = 80
_KEYS = ("arrival_s", "prompt_tokens", "output_tokens", "klass", "id", "outcome")
_SERVED_KEYS = ("arrival_s", "first_token_s", "finish_s", "prompt_tokens", "output_tokens", "worker")

LogRecord = tuple[str, dict[str, Any]]
"""Where a record stands, and the record."""


def is_log(source: Source) -> bool:
    """Say whether this is a decision log; only the first line is looked at."""
    return source.is_json and HEADER_KEY in _object(source.first_line)


class DecisionLog:
    """The records of a decision log.

    Attributes:
        truncated: How many lines a killed writer left unfinished, and are left out: 0 or 1.
    """

    def __init__(self, source: Source) -> None:
        """Look at the first and the last line.

        Raises:
            InputError: The file does not begin with the header of a log.
        """
        if not is_log(source):
            mend = f"a decision log begins with a header, an object with the key {HEADER_KEY}"
            raise InputError(f"{source.name} line 1", "none" if source.is_parquet else source.first_line, mend)
        end = source.data.rfind(b"\n") + 1
        rest = source.data[end:].decode()
        self.truncated = int(bool(rest.strip()) and not _object(rest))
        self._source = dataclasses.replace(source, data=source.data[:end]) if self.truncated else source

    def records(self) -> Iterator[LogRecord]:
        """Go through the records, headers included.

        Raises:
            InputError: A line is damaged, or begins a log of another version; names the line.
        """
        for number, line in enumerate(io.BytesIO(self._source.data), start=1):
            if not line.strip():
                continue
            fields, where = _object(line.decode()), f"{self._source.name} line {number}"
            if not fields:
                raise InputError(where, line[:_SHOWN_BYTES].decode(errors="ignore"), "this line is damaged")
            if fields.get(HEADER_KEY, VERSION) != VERSION:
                mend = f"this release reads version {VERSION}: read the log with the release that wrote it"
                raise InputError(f"{where}, key {HEADER_KEY}", fields[HEADER_KEY], mend)
            yield f"line {number}", fields

    def served(self) -> Table:
        """The requests whose tokens a worker streamed to their end, as a log of that worker knows them.

        Their arrival is when they were sent to it; ``worker`` is its slot.

        Raises:
            InputError: The log is damaged, of several runs, or has no such request.
        """
        return JsonTable(self._source.name, self._served(), _SERVED_KEYS)

    def requests(self) -> Table:
        """The requests that have ended, in the order of their arrival.

        Raises:
            InputError: The log is damaged, of several runs, or has no request.
        """
        found = [(place, fields) for place, fields in self._of_one_run() if fields.get("kind") == "request"]
        # A line is written when its request ends: they stand in the order of their ends.
        arrival_s = JsonTable(self._source.name, found, ("arrival_s",)).numbers("arrival_s", low=-np.inf)
        return JsonTable(self._source.name, [found[i] for i in np.argsort(arrival_s, kind="stable")], _KEYS)

    def _served(self) -> Iterator[LogRecord]:
        for place, fields in self._of_one_run():
            if fields.get("kind") == "request" and fields.get("outcome") == "finished" and fields.get("streams"):
                yield place, {**fields, "arrival_s": fields.get("placed_s")}

    def _of_one_run(self) -> Iterator[LogRecord]:
        """The records; times of several runs would not be on one clock."""
        began = None
        for place, fields in self.records():
            if HEADER_KEY in fields:
                if began not in (None, fields.get("began")):
                    mend = "another run of the bridge begins here: put it into a file of its own"
                    raise InputError(f"{self._source.name} {place}, key began", fields.get("began"), mend)
                began = fields.get("began")
            yield place, fields


def _read(source: Source, options: ReadOptions) -> Trace:
    log = DecisionLog(source)
    table = log.requests()
    table.require(*((key,) for key in _KEYS))
    outcome = np.array(table.names("outcome").astype(str))
    rows = Rows(
        table,
        table.tokens("prompt_tokens"),
        table.tokens("output_tokens"),
        table.numbers("arrival_s", low=-np.inf),
        "arrival_s",
        klass=table.numbers("klass", low=0, high=3, whole=True),
        request_id=table.names("id"),
    )
    unserved = sorted(set(outcome.tolist()) - {"finished"})
    wanted = {f"outcome {name}": outcome != name for name in unserved}
    return rows.trace(options.sort, wanted, {TRUNCATED: 1} if log.truncated else None)


def _object(text: str) -> dict[str, Any]:
    """The object of a line; {} where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(source: Source) -> str | None:
    return None if is_log(source) else f"no key {HEADER_KEY} in its first line"


register_reader(
    Reader(
        "aladdin-log",
        '{"aladdin_log": 1, ...} and lines such as {"kind": "request", "arrival_s": 0.2, "prompt_tokens": 512, ...}',
        _refusal,
        _read,
    )
)
