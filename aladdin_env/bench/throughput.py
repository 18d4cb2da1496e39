"""Simulated requests per second of wall time, on one core."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from aladdin_env.bench.worlds import REQUESTS, Bench, bench_scenario, best_s
from aladdin_env.presets import load_scenario

REPEATS = 5
DAY_POLICY = "least_request"


def sim_rps(workers: int, scheduler: str, policy: str, requests: int = REQUESTS) -> float:
    """Requests per second of a whole episode: loading its draws into arrays and running to the last request's end.

    Best of several repeats after a warm-up. Not timed: drawing the requests, and the percentiles of the result.
    """
    bench = Bench.of(bench_scenario(workers, scheduler, requests), policy)
    return bench.requests / best_s(bench.whole, REPEATS)


def result_rps(workers: int, scheduler: str, policy: str, requests: int = REQUESTS) -> float:
    """The same through ``Simulator.run``: heartbeats with the fleet's history, and the summary with its percentiles."""
    from aladdin_env.simulator.run import Simulator  # compiles on import

    simulator = Simulator(bench_scenario(workers, scheduler, requests), seed=0)
    return len(simulator.draws.trace) / best_s(lambda: simulator.run(policy), REPEATS)


def day(requests_share: float = 1.0) -> dict[str, float]:
    """Seconds of a day of ``diurnal``: drawing 3.9 million requests; then load, run, heartbeats and summary.

    A fixed fleet of the preset's initial workers under ``least_request``; compiled code is warm.
    """
    from aladdin_env.simulator.run import Simulator

    base = load_scenario("diurnal")
    assert base.horizon_s is not None
    scenario = replace(base, horizon_s=base.horizon_s * requests_share)
    fixed = scenario.with_workers(tuple(kind.initial for kind in scenario.fleet.types))
    Simulator(replace(fixed, horizon_s=60.0), seed=0).run(DAY_POLICY)
    start = time.perf_counter()
    simulator = Simulator(fixed, np.random.default_rng(0))
    drawn = time.perf_counter()
    simulator.run(DAY_POLICY)
    end = time.perf_counter()
    return {
        "day_s": end - start,
        "day_draw_s": drawn - start,
        "day_run_s": end - drawn,
        "day_requests": float(len(simulator.draws.trace)),
    }
