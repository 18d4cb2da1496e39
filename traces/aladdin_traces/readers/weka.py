"""Weka's agentic sessions (cc-traces): an object per session, whose requests nest those of its subagents.

Times count from the start of a session, so all sessions begin at time 0, subagents included. With ``hash_id_scope``
"local" (or none) ids of different sessions mean different blocks; with "global" they mean the same.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from aladdin_traces import checks
from aladdin_traces.errors import InputError
from aladdin_traces.json_table import JsonTable
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace

_KEYS = ("t", "in", "out", "model", "hash_ids", "id", "block_size")


def _read(source: Source, options: ReadOptions) -> Trace:
    table = JsonTable(source.name, _requests(source), _KEYS)
    table.require(("t",), ("in",), ("out",))
    sizes = table.numbers("block_size", low=1, high=checks.TOKENS_MAX, whole=True)
    table.refuse("block_size", sizes != sizes[0], "give sessions of one block size in a file")
    rows = Rows(
        table,
        table.tokens("in"),
        table.tokens("out"),
        table.numbers("t", low=-np.inf),
        "t",
        session=table.labels("id"),
        model=table.labels("model"),
        prefix_blocks=table.blocks("hash_ids", int(sizes[0])),
    )
    return rows.trace(sort=True)


def _requests(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    blocks: dict[object, int] = {}
    for place, session in source.objects():
        scope = session.get("hash_id_scope", "local")
        if scope not in ("local", "global"):
            raise InputError(f"{source.name} {place}, key hash_id_scope", scope, "give local or global")
        for request in _flattened(source, place, session):
            ids = request.get("hash_ids")
            if isinstance(ids, list) and all(type(item) is int for item in ids):
                names = [item if scope == "global" else (place, item) for item in ids]
                ids = [blocks.setdefault(name, len(blocks)) for name in names]
            name = session.get("id", place)
            yield place, {**request, "hash_ids": ids, "id": name, "block_size": session.get("block_size", 64)}


def _flattened(source: Source, place: str, session: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the requests of a session and of its subagents, in the order of the file."""
    waiting: list[Any] = [session.get("requests")]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(reversed(item))
        elif not isinstance(item, dict):
            raise InputError(f"{source.name} {place}, key requests", item, "give a list of requests")
        elif "requests" in item:
            waiting.append(item["requests"])
        else:
            yield item


def _refusal(source: Source) -> str | None:
    return None if isinstance(source.first.get("requests"), list) else "no key requests with a list"


register_reader(
    Reader(
        "weka",
        '{"id": "...", "block_size": 64, "requests": [{"t": 0.0, "type": "n", "in": 32701, "out": 161, ...}, ...]}',
        _refusal,
        _read,
    )
)
