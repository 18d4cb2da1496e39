"""Traces made of other traces: thinned, jittered, repeated, merged, split by time."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from aladdin_traces import checks
from aladdin_traces.errors import InputError, suggest
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.trace import LABELS, Trace

SPLITS: dict[str, tuple[float, float]] = {"tune": (0.0, 0.5), "validate": (0.5, 0.75), "test": (0.75, 1.0)}
"""Parts of a trace by time, as shares of its duration: tune on the first half, validate and test on the quarters."""


def thin(trace: Trace, share: float, seed: int = 0) -> Trace:
    """Keep each request with the probability ``share``, 0 < ``share`` <= 1, independently of the others.

    The rate falls in proportion and the burstiness towards that of a Poisson process; `Trace.scale_rate` keeps it.

    Raises:
        InputError: ``share`` or ``seed`` is out of its range.
    """
    keep = checks.number("share", share, above=0.0, high=1.0)
    return trace.take(np.flatnonzero(_generator(seed).random(len(trace)) < keep))


def jitter(trace: Trace, width_s: float, seed: int = 0) -> Trace:
    """Add to every arrival time a delay drawn evenly from 0 to ``width_s`` seconds, > 0; requests keep their order.

    For times recorded in ticks of ``width_s``: the requests of a tick are spread over it, in the order of the file.

    Raises:
        InputError: ``width_s`` or ``seed`` is out of its range.
    """
    width = checks.number("width_s", width_s, above=0.0)
    delays = _generator(seed).random(len(trace)) * width
    return dataclasses.replace(trace, arrival_s=np.sort(trace.arrival_s + delays))


def repeat(trace: Trace, times: int, period_s: float | None = None) -> Trace:
    """Play the trace ``times`` times (>= 1), a copy beginning every ``period_s`` seconds.

    Args:
        trace: What to repeat.
        times: Number of copies in all.
        period_s: At least the duration; by default the duration and one mean gap between requests.

    Returns:
        The copies one after the other. They share no prefix blocks and no sessions with each other.

    Raises:
        InputError: A value is out of its range, or all requests arrive at time 0 and no period is given.
    """
    count = checks.whole("times", times, low=1, high=checks.REQUESTS_MAX)
    if len(trace) * count > checks.REQUESTS_MAX:
        raise InputError("times", times, f"give less: a trace holds at most {checks.REQUESTS_MAX} requests")
    if period_s is None:
        period = trace.duration_s * len(trace) / max(len(trace) - 1, 1)
        if period == 0.0 and count > 1:
            raise InputError("period_s", None, "give seconds: all requests arrive at time 0")
    else:
        period = checks.number("period_s", period_s, low=trace.duration_s)
    return merge([dataclasses.replace(trace, arrival_s=trace.arrival_s + i * period) for i in range(count)])


def merge(traces: Sequence[Trace]) -> Trace:
    """Put several traces on one clock: all the requests, by arrival; of equal times, those of the first trace first.

    Block ids of different traces mean different blocks, so those of later traces are moved to new numbers. A session
    that has the name of another trace's becomes ``name#2``, ``name#3``, ... Models of one name are one model.

    Raises:
        InputError: There is no trace, or their blocks differ in size.
    """
    if not traces:
        raise InputError("traces", "0 traces", "give at least one")
    parts = [trace.columns() for trace in traces]
    sizes = [len(trace) for trace in traces]
    order = np.argsort(np.concatenate([part["arrival_s"] for part in parts]), kind="stable")
    _tell_sessions_apart(parts)
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values: list[Any] = [part.get(name) for part in parts]
        if name == "prefix_blocks":
            joined[name] = _joined_blocks(values, sizes).take(order)
        elif name in LABELS:
            joined[name] = _joined_labels(values, sizes).take(order)
        else:
            joined[name] = np.concatenate(values)[order]
    return Trace(**joined, dropped=_sums(traces, "dropped"), notes=_sums(traces, "notes"))


def split(trace: Trace, part: str) -> Trace:
    """Return a part of the trace by time: ``tune``, ``validate`` or ``test``; its own time 0 is where the part begins.

    Raises:
        InputError: An unknown part, or all requests arrive at time 0.
    """
    if part not in SPLITS:
        raise InputError("part", part, suggest(str(part), SPLITS))
    if trace.duration_s == 0.0:
        raise InputError("part", part, "the trace has no times to split by; all its requests arrive at time 0")
    start, end = (share * trace.duration_s for share in SPLITS[part])
    return trace.window(start, math.inf if part == "test" else end)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(checks.whole("seed", seed, low=0, high=2**63 - 1))


def _sums(traces: Sequence[Trace], name: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for trace in traces:
        for reason, count in getattr(trace, name).items():
            sums[reason] = sums.get(reason, 0) + count
    return sums


def _tell_sessions_apart(parts: list[dict[str, Any]]) -> None:
    taken: set[str] = set()
    for number, part in enumerate(parts, start=1):
        if "session" not in part:
            continue
        part["session"] = _as_text(part["session"])
        names = part["session"].categories
        if not taken.isdisjoint(names):
            part["session"] = part["session"].rename_categories([f"{name}#{number}" for name in names])
        taken.update(part["session"].categories)


def _joined_labels(values: list[pd.Categorical | None], sizes: list[int]) -> pd.Categorical:
    empty = pd.Index([], dtype=str)
    known = [
        pd.Categorical.from_codes(np.full(size, -1), empty) if value is None else _as_text(value)
        for value, size in zip(values, sizes, strict=True)
    ]
    return union_categoricals(known)


def _as_text(labels: pd.Categorical) -> pd.Categorical:
    """Return names as text: laws that draw many sessions number them."""
    return labels.set_categories(pd.Index(labels.categories.astype(str), dtype=str), rename=True)


def _joined_blocks(values: list[PrefixBlocks | None], sizes: list[int]) -> PrefixBlocks:
    known = [value for value in values if value is not None]
    other = next((value for value in known if value.block_size != known[0].block_size), None)
    if other is not None:
        mend = f"give traces of one block size (the first has {known[0].block_size})"
        raise InputError("block_size", other.block_size, mend)
    ids, counts, free = [], [], 0
    for value, size in zip(values, sizes, strict=True):
        counts.append(np.zeros(size, np.int64) if value is None else value.counts)
        if value is None:
            continue
        highest = int(value.ids.max(initial=-1))
        if free == 0 and highest < _IDS_MAX:  # the first keeps its ids, later ones are numbered from what is free
            ids.append(value.ids)
            free = highest + 1
        else:
            numbers, distinct = value.numbered()
            ids.append(numbers.astype(np.int64) + free)
            free += distinct
    offsets = np.concatenate(([0], np.cumsum(np.concatenate(counts))))
    return PrefixBlocks(offsets, np.concatenate(ids), known[0].block_size)


_IDS_MAX = 2**62
"""Ids below leave room for those of other traces above them."""
