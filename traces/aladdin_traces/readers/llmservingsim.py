"""LLMServingSim: JSON lines with nanoseconds; agentic ones hold a session's sub-requests with tool calls between them.

When a sub-request arrives depends on how long the one before it is served, which no trace knows: it is taken to arrive
once the tool calls before it are done.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from aladdin_traces import checks
from aladdin_traces.errors import InputError
from aladdin_traces.json_table import JsonTable
from aladdin_traces.readers.registry import Reader, ReadOptions, needs_key, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace

_NS = 1e9
_KEYS = ("arrival_time_ns", "input_toks", "output_toks", "session_id")


def _read(source: Source, options: ReadOptions) -> Trace:
    table = JsonTable(source.name, _requests(source), _KEYS)
    table.require(("arrival_time_ns",), ("input_toks",), ("output_toks",))
    nanoseconds = table.numbers("arrival_time_ns", low=-np.inf)
    rows = Rows(
        table,
        table.tokens("input_toks"),
        table.tokens("output_toks"),
        (nanoseconds - nanoseconds.min()) / _NS,
        "arrival_time_ns",
        session=table.labels("session_id"),
    )
    return rows.trace(sort=options.sort or "sub_requests" in source.first)


def _requests(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, item in source.objects():
        if "sub_requests" not in item:
            yield place, item
            continue
        parts = item["sub_requests"]
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise InputError(f"{source.name} {place}, key sub_requests", parts, "give a list of requests")
        arrival = checks.number(f"{source.name} {place}, key arrival_time_ns", item.get("arrival_time_ns"))
        for part in parts:
            yield place, {**part, "arrival_time_ns": arrival, "session_id": item.get("session_id")}
            where = f"{source.name} {place}, key tool_duration_ns"
            arrival += checks.number(where, part.get("tool_duration_ns", 0), low=0.0)


register_reader(
    Reader(
        "llmservingsim",
        '{"input_toks": 1472, "output_toks": 133, "arrival_time_ns": 4059740}',
        needs_key("input_toks", "output_toks", "sub_requests"),
        _read,
    )
)
