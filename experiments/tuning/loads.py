"""The loads on which scalers are tuned and validated.

Presets with seeds from 1000 on, and Azure's 2023 traces where a folder has them: their first half for tuning, their
third quarter for validation. The last quarter, and the seeds that comparisons show (0, 1, ...), are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from aladdin_traces import Diurnal, Workload, read_trace

PRESETS = ("short-day", "diurnal", "azure-conv", "azure-code", "sharegpt-poisson", "flood")
TRACES = {"trace azure-conv": "azure2023_conv.csv.gz", "trace azure-code": "azure2023_code.csv.gz"}
PARTS = {"tuning": (0.0, 0.5, 1000), "validation": (0.5, 0.75, 2000)}
"""Begin and end as shares of a trace's duration, and the first seed."""
_DIURNAL_START_S, _DIURNAL_S = 9 * 3600.0, 7200.0


@dataclass(frozen=True)
class Load:
    """A scenario and a seed."""

    name: str
    scenario: Scenario
    seed: int


def scenario_of(name: str) -> Scenario:
    """A preset; of the whole day, two hours."""
    scenario = load_scenario(name)
    if name != "diurnal":
        return scenario
    assert isinstance(scenario.workload.arrivals, Diurnal)
    arrivals = replace(scenario.workload.arrivals, start_s=_DIURNAL_START_S)
    return scenario.with_workload(replace(scenario.workload, arrivals=arrivals), _DIURNAL_S)


def part_of_trace(name: str, path: Path, begin: float, end: float) -> Scenario:
    """The fleet and the SLO of "short-day" under a part of a trace, from the share ``begin`` to the share ``end``."""
    trace = read_trace(path)
    part = trace.window(begin * trace.duration_s, end * trace.duration_s)
    return replace(load_scenario("short-day").with_workload(Workload.from_trace(part), None), name=name)


def loads(part: str, folder: Path | None, seeds: int) -> list[Load]:
    """Everything of a part ("tuning" or "validation"), each with so many seeds."""
    begin, end, first = PARTS[part]
    found = {name: scenario_of(name) for name in PRESETS}
    if folder is not None:
        found |= {name: part_of_trace(name, folder / file, begin, end) for name, file in TRACES.items()}
    return [Load(name, one, first + i) for name, one in found.items() for i in range(seeds)]
