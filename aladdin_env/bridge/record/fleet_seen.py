"""The fleet of a log as it was: workers over time, and what they told of themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_env.bridge.record.log import Log, Record
from aladdin_env.bridge.record.periods import Period
from aladdin_env.errors import InputError
from aladdin_env.latency import LatencyProfile
from aladdin_env.scenario import ColdStart, WorkerType
from aladdin_env.simulator.state import OFF, READY, STARTING


class FleetSeen:
    """Workers of each type by status, from one change to the next.

    Args:
        log: The log.
        period: Which part of it.

    Raises:
        InputError: the log tells of a slot or a type that its fleet does not have.
    """

    def __init__(self, log: Log, period: Period) -> None:
        self._header = log.header
        self._types = log.header.scenario.fleet.types
        self._type_of = np.repeat(np.arange(len(self._types)), [kind.maximum for kind in self._types])
        self._span_s = period.end_s - period.start_s
        self._seen = [record for record in log.records if record.t <= period.end_s]
        self._told = [record for record in self._seen if record.kind in ("worker", "look")]
        for record in self._told:
            _check(record, "slot", len(self._type_of))
        status = np.array(log.header.workers, dtype=np.int64)
        self._changes = [(0.0, status.copy())]
        for record in self._told:
            status[record.fields["slot"]] = record.fields["status"]
            self._note(max(0.0, record.t - period.start_s), status)

    def _note(self, time_s: float, status: NDArray[np.int64]) -> None:
        if self._changes[-1][0] == time_s:
            self._changes.pop()
        self._changes.append((time_s, status.copy()))

    def steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Times of change, seconds from the beginning of the period; GPUs and currency per second from then on."""
        counts = np.array([self._of_types(status != OFF) for _, status in self._changes])
        gpus = counts @ np.array([kind.gpus for kind in self._types], dtype=np.float64)
        return self._times(), gpus, counts @ np.array([kind.price_per_s for kind in self._types])

    def at_first(self, scales: bool) -> list[int]:
        """Workers of each type to begin a simulation with, one at least.

        Args:
            scales: Whether somebody scales: then it is those that served at first, else those that did on average.
        """
        ready = np.array([self._of_types(status == READY) for _, status in self._changes])
        times = self._times()
        lasted_s = np.diff(np.append(times, max(self._span_s, times[-1])))
        served = np.flatnonzero(ready.sum(axis=1))
        counts = ready[served[0]] if scales and len(served) else np.rint(lasted_s @ ready / max(lasted_s.sum(), 1e-9))
        found = [int(n) for n in counts]
        if not any(found):
            found[int(np.argmax(ready.sum(axis=0)))] = 1
        return found

    def types(self) -> list[WorkerType]:
        """The worker types with the laws, the memory and the cold starts that were seen last."""
        return [self._as_seen(kind, index) for index, kind in enumerate(self._types)]

    def _times(self) -> NDArray[np.float64]:
        return np.array([time_s for time_s, _ in self._changes])

    def _of_types(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self._type_of[chosen], minlength=len(self._types))

    def _as_seen(self, kind: WorkerType, index: int) -> WorkerType:
        told = [record for record in self._told if self._type_of[record.fields["slot"]] == index]
        changes: dict[str, Any] = {}
        if (profile := self._profile(index)) is not None:
            changes["profile"] = profile
        if starts := _cold_starts(told):
            changes["cold_start"] = ColdStart(float(np.mean(starts)))
        tokens, size = self._memory(told, index)
        if (tokens, size) != (kind.longest_request_tokens, kind.block_size):  # a worker has told
            changes |= {"kv_capacity_tokens": tokens, "block_size": size}
        return replace(kind, **changes)

    def _profile(self, index: int) -> LatencyProfile | None:
        profile = self._header.laws.get(index)
        for record in self._seen:
            if record.kind == "laws":
                _check(record, "type", len(self._types))
                if record.fields["type"] == index:
                    profile = LatencyProfile.from_dict(record.fields["profile"])
        return profile

    def _memory(self, told: list[Record], index: int) -> tuple[int, int]:
        """Tokens of the KV memory, and of a block."""
        first = int(np.argmax(self._type_of == index))
        tokens, size = self._header.kv[first].tolist()
        for record in told:
            tokens, size = record.fields.get("kv_tokens") or tokens, record.fields.get("block_size") or size
        return tokens, size


def _cold_starts(told: list[Record]) -> list[float]:
    """Seconds from STARTING to READY, for each start that was seen whole."""
    found, since_s = [], dict[int, float]()
    for record in told:
        slot, status = record.fields["slot"], record.fields["status"]
        if status == STARTING:
            since_s.setdefault(slot, record.t)
        elif (begun_s := since_s.pop(slot, None)) is not None and status == READY:
            found.append(record.t - begun_s)
    return found


def _check(record: Record, key: str, count: int) -> None:
    if not 0 <= record.fields[key] < count:
        raise InputError(f"{record.place}, key {key}", record.fields[key], f"the fleet of this log has {count}")
