"""What must be true in the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import theilslopes

from experiments.bridge.soak.client import Ended
from experiments.bridge.soak.eyes import Sample, at_rest, ready
from experiments.bridge.soak.faults import Fault
from experiments.bridge.soak.judge import COMPLETE, LEFT, LOST, TOLD
from experiments.bridge.soak.plan import FAULTS, MALFORMED
from experiments.bridge.soak.processes import DRAIN_S

MIB = float(1 << 20)
_STEEPEST_MIB_PER_MIN = 2.0
_NOISE_MIB = 4.0  # the allocator's: in a run of seconds it is more than what the slope allows
_MOST_GROWTH_MIB = 64.0
_SPARE_TASKS = 2.0  # a question of the bridge to a worker that is just under way
_LEAST_SERVED = 0.9
_STOP_GRACE_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """One thing that must be true.

    Attributes:
        name: Its key.
        holds: Whether it is.
        seen: By which one sees it.
    """

    name: str
    holds: bool
    seen: str


@dataclass(frozen=True)
class Rest:
    """The bridge at rest.

    Attributes:
        sample: Its numbers.
        status: Its status.
        busy: Requests that the workers say they have; None: one does not say.
    """

    sample: Sample
    status: Mapping[str, Any]
    busy: float | None


def _tasks_back(before: Rest, after: Rest) -> bool:
    return after.sample.tasks <= before.sample.tasks + _SPARE_TASKS


def _files_back(before: Rest, after: Rest, workers: int) -> bool:
    """A worker is asked for its health and its metrics over one kept connection or two, by chance."""
    return after.sample.fds <= before.sample.fds + workers


def settled(now: Rest, before: Rest, workers: int) -> bool:
    """Whether there is nothing left to wait for."""
    return (
        at_rest(dict(now.status))
        and now.busy == 0
        and len(ready(dict(now.status))) == workers
        and _tasks_back(before, now)
        and _files_back(before, now, workers)
    )


def of_requests(ended: Sequence[Ended], sent: int, faults: Sequence[Fault]) -> list[Verdict]:
    """Whether every client got what it should; of ``sent`` requests all must have ended."""
    asked = [one for one in ended if one.planned.kind != MALFORMED and one.judged.outcome != LEFT]
    complete = sum(one.judged.outcome == COMPLETE for one in asked)
    could = sum(one.judged.outcome != TOLD for one in asked)  # whose workers were not ended
    lost = [one for one in ended if one.judged.outcome == LOST]
    kinds = Counter(fault.kind for fault in faults)
    first = f"; the first: {lost[0].planned.kind}: {lost[0].judged.reason}" if lost else ""
    return [
        Verdict("nothing lost", not lost, f"{len(lost)} of {len(ended)}{first}"),
        Verdict("all ended", len(ended) == sent, f"{len(ended)} of {sent}"),
        Verdict("served", complete >= _LEAST_SERVED * could, f"{complete} of {could} whose workers lived"),
        Verdict("workers disturbed", all(kinds[kind] for kind in FAULTS), f"{dict(kinds)}"),
    ]


def of_memory(before: Sample, samples: Sequence[Sample]) -> list[Verdict]:
    """Whether memory stays: by the slope over the last two thirds that single samples do not bend (Theil-Sen)."""
    late = samples[len(samples) // 3 :]
    slope, span_min = rss_slope(late), (late[-1].at_s - late[0].at_s) / 60.0
    growth = (max(one.rss_bytes for one in samples) - before.rss_bytes) / MIB
    allowed = max(_STEEPEST_MIB_PER_MIN * span_min, _NOISE_MIB)
    return [
        Verdict("memory flat", slope * span_min <= allowed, f"{slope:+.2f} MiB/min over {span_min:.1f} min"),
        Verdict("memory bounded", growth <= _MOST_GROWTH_MIB, f"{growth:+.1f} MiB at most since before the load"),
    ]


def rss_slope(samples: Sequence[Sample]) -> float:
    """MiB per minute; 0 for one sample."""
    if len(samples) < 2:
        return 0.0
    return float(theilslopes([s.rss_bytes / MIB for s in samples], [s.at_s / 60.0 for s in samples])[0])


def of_rest(before: Rest, after: Rest, workers: int) -> list[Verdict]:
    """Whether the bridge at rest is what it was before the load."""
    status, was, now = dict(after.status), before.sample, after.sample
    in_flight, held = status["requests"]["in_flight"], status["queue"]["held"]
    back = len(ready(status))
    return [
        Verdict("counters zero", at_rest(status), f"{in_flight} in flight, {held} held"),
        Verdict("workers idle", after.busy == 0, f"{after.busy} running or waiting, as they say"),
        Verdict("workers back", back == workers, f"{back} of {workers} ready"),
        Verdict("no task leaked", _tasks_back(before, after), f"{was.tasks:g} before, {now.tasks:g} after"),
        Verdict("no file leaked", _files_back(before, after, workers), f"{was.fds:g} before, {now.fds:g} after"),
    ]


def of_stop(status: int | None, seconds: float, left: Sequence[int]) -> list[Verdict]:
    """Whether it ends as it should."""
    return [
        Verdict("exit status 0", status == 0, f"{status}"),
        Verdict("ended in time", seconds <= DRAIN_S + _STOP_GRACE_S, f"{seconds:.1f} s after SIGTERM"),
        Verdict("no process left", not left, f"{len(left)}"),
    ]


def of_log(lines: Iterable[Mapping[str, Any]], ended: Sequence[Ended]) -> Verdict:
    """Whether the bridge's own log has each request once, and as finished what its client has whole."""
    outcomes: dict[str, list[str]] = {}
    for line in lines:
        outcomes.setdefault(line["id"], []).append(line["outcome"])
    twice = sum(len(found) > 1 for found in outcomes.values())
    whole = [one.id for one in ended if one.judged.outcome == COMPLETE]
    wrong = sum(outcomes.get(name) != ["finished"] for name in whole)
    seen = f"{len(whole)} complete, {wrong} of them not logged as finished, {twice} logged twice"
    return Verdict("log agrees", not wrong and not twice, seen)


def of_words(said: str) -> Verdict:
    """Whether the bridge has met nothing that it did not expect: a traceback is a mistake of ours, whoever made it."""
    return Verdict("no traceback", "Traceback" not in said, f"{said.count('Traceback')} in {said.count(chr(10))} lines")


def logged(path: Path) -> list[dict[str, Any]]:
    """The requests in a decision log, all its parts."""
    found = []
    for part in sorted(path.parent.glob(f"{path.stem}*{path.suffix}")):
        with part.open(encoding="utf-8") as lines:
            found += [one for one in map(json.loads, lines) if one.get("kind") == "request"]
    return found
