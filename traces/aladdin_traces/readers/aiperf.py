"""AIPerf and GenAI-Perf: ``mooncake_trace`` with its optional keys, ``single_turn`` and ``multi_turn``.

Times and delays are milliseconds. A turn without a time follows the turn of its session above it after its ``delay``;
the recorded trace does not know how long that one took to serve. Texts of later turns are sent with the history before
them, so their prompts grow; lengths given in tokens are taken as they are.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from aladdin_traces import checks
from aladdin_traces.errors import InputError
from aladdin_traces.json_table import NAME_WANTED, JsonTable, is_name
from aladdin_traces.readers.mooncake import MOONCAKE_BLOCK
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.readers.texts import text_tokens
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace

_MS = 1000.0
_KEYS = ("arrival_ms", "input_length", "output_length", "session_id", "hash_ids")
_TELLING = ("turns", "text_input", "text", "texts", "delay", "session_id")
_PLAIN = {"input_length", "output_length", "hash_ids"}


class _Clock:
    """When each turn arrives, in milliseconds, from times and delays."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last: dict[str | int | None, float] = {}

    def arrival(self, place: str, turn: dict[str, Any]) -> float:
        """Return the time of a turn: its own, or its delay after the session's last, or 0."""
        session, known = turn.get("session_id"), {}
        for key in ("timestamp", "delay"):
            if turn.get(key) is not None:
                known[key] = checks.number(f"{self._source.name} {place}, key {key}", turn[key])
        at = known.get("timestamp", self._last.get(session, 0.0) + known.get("delay", 0.0))
        if session is not None:
            self._last[session] = at
        return at


def _read(source: Source, options: ReadOptions) -> Trace:
    table = JsonTable(source.name, _turns(source, options), _KEYS)
    rows = Rows(
        table,
        table.tokens("input_length"),
        table.tokens("output_length", missing=options.output_tokens),
        table.numbers("arrival_ms", low=-np.inf) / _MS,
        "arrival_ms",
        session=table.labels("session_id"),
        prefix_blocks=table.blocks("hash_ids", options.block_size or MOONCAKE_BLOCK),
    )
    return rows.trace(sort=True)


def _turns(source: Source, options: ReadOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    clock = _Clock(source)
    for place, item in source.objects():
        session = item.get("session_id")
        if not is_name(session):
            raise InputError(f"{source.name} {place}, key session_id", session, NAME_WANTED)
        if "turns" in item:
            # A session without a name goes by its place, so that its turns stay together.
            rows = _multi_turn(source, place, {**item, "session_id": place if session is None else session}, options)
        else:
            rows = iter([{**item, "input_length": _prompt_tokens(source, place, item, options)}])
        for row in rows:
            yield place, {**row, "arrival_ms": clock.arrival(place, row)}


def _multi_turn(source: Source, place: str, item: dict[str, Any], options: ReadOptions) -> Iterator[dict[str, Any]]:
    """Yield the turns of a session, each with the prompts and answers before it in its prompt.

    A turn whose length is negative was not served: it keeps that length and adds nothing to those after it.
    """
    turns = item["turns"]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise InputError(f"{source.name} {place}, key turns", turns, "give a list of turns with a text each")
    tokens = 0
    for turn in turns:
        output = turn.get("output_length", options.output_tokens)
        own = _whole(source, place, "input_length", _prompt_tokens(source, place, turn, options))
        row = {**turn, "output_length": output, "session_id": item["session_id"]}
        if own < 0:
            yield {**row, "input_length": own}
            continue
        tokens += own
        yield {**row, "input_length": tokens}
        tokens += max(_whole(source, place, "output_length", output), 0)


def _prompt_tokens(source: Source, place: str, turn: dict[str, Any], options: ReadOptions) -> Any:
    if "input_length" in turn:
        return turn["input_length"]
    text = next((turn[key] for key in ("text_input", "text", "texts") if key in turn), None)
    return text_tokens(source, place, text, options)


def _whole(source: Source, place: str, key: str, value: object) -> int:
    return checks.whole(f"{source.name} {place}, key {key}", value, low=-checks.TOKENS_MAX, high=checks.TOKENS_MAX)


def _refusal(source: Source) -> str | None:
    keys = {key for fields in source.head for key in fields}
    if not keys.isdisjoint(_TELLING):
        return None
    if {"timestamp", "input_length"} <= keys and all(type(time) is int for time in source.head_values("timestamp")):
        return None
    if "input_length" in keys and keys <= _PLAIN:
        return None
    return f"no key {', '.join(_TELLING)}, nor timestamp in whole milliseconds with input_length"


register_reader(
    Reader(
        "aiperf",
        '{"timestamp": 0, "input_length": 655, "output_length": 52[, "hash_ids": [...], "session_id": ...]}',
        _refusal,
        _read,
        ("block_size", "output_tokens", "tokenizer"),
    )
)
