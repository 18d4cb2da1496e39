"""The options that several commands share, and the scenario that they describe together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from aladdin_env import presets
from aladdin_env.errors import InputError, suggest
from aladdin_env.latency import LatencyProfile, load_profile, profile_names
from aladdin_env.policy import placement_names, scaler_names
from aladdin_env.scenario import SLO, Fleet, Scenario, WorkerType
from aladdin_traces import Workload

DEFAULT_SCENARIO = "short-day"
_PRICES = {"A100": presets.A100, "H100": presets.H100, "H200": presets.H200}


def _matching(names: list[str], start: str) -> list[str]:
    return [name for name in names if name.startswith(start)]


def complete_scenarios(incomplete: str) -> list[str]:
    """Shell completion of scenario names."""
    return _matching(presets.scenario_names(), incomplete)


def complete_profiles(incomplete: str) -> list[str]:
    """Shell completion of profile names."""
    return _matching(profile_names(), incomplete)


def complete_policies(incomplete: str) -> list[str]:
    """Shell completion of the last policy of a comma-separated list."""
    before, comma, last = incomplete.rpartition(",")
    placement, plus, scaler = last.partition("+")
    found = [f"{placement}+{name}" for name in _matching(scaler_names(), scaler)] if plus else placement_names()
    return [f"{before}{comma}{name}" for name in _matching(found, last)]


ScenarioOption = Annotated[
    str, typer.Option("--scenario", help="Name of a scenario or a TOML file.", autocompletion=complete_scenarios)
]
TraceOption = Annotated[
    Path | None, typer.Option("--trace", help="Recorded requests: any public format, gzipped or not (docs/traces.md).")
]
RateOption = Annotated[float | None, typer.Option("--rate", help="Mean requests per second.")]
RateScaleOption = Annotated[float | None, typer.Option("--rate-scale", help="So many times the rate.")]
HorizonOption = Annotated[float | None, typer.Option("--horizon", help="Seconds in which requests arrive.")]
ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", help="Latency profile of every worker: a name or a JSON file.",
                 autocompletion=complete_profiles),
]  # fmt: skip
PriceOption = Annotated[float | None, typer.Option("--price", help="Price of a GPU-hour of every worker.")]
TtftOption = Annotated[float | None, typer.Option("--ttft", help="SLO: seconds to the first token.")]
AtgtOption = Annotated[float | None, typer.Option("--atgt", help="SLO: seconds per token after it, on average.")]
WorkersOption = Annotated[
    list[str] | None,
    typer.Option("--workers", help="A fixed fleet of so many workers; of several types: --workers TYPE=N for each."),
]
MaxWorkersOption = Annotated[
    int | None, typer.Option("--max-workers", help="Most workers of a type, or in a search of the whole fleet.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="The first seed.")]
SeedsOption = Annotated[int, typer.Option("--seeds", help="How many seeds; several give means and 95 % intervals.")]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", help="Processes; by default several where that pays. No result depends on it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@dataclass(frozen=True)
class Changes:
    """What the options change in a scenario; None keeps what it says."""

    trace: Path | None = None
    rate: float | None = None
    rate_scale: float | None = None
    horizon: float | None = None
    profile: str | None = None
    price: float | None = None
    ttft: float | None = None
    atgt: float | None = None
    max_workers: int | None = None

    def apply(self, scenario: Scenario) -> Scenario:
        """The changed scenario.

        Raises:
            InputError: a value that cannot be used, or two that contradict each other.
        """
        changed = self._with_workload(scenario)
        if self.profile is not None:
            changed = replace(changed, fleet=with_profile(changed.fleet, load_profile(self.profile)))
        if self.price is not None:
            types = tuple(replace(kind, price_per_gpu_hour=self.price) for kind in changed.fleet.types)
            changed = replace(changed, fleet=replace(changed.fleet, types=types))
        if self.max_workers is not None:
            changed = replace(changed, fleet=with_maximum(changed.fleet, self.max_workers))
        return replace(changed, slo=self._slo(changed.slo))

    def _with_workload(self, scenario: Scenario) -> Scenario:
        if self.rate is not None and self.rate_scale is not None:
            raise InputError("--rate-scale", self.rate_scale, "give --rate or --rate-scale, not both")
        workload = scenario.workload if self.trace is None else Workload.from_file(self.trace)
        if self.rate_scale is not None:
            if not self.rate_scale > 0:
                raise InputError("--rate-scale", self.rate_scale, "give a number above 0")
            workload = workload.with_rate(workload.mean_rate_rps * self.rate_scale)
        elif self.rate is not None:
            workload = workload.with_rate(self.rate)
        changed = scenario.with_workload(workload, self.horizon)
        return changed if self.trace is None else replace(changed, name=f"{scenario.name} under {self.trace.name}")

    def _slo(self, slo: SLO) -> SLO:
        if self.ttft is None and self.atgt is None:
            return slo
        if slo.classes:
            raise InputError(
                "--ttft" if self.ttft is not None else "--atgt",
                self.ttft if self.ttft is not None else self.atgt,
                f"the scenario has SLO classes ({', '.join(slo.names())}): change them in its file",
            )
        return SLO(slo.ttft_s if self.ttft is None else self.ttft, slo.atgt_s if self.atgt is None else self.atgt)


def with_profile(fleet: Fleet, profile: LatencyProfile) -> Fleet:
    """Every worker with ``profile``; several types of mixed workers become one."""
    if fleet.is_split:
        return replace(fleet, types=tuple(_of_profile(kind, profile, kind.name) for kind in fleet.types))
    first, *others = fleet.types
    whole = replace(
        first,
        initial=sum(kind.initial for kind in fleet.types),
        minimum=sum(kind.minimum for kind in fleet.types),
        maximum=sum(kind.maximum for kind in fleet.types),
    )
    return replace(fleet, types=(_of_profile(whole if others else first, profile, profile.name),), max_gpus=None)


def _of_profile(kind: WorkerType, profile: LatencyProfile, name: str) -> WorkerType:
    price = next((p for gpu, p in _PRICES.items() if gpu in profile.provenance.gpu), kind.price_per_gpu_hour)
    return replace(kind, name=name, profile=profile, price_per_gpu_hour=price, kv_capacity_tokens=None)


def with_maximum(fleet: Fleet, most: int) -> Fleet:
    """At most so many workers of each type."""
    if most < 1:
        raise InputError("--max-workers", most, "give 1 or more")
    types = tuple(
        replace(kind, maximum=most, initial=min(kind.initial, most), minimum=min(kind.minimum, most))
        for kind in fleet.types
    )
    return replace(fleet, types=types)


def fixed_counts(scenario: Scenario, given: list[str] | None) -> tuple[int, ...] | None:
    """Workers of each type that ``--workers`` asks for; None where it was not given.

    Raises:
        InputError: no number, an unknown type, a type left out.
    """
    if not given:
        return None
    names = [kind.name for kind in scenario.fleet.types]
    if len(given) == 1 and "=" not in given[0]:
        if len(names) > 1:
            raise InputError("--workers", given[0], f"give a number for each type: {_example(names)}")
        given = [f"{names[0]}={given[0]}"]
    counts = dict.fromkeys(names, 0)
    for item in given:
        name, equals, number = item.partition("=")
        if not equals:
            raise InputError("--workers", item, f"write {_example(names)}")
        if name not in counts:
            raise InputError("--workers", item, suggest(name, names))
        counts[name] = _whole(number)
    if sum(counts.values()) == 0:
        raise InputError("--workers", " ".join(given), "give at least one worker")
    return tuple(counts.values())


def _example(names: list[str]) -> str:
    return " ".join(f"--workers {name}=2" for name in names)


def _whole(text: str) -> int:
    if not text.strip().isdecimal() or not 0 <= int(text) <= 8192:
        raise InputError("--workers", text, "give a whole number, at most 8192")
    return int(text)


def seeds_from(first: int, count: int) -> tuple[int, ...]:
    """The seeds ``first``, ``first + 1``, ...

    Raises:
        InputError: none, or a negative one.
    """
    if count < 1:
        raise InputError("--seeds", count, "give 1 or more")
    if first < 0:
        raise InputError("--seed", first, "give 0 or more")
    return tuple(range(first, first + count))


def checked_jobs(jobs: int | None) -> int | None:
    """The number of processes, if it is one."""
    if jobs is not None and not 1 <= jobs <= 256:
        raise InputError("--jobs", jobs, "give 1 to 256")
    return jobs
