"""What a soak found, for people and for files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from experiments.bridge.soak.judge import LOST, OUTCOMES
from experiments.bridge.soak.plan import SHARES
from experiments.bridge.soak.processes import MAX_NUM_SEQS, PROFILE
from experiments.bridge.soak.run import LOAD, Found, Options
from experiments.bridge.soak.verdicts import MIB

DOCUMENT = Path(__file__).parents[3] / "docs" / "bridge.md"
_MOST_LOST_SHOWN, _MOST_SAID = 20, 20_000


def result(found: Found, options: Options) -> dict[str, Any]:
    """Everything, for a JSON file."""
    failed = [verdict.name for verdict in found.verdicts if not verdict.holds]
    return {
        "version": metadata.version("aladdin-env"),
        "options": asdict(options),
        "worker": {"profile": PROFILE, "max_num_seqs": MAX_NUM_SEQS},
        "capacity_tokens_per_s": round(found.capacity_tps, 1),
        "load": {
            "share_of_capacity": LOAD, "requests_per_s": round(found.rate_rps, 2), "seconds": found.seconds,
            "requests": len(found.ended), "retries": found.retries, "hung_up_while_held": found.held_when_left,
            "latest_send_s": round(found.most_late_s, 3), "cores_busy": round(found.cores, 2),
        },
        "outcomes": {kind: _outcomes(found, kind) for kind in SHARES},
        "reasons": dict(Counter(one.judged.reason for one in found.ended if one.judged.reason).most_common()),
        "lost": [f"{one.id} ({one.planned.kind}, worker {one.slot}): {one.judged.reason}" for one in found.ended
                 if one.judged.outcome == LOST][:_MOST_LOST_SHOWN],
        "faults": dict(Counter(fault.kind for fault in found.faults)),
        "samples": _samples(found),
        "verdicts": {verdict.name: {"holds": verdict.holds, "seen": verdict.seen} for verdict in found.verdicts},
    } | ({"bridge_said": found.said[-_MOST_SAID:]} if failed else {})  # fmt: skip


def _outcomes(found: Found, kind: str) -> dict[str, int]:
    counts = Counter(one.judged.outcome for one in found.ended if one.planned.kind == kind)
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def _samples(found: Found) -> dict[str, Any]:
    """First, last, least and most of what was sampled under load."""
    columns: dict[str, list[float]] = {
        "rss_mib": [one.rss_bytes / MIB for one in found.samples],
        "open_files": [one.fds for one in found.samples],
        "tasks": [one.tasks for one in found.samples],
        "in_flight": [one.in_flight for one in found.samples],
        "held": [one.held for one in found.samples],
    }
    begin_s = found.samples[0].at_s
    minutes = {int((one.at_s - begin_s) // 60): round(one.rss_bytes / MIB, 1) for one in found.samples}
    return {"count": len(found.samples), "rss_mib_by_minute": list(minutes.values())} | {
        name: {"first": round(values[0], 1), "last": round(values[-1], 1),
               "least": round(min(values), 1), "most": round(max(values), 1)}
        for name, values in columns.items()
    }  # fmt: skip


def tables(told: Mapping[str, Any]) -> Group:
    """For the terminal."""
    counts = Table("requests", *OUTCOMES)
    for kind, outcomes in told["outcomes"].items():
        counts.add_row(kind, *(str(outcomes[outcome]) for outcome in OUTCOMES))
    samples = Table("under load", "first", "last", "least", "most")
    for name, values in told["samples"].items():
        if isinstance(values, dict):
            samples.add_row(name, *(f"{values[column]:g}" for column in ("first", "last", "least", "most")))
    ends = Table("verdict", "", "seen")
    for name, verdict in told["verdicts"].items():
        ends.add_row(name, "holds" if verdict["holds"] else "FAILS", verdict["seen"])
    return Group(counts, samples, ends)


def summary(told: Mapping[str, Any]) -> str:
    """A paragraph for the document; of nothing: that there is nothing."""
    if not told:
        return "Not run yet.\n"
    load, samples, verdicts = told["load"], told["samples"], told["verdicts"]
    outcomes = Counter[str]()
    for counts in told["outcomes"].values():
        outcomes.update(counts)
    faults = ", ".join(f"{count} {kind}" for kind, count in sorted(told["faults"].items()))
    failed = [name for name, verdict in verdicts.items() if not verdict["holds"]]
    rss = samples["rss_mib"]
    return (
        f"{load['seconds'] / 60:g} minutes with {told['options']['workers']} workers, seed {told['options']['seed']}: "
        f"{load['requests']:,} requests at {load['requests_per_s']:g}/s, {100 * load['share_of_capacity']:g} % of a "
        f"capacity of {told['capacity_tokens_per_s']:,.0f} tokens/s; {faults}.\n\n"
        f"- Requests: {', '.join(f'{outcomes[name]:,} {name}' for name in OUTCOMES)}; "
        f"{load['retries']} were sent again, {load['hung_up_while_held']} clients hung up while held.\n"
        f"- Memory: {verdicts['memory flat']['seen']}, {rss['first']:g} MiB at first, {rss['last']:g} at last.\n"
        f"- Tasks: {verdicts['no task leaked']['seen']}. Open files: {verdicts['no file leaked']['seen']}.\n"
        f"- {'All of the above holds.' if not failed else 'Failed: ' + ', '.join(failed) + '.'}\n"
    )
