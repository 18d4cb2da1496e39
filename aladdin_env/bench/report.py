"""The figures of ``aladdin bench`` by name, and how each is got."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

from aladdin_env.errors import InputError, suggest

ALADDIN, LEAST_REQUEST = "aladdin", "least_request"


@dataclass(frozen=True)
class Figure:
    """One benchmark.

    Attributes:
        name: Its key; others that it also gives follow in the report.
        unit: For people.
        what: What exactly is timed.
        measure: Gives the value, or several values by key.
    """

    name: str
    unit: str
    what: str
    measure: Callable[[], float | dict[str, float]]


def _sim(workers: int, scheduler: str, policy: str) -> Callable[[], float]:
    def measure() -> float:
        from aladdin_env.bench.throughput import sim_rps  # compiles on import

        return sim_rps(workers, scheduler, policy)

    return measure


def _decision(workers: int) -> Callable[[], float]:
    def measure() -> float:
        from aladdin_env.bench.decisions import decision_us

        return decision_us(workers, ALADDIN)

    return measure


def _memory() -> dict[str, float]:
    from aladdin_env.bench import memory

    return {
        "bytes_per_request": memory.bytes_per_request(),
        "resident_bytes_per_request": memory.resident_bytes_per_request(),
    }


def _result() -> float:
    from aladdin_env.bench.throughput import result_rps

    return result_rps(16, "prefill_first", LEAST_REQUEST)


def _day() -> dict[str, float]:
    from aladdin_env.bench.throughput import day

    return day()


def _envs(function: str) -> Callable[[], float]:
    def measure() -> float:
        return float(getattr(import_module("aladdin_env.bench.envs"), function)())

    return measure


_WHOLE = "200,000 requests, ShareGPT lengths, 5/s per worker: load and run, best of 5, one core"

FIGURES: tuple[Figure, ...] = (
    Figure("sim_rps_16", "requests/s", f"least_request, prefill_first, 16 workers. {_WHOLE}",
           _sim(16, "prefill_first", LEAST_REQUEST)),
    Figure("sim_rps_256", "requests/s", "the same with 256 workers", _sim(256, "prefill_first", LEAST_REQUEST)),
    Figure("sim_chunked_rps_16", "requests/s", "the same with 16 workers and chunked prefill",
           _sim(16, "chunked", LEAST_REQUEST)),
    Figure("aladdin_sim_rps_16", "requests/s", "the first with Aladdin's placement",
           _sim(16, "prefill_first", ALADDIN)),
    Figure("result_rps_16", "requests/s", "the first through Simulator.run: also fleet history, percentiles", _result),
    Figure("aladdin_decision_us_16", "us", "median of one placement by Aladdin, view brought up to date, 16 workers",
           _decision(16)),
    Figure("aladdin_decision_us_256", "us", "the same with 256 workers", _decision(256)),
    Figure("bytes_per_request", "bytes", "all arrays of a simulation over its requests",
           _memory),
    Figure("vec_env_steps_per_s", "steps/s", "native vector environment, all environments counted",
           _envs("vec_env_steps_per_s")),
    Figure("env_steps_per_s", "steps/s", "single environment", _envs("env_steps_per_s")),
    Figure("day_s", "s", "a day of diurnal: draw 3.9 million requests, load, run (least_request, fixed fleet), summary",
           _day),
)  # fmt: skip

RATIOS = {
    "rps_256_over_16": ("sim_rps_256", "sim_rps_16"),
    "chunked_over_prefill_first": ("sim_chunked_rps_16", "sim_rps_16"),
    "aladdin_over_least_request": ("aladdin_sim_rps_16", "sim_rps_16"),
    "decision_256_over_16": ("aladdin_decision_us_256", "aladdin_decision_us_16"),
}

#: What the further values are.
DERIVED = {name: " / ".join(pair) for name, pair in RATIOS.items()} | {
    "aladdin_extra_us_16": "us; 1 / aladdin_sim_rps_16 - 1 / sim_rps_16: cross-check of aladdin_decision_us_16",
    "resident_bytes_per_request": "bytes; growth of a fresh process's peak resident memory per further request",
    "day_draw_s": "s; of it drawing the requests",
    "day_run_s": "s; of it everything after drawing: load, run, heartbeats, summary",
    "day_requests": "requests of that day",
}


def figure_names() -> list[str]:
    """Names of all benchmarks."""
    return [figure.name for figure in FIGURES]


def run_bench(only: Iterable[str] | None = None, progress: Callable[[float], None] | None = None) -> dict[str, float]:
    """Measure, one after the other; ratios of what was measured in this run follow.

    Args:
        only: Names of benchmarks; all by default.
        progress: Told how many are done.

    Raises:
        InputError: an unknown name.
    """
    wanted = figure_names() if only is None else list(only)
    for name in wanted:
        if name not in figure_names():
            raise InputError("benchmark", name, suggest(name, figure_names()))
    values: dict[str, float] = {}
    for done, figure in enumerate([figure for figure in FIGURES if figure.name in wanted], start=1):
        value = figure.measure()
        values |= value if isinstance(value, dict) else {figure.name: value}
        if progress:
            progress(done)
    return values | _derived(values)


def _derived(values: dict[str, float]) -> dict[str, float]:
    """Ratios, and a cross-check of the decision time: what a request costs more under Aladdin than least_request."""
    found = {
        name: values[over] / values[under]
        for name, (over, under) in RATIOS.items()
        if over in values and under in values
    }
    if {"aladdin_sim_rps_16", "sim_rps_16"} <= set(values):
        found["aladdin_extra_us_16"] = 1e6 / values["aladdin_sim_rps_16"] - 1e6 / values["sim_rps_16"]
    return found
