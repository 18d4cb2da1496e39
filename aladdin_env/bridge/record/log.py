"""Reading decision logs: the parts of a run put together, each record checked, what is damaged named by its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aladdin_env.bridge.events import Regime
from aladdin_env.bridge.record.log_file import numbered
from aladdin_env.errors import InputError
from aladdin_env.latency import LatencyProfile
from aladdin_env.scenario import Scenario
from aladdin_env.scenario_file import scenario_from_dict
from aladdin_traces import SLO_CLASSES, inside
from aladdin_traces.json_table import JsonTable
from aladdin_traces.readers.aladdin_log import HEADER_KEY, DecisionLog
from aladdin_traces.source import open_source

_WHOLE, _NUMBER, _TEXT, _LIST, _TABLE = (int,), (int, float), (str,), (list,), (dict,)
_CALLED: dict[tuple[type, ...], str] = {
    _WHOLE: "a whole number",
    _NUMBER: "a number",
    _TEXT: "a text",
    _LIST: "a list",
    _TABLE: "a table",
}
_Wanted = Mapping[str, tuple[type, ...]]
_LARGEST = 2**31 - 1

_REGIME = {"mode": _TEXT, "canary": _NUMBER, "policy": _TEXT, "baseline": _TEXT}
_HEADER = {
    "level": _TEXT, "began": _TEXT, "rows": _WHOLE, "part": _WHOLE, "t": _NUMBER, "scenario": _TABLE, "workers": _LIST,
    "kv_tokens": _LIST, "block_size": _LIST, "slo": _LIST, "laws": _TABLE,
    **_REGIME,
}  # fmt: skip
#: What a record of each kind has at least, besides its time ``t``.
_FIELDS: dict[str, _Wanted] = {
    "arrive": {"row": _WHOLE, "prompt_tokens": _WHOLE, "klass": _WHOLE, "coin": _NUMBER},
    "decide": {"row": _WHOLE, "answer": _WHOLE, "by": _TEXT},
    "tokens": {"row": _WHOLE, "count": _WHOLE},
    "return": {"row": _WHOLE, "slot": _WHOLE},
    "end": {"row": _WHOLE, "outcome": _TEXT},
    "refuse": {"reason": _TEXT, "prompt_tokens": _WHOLE, "klass": _WHOLE},
    "fallback": {"reason": _TEXT},
    "worker": {"slot": _WHOLE, "status": _WHOLE, "ready_in_s": _NUMBER},
    "look": {"slot": _WHOLE, "status": _WHOLE, "ready_in_s": _NUMBER},
    "beat": {"mode": _TEXT, "have": _LIST, "wanted": _LIST},
    "slo": {"klass": _WHOLE, "ttft_s": _NUMBER, "atgt_s": _NUMBER},
    "laws": {"type": _WHOLE, "profile": _TABLE},
    "switch": _REGIME,
}
#: What it may have, or null in its place.
_OPTIONAL: dict[str, _Wanted] = {
    "decide": {"shadow": _WHOLE},
    "tokens": {"first_s": _NUMBER},
    "look": {"kv_tokens": _WHOLE, "block_size": _WHOLE, "kv_used": _NUMBER},
    "beat": {"proposed": _LIST},
}
#: Kinds that only logs of the level ``events`` have; there are many of them.
_EVENTS_ONLY = frozenset({"arrive", "decide", "tokens", "return", "end"})
_NUMBERS = (
    "arrival_s", "placed_s", "first_token_s", "finish_s", "prompt_tokens", "output_tokens", "klass", "coin", "worker",
    "answer", "shadow", "retries", "decision_s",
)  # fmt: skip
_MAY_BE_NULL = frozenset({"placed_s", "first_token_s", "shadow"})
_NAMES = ("id", "outcome")
_COLUMNS = (*_NUMBERS, *_NAMES, "streams")


@dataclass(frozen=True)
class Header:
    """How things stood when a part of a log began.

    Attributes:
        level: ``requests`` or ``events``.
        began: When the bridge began, ISO 8601 in UTC; a run goes by it.
        part: Number of the part, from 0.
        t: Seconds since the bridge began.
        rows: Most requests at a time.
        scenario: The fleet.
        regime: Who decides.
        workers: Status of each slot.
        kv: Tokens of KV memory and of a block for each slot, shape (slots, 2).
        slo: TTFT and ATGT of each class, seconds, shape (4, 2).
        laws: Of the worker types, by number, whose laws are no longer the scenario's.
    """

    level: str
    began: str
    part: int
    t: float
    rows: int
    scenario: Scenario
    regime: Regime
    workers: tuple[int, ...]
    kv: np.ndarray[Any, np.dtype[np.int64]]
    slo: np.ndarray[Any, np.dtype[np.float64]]
    laws: dict[int, LatencyProfile]


@dataclass(frozen=True)
class Record:
    """Something that happened.

    Attributes:
        place: File and line.
        kind: What it is.
        t: When, seconds since the bridge began.
        fields: The rest; what its kind must have is there.
    """

    place: str
    kind: str
    t: float
    fields: dict[str, Any]


@dataclass(frozen=True)
class Log:
    """What is left of one run of a bridge.

    Attributes:
        header: Of the first part.
        records: What happened, in the order of time; without the requests.
        requests: A row for each request that has ended, in the order of arrival.
        truncated: Lines that were cut off in the middle, and left out.
        lost: Lines that could not be written.
        end_s: Time of the last record.
    """

    header: Header
    records: list[Record]
    requests: pd.DataFrame
    truncated: int
    lost: int
    end_s: float


def read_logs(paths: Sequence[Path], *, events: bool = False) -> list[Log]:
    """Read logs, one for each run, in the order in which the bridges began.

    Args:
        paths: Files; beside a log that is still written, its numbered parts of the same run are read too.
        events: Keep the records that only logs of the level ``events`` have.

    Raises:
        InputError: a file that is no log, of another version, damaged, given twice, or with a part missing before it.
    """
    parts: dict[str, list[_Part]] = {}
    for path in dict.fromkeys(paths):
        for part in _parts_of(path, events):
            parts.setdefault(part.header.began, []).append(part)
    return [_joined(sorted(mine, key=lambda part: part.header.part)) for _, mine in sorted(parts.items())]


@dataclass
class _Part:
    place: str
    header: Header
    records: list[Record]
    requests: pd.DataFrame
    truncated: int = 0
    lost: int = 0


def _parts_of(path: Path, events: bool) -> list[_Part]:
    found = _read(path, events)
    earlier: list[_Part] = []
    for file in reversed(numbered(path)) if found[0].header.part > 0 else ():
        if _began(file) != found[0].header.began:
            break
        earlier = _read(file, events) + earlier
    return earlier + found


def _began(path: Path) -> object:
    _, first = next(DecisionLog(open_source(path)).records())
    return first.get("began")


def _read(path: Path, events: bool) -> list[_Part]:
    log = DecisionLog(open_source(path))
    parts: list[_Part] = []
    requests: list[list[tuple[str, dict[str, Any]]]] = []
    for where, fields in log.records():
        place = f"{path} {where}"
        if HEADER_KEY in fields:
            parts.append(_Part(place, _header(place, fields), [], pd.DataFrame()))
            requests.append([])
        elif fields.get("kind") == "request":
            requests[-1].append((where, {key: fields.get(key) for key in _COLUMNS}))
        elif fields.get("kind") == "lost":
            parts[-1].lost += int(_checked(place, fields, {"lines": _WHOLE})["lines"])
        elif events or fields.get("kind") not in _EVENTS_ONLY:
            parts[-1].records.append(_record(place, fields))
    parts[-1].truncated = log.truncated
    for part, mine in zip(parts, requests, strict=True):
        part.requests = _frame(str(path), mine)
    return parts


def _header(place: str, fields: dict[str, Any]) -> Header:
    checked = _checked(place, fields, _HEADER)
    with inside(f"{place}, key scenario"):
        scenario = scenario_from_dict(checked["scenario"])
    regime = regime_of(checked)
    slots = scenario.fleet.slots
    kv = np.array([checked["kv_tokens"], checked["block_size"]], dtype=np.int64).T
    slo = np.array(checked["slo"], dtype=np.float64)
    if len(checked["workers"]) != slots or kv.shape != (slots, 2) or slo.shape != (4, 2):
        raise InputError(f"{place}, key workers", checked["workers"], f"it should tell of {slots} workers, 4 classes")
    with inside(f"{place}, key laws"):
        laws = {int(kind): LatencyProfile.from_dict(profile) for kind, profile in checked["laws"].items()}
    return Header(
        checked["level"], checked["began"], checked["part"], checked["t"], checked["rows"], scenario, regime,
        tuple(checked["workers"]), kv, slo, laws,
    )  # fmt: skip


def regime_of(fields: Mapping[str, Any]) -> Regime:
    """Who decides, by a header or a record of the kind ``switch``."""
    return Regime(**{key: fields[key] for key in _REGIME})


def _record(place: str, fields: dict[str, Any]) -> Record:
    kind = fields.get("kind")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise InputError(f"{place}, key kind", kind, f"give one of {', '.join(_FIELDS)}")
    there = {key: kinds for key, kinds in _OPTIONAL.get(kind, {}).items() if fields.get(key) is not None}
    checked = _checked(place, fields, {"t": _NUMBER, **_FIELDS[kind], **there})
    return Record(place, kind, float(checked["t"]), checked)


def _checked(place: str, fields: dict[str, Any], wanted: _Wanted) -> dict[str, Any]:
    for key, kinds in wanted.items():
        value = fields.get(key)
        if not isinstance(value, kinds) or isinstance(value, bool) or not _is_usual(value):
            raise InputError(f"{place}, key {key}", value, f"the line is damaged: it should be {_CALLED[kinds]}")
    return fields


def _is_usual(value: object) -> bool:
    """Whether it is no number, or one that the arrays can hold."""
    return not isinstance(value, int | float) or abs(value) <= _LARGEST


def _frame(name: str, requests: list[tuple[str, dict[str, Any]]]) -> pd.DataFrame:
    if not requests:
        return pd.DataFrame({key: np.zeros(0, dtype=str if key in _NAMES else float) for key in _COLUMNS})
    table = JsonTable(name, requests, _COLUMNS)
    table.require(*((key,) for key in _COLUMNS if key not in _MAY_BE_NULL))
    columns: dict[str, Any] = {key: table.names(key).astype(str) for key in _NAMES}
    columns["streams"] = [table.cell(row, "streams") is True for row in range(len(table))]
    for key in _NUMBERS:
        low, high = (0, SLO_CLASSES - 1) if key == "klass" else (-np.inf, np.inf)
        missing = np.nan if key in _MAY_BE_NULL else None
        columns[key] = table.numbers(key, low=low, high=high, missing=missing)
    return pd.DataFrame(columns)


def _joined(parts: list[_Part]) -> Log:
    for before, after in pairwise(parts):
        if after.header.part != before.header.part + 1:
            mend = f"part {before.header.part + 1} of this run is not among the files, or one is given twice"
            raise InputError(after.place, f"part {after.header.part}", mend)
    records = sorted(_in_turn(parts), key=lambda record: record.t)  # a heartbeat is written once the pool has answered
    frames = [part.requests for part in parts if len(part.requests)] or [parts[0].requests]
    requests = pd.concat(frames, ignore_index=True).sort_values("arrival_s", kind="stable", ignore_index=True)
    last_s = max((record.t for record in records[-1:]), default=parts[-1].header.t)
    end_s = max(last_s, float(requests["finish_s"].max())) if len(requests) else last_s
    truncated, lost = sum(part.truncated for part in parts), sum(part.lost for part in parts)
    return Log(parts[0].header, records, requests, truncated, lost, end_s)


def _in_turn(parts: Sequence[_Part]) -> Iterator[Record]:
    for part in parts:
        yield from part.records
