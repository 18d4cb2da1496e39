"""The decision log of a bridge: who asked for what, what was decided, and what became of it; never what was said.

docs/bridge-log.md tells the format, field by field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from aladdin_env.bridge.events import Beat, Regime, Sight, Ticket, Watcher
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.record.log_file import LogFile
from aladdin_env.errors import InputError, suggest
from aladdin_env.latency import LatencyProfile
from aladdin_env.policy import HOLD, REJECT
from aladdin_env.scenario_file import scenario_to_dict
from aladdin_traces import checks
from aladdin_traces.readers.aladdin_log import EVENTS, HEADER_KEY, LEVELS, REQUESTS, VERSION

_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True)
class RecordSettings:
    """How much is recorded, and how it is kept.

    Attributes:
        level: ``requests``: a line for each request that has ended, and what happens to workers and modes; ``events``:
            also all else, so that the arrays that policies saw can be rebuilt.
        max_bytes: Size at which another file begins.
        keep: Files that are kept, the current one included.
        flush_s: Longest time until a line is in the file, seconds.
    """

    level: str = REQUESTS
    max_bytes: int = 64 << 20
    keep: int = 8
    flush_s: float = 0.5

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise InputError("level", self.level, suggest(self.level, LEVELS))
        checks.whole("max_bytes", self.max_bytes, low=1, high=1 << 50)
        checks.whole("keep", self.keep, low=1, high=999_999)
        checks.number("flush_s", self.flush_s, above=0.0, high=1.0)


_USUAL = RecordSettings()


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Recorder(Watcher):
    """Writes what it hears of to a file; begin it before the first request, and close it after the last.

    Times are those that the arrays were given, so that they can be rebuilt; seconds since the bridge began.

    Args:
        path: The log; parts before it are numbered.
        cluster: The arrays, for the fleet that they are of.
        regime: Who decides at first.
        settings: How much, and how it is kept.
        seed: Of the requests' coins; None: nobody chose one.
        wall_clock: When the bridge began; only called here.

    Raises:
        InputError: the file cannot be written, or is no log.
    """

    def __init__(
        self,
        path: Path,
        cluster: LiveCluster,
        regime: Regime,
        settings: RecordSettings = _USUAL,
        *,
        seed: int | None = None,
        wall_clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._view = cluster.view
        self._regime = regime
        self._all = settings.level == EVENTS
        self._facts = {
            HEADER_KEY: VERSION,
            "level": settings.level,
            "began": wall_clock().astimezone(UTC).isoformat(),
            "seed": seed,
            "rows": len(self._view.requests),
            "scenario": scenario_to_dict(self._view.scenario),
        }
        self._parts = 0
        self._laws: dict[str, Any] = {}
        self._sizes: dict[int, tuple[int | None, int | None]] = {}
        self._file = LogFile(path, self._head(), settings.max_bytes, settings.keep, settings.flush_s)

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._file.lost

    def close(self) -> None:
        """Write what is left."""
        self._file.close()

    # --- requests ---------------------------------------------------------------------------------------------------

    def arrived(self, ticket: Ticket) -> None:
        """With all that policies get to know of it."""
        if self._all:
            self._event(
                "arrive", row=ticket.row, id=ticket.id, prompt_tokens=ticket.prompt_tokens, klass=ticket.klass,
                coin=ticket.coin, streams=ticket.streams,
            )  # fmt: skip

    def decided(self, ticket: Ticket, answer: int) -> None:
        """And what the others would have answered."""
        if self._all:
            self._event(
                "decide", row=ticket.row, answer=answer, by=ticket.by, shadow=ticket.shadow,
                decision_s=ticket.decision_s,
            )  # fmt: skip

    def grew(self, ticket: Ticket, count: int, now_s: float) -> None:
        """An answer that came whole has a first token that is dated back."""
        if not self._all:
            return
        is_first = ticket.tokens == count
        first_s = ticket.first_s if is_first and ticket.first_s != now_s else None
        self._event("tokens", row=ticket.row, count=count, first_s=first_s)

    def returned(self, ticket: Ticket, reason: str, now_s: float) -> None:
        """The slot is that of the worker that failed."""
        if self._all:
            self._event("return", row=ticket.row, slot=ticket.slot, reason=reason)

    def ended(self, ticket: Ticket) -> None:
        """Its whole life in a line."""
        if self._all:
            self._event("end", row=ticket.row, outcome=ticket.outcome)
        self._write(
            {
                "kind": "request",
                "id": ticket.id,
                "arrival_s": ticket.arrived_s,
                "placed_s": ticket.placed_s,
                "first_token_s": ticket.first_s,
                "finish_s": ticket.ended_s,
                "prompt_tokens": ticket.counted_tokens or ticket.prompt_tokens,
                "estimated_tokens": ticket.prompt_tokens,
                "output_tokens": ticket.tokens,
                "klass": ticket.klass,
                "coin": ticket.coin,
                "streams": ticket.streams,
                "worker": ticket.slot,
                "answer": _last_answer(ticket),
                "by": ticket.by,
                "shadow": ticket.shadow,
                "outcome": ticket.outcome,
                "reason": ticket.reason,
                "retries": ticket.retries,
                "decision_s": ticket.decision_s,
            }
        )

    def refused(self, reason: str, prompt_tokens: int, klass: int, now_s: float) -> None:
        """It is part of what was asked for."""
        self._write(
            {"kind": "refuse", "t": now_s, "reason": reason, "prompt_tokens": prompt_tokens, "klass": klass}
        )  # fmt: skip

    def fell_back(self, reason: str) -> None:
        """Comes before the decision that it is about."""
        self._event("fallback", reason=reason)

    # --- workers and policies ---------------------------------------------------------------------------------------

    def moved(self, slot: int, status: int, now_s: float, ready_in_s: float) -> None:
        """With the time until it is expected to be ready."""
        self._write({"kind": "worker", "t": now_s, "slot": slot, "status": status, "ready_in_s": ready_in_s})

    def seen(self, sight: Sight) -> None:
        """Every look counts for the arrays; else only a KV memory of another size is news."""
        size = sight.kv_tokens, sight.block_size
        if self._all or (None not in size and self._sizes.get(sight.slot) != size):
            self._sizes[sight.slot] = size
            facts = asdict(sight)
            self._write({"kind": "look", "t": facts.pop("time_s"), **facts})

    def beat(self, beat: Beat) -> None:
        """At its own time: the arrays had it before the pool answered."""
        facts = asdict(beat)
        self._write({"kind": "beat", "t": facts.pop("time_s"), **facts})

    def promised(self, klass: int, ttft_s: float, atgt_s: float, now_s: float) -> None:
        """A row of the table of objectives."""
        self._write({"kind": "slo", "t": now_s, "klass": klass, "ttft_s": ttft_s, "atgt_s": atgt_s})

    def learnt(self, type_index: int, profile: LatencyProfile, now_s: float) -> None:
        """The whole profile."""
        self._laws[str(type_index)] = profile.to_dict()
        self._write({"kind": "laws", "t": now_s, "type": type_index, "profile": profile.to_dict()})

    def switched(self, regime: Regime, now_s: float) -> None:
        """From here on."""
        self._regime = regime
        self._write({"kind": "switch", "t": now_s, **asdict(regime)})

    # --- lines ------------------------------------------------------------------------------------------------------

    def _head(self) -> bytes:
        """The first line of a part: enough to read it without those before it."""
        workers = self._view.workers
        self._parts += 1
        return _line(
            {
                **self._facts,
                "part": self._parts - 1,
                "t": self._view.now_s,
                **asdict(self._regime),
                "workers": workers["status"].tolist(),
                "kv_tokens": workers["kv_capacity_tokens"].tolist(),
                "block_size": workers["block_size"].tolist(),
                "slo": self._view.slo.tolist(),
                "laws": self._laws,
            }
        )

    def _event(self, kind: str, **fields: Any) -> None:
        self._write({"kind": kind, "t": self._view.now_s, **fields})

    def _write(self, fields: dict[str, Any]) -> None:
        if self._file.is_full:
            self._file.turn(self._head())
        self._file.write(_line(fields))


def _last_answer(ticket: Ticket) -> int:
    if ticket.slot >= 0:
        return ticket.slot
    return REJECT if ticket.reason == "rejected" else HOLD


def _line(fields: dict[str, Any]) -> bytes:
    """A line of ASCII: whatever a client calls its request, a log that breaks off in it can be read."""
    try:
        line: bytes = orjson.dumps(fields, option=_OPTIONS)
    except TypeError:  # half of a surrogate pair
        line = b"\x80"
    return line if line.isascii() else json.dumps(_written(fields)).encode() + b"\n"


def _written(value: Any) -> Any:
    """What has no place in JSON, replaced."""
    if isinstance(value, dict):
        return {key: _written(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_written(part) for part in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value
