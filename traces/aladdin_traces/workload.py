"""A workload: the requests of a scenario, either drawn from laws or taken from a recorded trace."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from aladdin_traces import checks
from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.arrivals import ARRIVALS
from aladdin_traces.errors import InputError, inside, suggest
from aladdin_traces.inline import INLINE_COLUMNS, REQUIRED_COLUMNS, trace_from_table, trace_to_table
from aladdin_traces.law_tables import (
    REQUEST_LAWS,
    check_known,
    law_from_table,
    law_to_table,
    lengths_from_entry,
    lengths_to_entry,
)
from aladdin_traces.lengths import LengthLaw
from aladdin_traces.presets import LENGTHS
from aladdin_traces.readers import read_trace
from aladdin_traces.request_law import RequestLaw
from aladdin_traces.trace import SLO_CLASSES, Trace
from aladdin_traces.workload_presets import PRESET_LAWS

_GENERATED_KEYS = ["arrivals", "lengths", "class_shares"]
_REQUESTS_KEYS = ["requests", "class_shares"]
_PRESET_KEYS = ["preset", "rate_rps", "class_shares"]
_FILE_KEYS = ["file", "format", "rate_scale"]
_INLINE_KEYS = [*INLINE_COLUMNS, "rate_scale"]


@dataclass(frozen=True)
class Workload:
    """Laws (``arrivals`` and ``lengths``, or ``requests``) or a recorded ``trace``; build one with a class method.

    Two workloads are equal when all their parts are, a trace's requests included; then they hash alike too.

    Attributes:
        arrivals: Law of the arrival times, when generated.
        lengths: Law of the lengths, when generated.
        requests: Law of both at once, and of the prefixes: sessions or clients.
        class_shares: Share of each SLO class 0, 1, ... among generated requests, summing to 1; empty: all class 0.
        trace: The recorded requests, as read.
        path: File of the trace, as the user wrote it.
        format: Format of that file, when the user named one.
        rate_scale: By how much the trace is sped up, > 0.
    """

    arrivals: ArrivalProcess | None = None
    lengths: LengthLaw | None = None
    requests: RequestLaw | None = None
    class_shares: tuple[float, ...] = ()
    trace: Trace | None = None
    path: str | None = None
    format: str | None = None
    rate_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check that there are laws or a trace, and not both."""
        if self.trace is None:
            self._check_laws()
        elif self.arrivals is not None or self.lengths is not None or self.requests is not None or self.class_shares:
            raise InputError("trace", self.trace, "give either a trace or laws with class_shares, not both")
        elif not isinstance(self.trace, Trace) or len(self.trace) == 0:
            raise InputError("trace", self.trace, "give a Trace with at least one request")
        object.__setattr__(self, "rate_scale", checks.number("rate_scale", self.rate_scale, above=0.0))

    @classmethod
    def generated(
        cls, arrivals: ArrivalProcess, lengths: LengthLaw | str, class_shares: Sequence[float] = ()
    ) -> "Workload":
        """Draw new requests for every sample.

        Args:
            arrivals: Law of the arrival times.
            lengths: Law of the lengths, or the name of one in `LENGTHS`.
            class_shares: One to four shares >= 0 of the SLO classes 0, 1, ..., summing to 1; empty: all class 0.

        Raises:
            InputError: A part is of the wrong kind, or the name or the shares are not valid.
        """
        law = _named_lengths(lengths) if isinstance(lengths, str) else lengths
        return cls(arrivals=arrivals, lengths=law, class_shares=_checked_shares(class_shares))

    @classmethod
    def from_law(cls, requests: RequestLaw, class_shares: Sequence[float] = ()) -> "Workload":
        """Draw new sessions, or requests of clients, for every sample.

        Args:
            requests: Law of the requests.
            class_shares: As in `generated`.

        Raises:
            InputError: A part is of the wrong kind, or the shares are not valid.
        """
        return cls(requests=requests, class_shares=_checked_shares(class_shares))

    @classmethod
    def preset(cls, name: str, rate_rps: float | None = None, class_shares: Sequence[float] = ()) -> "Workload":
        """Take one of `WORKLOADS`, at another mean rate (requests per second) if one is given.

        Raises:
            InputError: No such name, or a value is not valid.
        """
        if not isinstance(name, str) or name not in WORKLOADS:
            raise InputError("preset", name, suggest(str(name), WORKLOADS))
        found = dataclasses.replace(WORKLOADS[name], class_shares=_checked_shares(class_shares))
        return found if rate_rps is None else found.with_rate(rate_rps)

    @classmethod
    def from_trace(cls, trace: Trace) -> "Workload":
        """Replay a trace that is in memory.

        Raises:
            InputError: The trace is empty.
        """
        return cls(trace=trace)

    @classmethod
    def from_arrays(
        cls,
        arrival_s: npt.ArrayLike,
        prompt_tokens: npt.ArrayLike,
        output_tokens: npt.ArrayLike,
        klass: npt.ArrayLike | None = None,
    ) -> "Workload":
        """Replay given requests; see `Trace.from_arrays` for units and ranges.

        Raises:
            InputError: An array is not valid.
        """
        return cls(trace=Trace.from_arrays(arrival_s, prompt_tokens, output_tokens, klass))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], format: str | None = None, rate_scale: float = 1.0) -> "Workload":
        """Replay a recorded file, ``rate_scale`` times as fast; see `read_trace`.

        Raises:
            InputError: The file cannot be read, or ``rate_scale`` is not a number > 0.
        """
        return cls(trace=read_trace(path, format), path=os.fspath(path), format=format, rate_scale=rate_scale)

    @property
    def mean_rate_rps(self) -> float:
        """Mean requests per second: the law's long-run mean, or that of the whole trace."""
        if self.requests is not None:
            return self.requests.mean_rate_rps
        return self.arrivals.mean_rate_rps if self.arrivals is not None else self._replayed.rate_rps

    def sample(self, rng: np.random.Generator, horizon_s: float | None) -> Trace:
        """Return the requests that arrive in [0, ``horizon_s``); there may be none.

        Args:
            rng: Source of randomness of generated requests; a recorded trace is the same each time.
            horizon_s: Seconds, > 0; None means the whole of a recorded trace.

        Raises:
            InputError: ``horizon_s`` is not valid, or None for a generated workload.
        """
        if self.trace is not None:
            return self._replayed if horizon_s is None else self._replayed.window(0.0, horizon_s)
        if horizon_s is None:
            raise InputError("horizon_s", None, "give seconds; a generated workload has no end")
        if self.requests is not None:
            drawn = self.requests.sample(rng, horizon_s)
            return dataclasses.replace(drawn, klass=self._sample_classes(rng, len(drawn)))
        assert self.arrivals is not None and self.lengths is not None  # checked when built
        arrival_s = self.arrivals.sample(rng, horizon_s)
        prompt, output = self.lengths.sample(rng, len(arrival_s))
        return Trace(arrival_s, prompt, output, self._sample_classes(rng, len(arrival_s)))

    def with_rate(self, rate_rps: float) -> "Workload":
        """Return the workload with this mean rate, requests per second, > 0.

        Raises:
            InputError: ``rate_rps`` is not valid, or all requests of the trace arrive at time 0.
        """
        rate = checks.number("rate_rps", rate_rps, above=0.0)
        if self.arrivals is not None:
            return dataclasses.replace(self, arrivals=self.arrivals.with_rate(rate))
        if self.requests is not None:
            return dataclasses.replace(self, requests=self.requests.with_rate(rate))
        recorded = self._recorded.rate_rps
        if math.isinf(recorded):
            raise InputError("rate_rps", rate_rps, "the trace has no rate to scale: all its requests arrive at time 0")
        return dataclasses.replace(self, rate_scale=rate / recorded)

    def to_dict(self) -> dict[str, Any]:
        """Return a table of plain numbers, text, lists and tables from which `from_dict` builds an equal workload.

        A trace read from a file is stored as the path, one given in memory as its arrays, a preset under its name.
        """
        if self.trace is None:
            return {**self._law_table(), **({"class_shares": list(self.class_shares)} if self.class_shares else {})}
        scale = {} if self.rate_scale == 1.0 else {"rate_scale": self.rate_scale}
        if self.path is not None:
            return {"file": self.path, **({} if self.format is None else {"format": self.format}), **scale}
        return {**trace_to_table(self._recorded), **scale}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Workload":
        """Build a workload from its table: laws, a ``preset``, a ``file``, or arrays.

        Raises:
            InputError: An unknown key or kind (with the nearest known one), a missing or a bad value.
        """
        if not isinstance(table, Mapping):
            raise InputError("workload", table, "give a table with arrivals and lengths, with preset, or with file")
        if "preset" in table:
            check_known(table, _PRESET_KEYS)
            return cls.preset(table["preset"], table.get("rate_rps"), table.get("class_shares", ()))
        if "requests" in table:
            check_known(table, _REQUESTS_KEYS)
            with inside("requests"):
                law = law_from_table(table["requests"], REQUEST_LAWS)
            return cls.from_law(law, table.get("class_shares", ()))
        if "file" in table:
            check_known(table, _FILE_KEYS)
            return cls.from_file(table["file"], table.get("format"), table.get("rate_scale", 1.0))
        if not set(_INLINE_KEYS).isdisjoint(table):
            check_known(table, _INLINE_KEYS)
            _require(table, list(REQUIRED_COLUMNS))
            return cls(trace=trace_from_table(table), rate_scale=table.get("rate_scale", 1.0))
        check_known(table, [*_GENERATED_KEYS, *_REQUESTS_KEYS, *_PRESET_KEYS, *_FILE_KEYS, *_INLINE_KEYS])
        _require(table, _GENERATED_KEYS[:2])
        with inside("arrivals"):
            arrivals = law_from_table(table["arrivals"], ARRIVALS)
        return cls.generated(arrivals, _lengths_from(table["lengths"]), table.get("class_shares", ()))

    @property
    def _recorded(self) -> Trace:
        assert self.trace is not None  # checked when built: there are laws or a trace
        return self.trace

    @cached_property
    def _replayed(self) -> Trace:
        return self._recorded if self.rate_scale == 1.0 else self._recorded.scale_rate(self.rate_scale)

    def _law_table(self) -> dict[str, Any]:
        laws = (self.arrivals, self.lengths, self.requests)
        name = next((n for n, w in WORKLOADS.items() if (w.arrivals, w.lengths, w.requests) == laws), None)
        if name is not None:
            return {"preset": name}
        if self.requests is not None:
            return {"requests": law_to_table(self.requests)}
        assert self.arrivals is not None and self.lengths is not None  # checked when built
        return {"arrivals": law_to_table(self.arrivals), "lengths": lengths_to_entry(self.lengths)}

    def _check_laws(self) -> None:
        if self.requests is not None:
            if not isinstance(self.requests, RequestLaw):
                raise InputError("requests", self.requests, f"give a law of requests ({', '.join(REQUEST_LAWS)})")
            if self.arrivals is not None or self.lengths is not None:
                raise InputError("requests", self.requests, "give either requests or arrivals and lengths, not both")
        elif not isinstance(self.arrivals, ArrivalProcess):
            raise InputError("arrivals", self.arrivals, f"give an arrival law ({', '.join(ARRIVALS)})")
        elif not isinstance(self.lengths, LengthLaw):
            raise InputError("lengths", self.lengths, f"give a length law or one of {', '.join(LENGTHS)}")
        if self.path is not None or self.format is not None or self.rate_scale != 1.0:
            raise InputError(
                "path", self.path, "leave out path, format and rate_scale: they belong to a recorded trace"
            )
        object.__setattr__(self, "class_shares", _checked_shares(self.class_shares))

    def _sample_classes(self, rng: np.random.Generator, n: int) -> npt.NDArray[np.int8]:
        if not self.class_shares:
            return np.zeros(n, np.int8)
        shares = np.asarray(self.class_shares)
        return rng.choice(len(shares), size=n, p=shares / shares.sum()).astype(np.int8)


def _checked_shares(given: object) -> tuple[float, ...]:
    if isinstance(given, list | tuple) and len(given) == 0:
        return ()
    shares = checks.numbers("class_shares", given, low=0.0)
    if len(shares) > SLO_CLASSES or not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise InputError("class_shares", given, f"give at most {SLO_CLASSES} shares that sum to 1")
    return shares


def _named_lengths(name: str) -> LengthLaw:
    if name not in LENGTHS:
        raise InputError("lengths", name, suggest(name, LENGTHS))
    return LENGTHS[name]


def _lengths_from(entry: object) -> LengthLaw:
    if isinstance(entry, str):
        return _named_lengths(entry)
    with inside("lengths"):
        return lengths_from_entry(entry)


def _require(table: Mapping[str, Any], names: list[str]) -> None:
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError("workload", ", ".join(map(str, table)) or "nothing", f"add the missing {', '.join(missing)}")


WORKLOADS: dict[str, Workload] = {
    name: Workload.from_law(law) if isinstance(law, RequestLaw) else Workload.generated(*law)
    for name, law in PRESET_LAWS.items()
}
"""Named workloads, each with the statistics of a public trace and none of its data."""
