"""Scenarios and loaded worlds that the benchmarks time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aladdin_env.errors import InputError
from aladdin_env.policy import Kernel, make_policy
from aladdin_env.scenario import SLO, Fleet, Scenario, WorkerType
from aladdin_env.simulator.core import DONE, advance
from aladdin_env.simulator.setup import Draws, Room, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import World, allocate
from aladdin_traces import Poisson, Workload

RATE_PER_WORKER_RPS = 5.0
REQUESTS = 200_000
PROFILE = "llama-3.1-8b-a100-tp1"


def bench_scenario(workers: int, scheduler: str, requests: int = REQUESTS) -> Scenario:
    """A fixed fleet of Llama-3.1-8B on A100 under ShareGPT lengths, busy but within its SLO for 99.9 % of the requests.

    Poisson arrivals of 5 requests/s per worker, for as long as brings about ``requests`` of them.
    """
    rate = RATE_PER_WORKER_RPS * workers
    kind = WorkerType("a100", PROFILE, initial=workers, minimum=workers, maximum=workers, scheduler=scheduler)
    return Scenario(
        name=f"bench-{workers}-{scheduler}",
        workload=Workload.generated(Poisson(rate), "sharegpt"),
        fleet=Fleet((kind,)),
        slo=SLO(ttft_s=1.0, atgt_s=0.025),
        horizon_s=requests / rate,
    )


def kernel_of(policy: str, scenario: Scenario) -> Kernel:
    """The compiled placement ``policy``.

    Raises:
        InputError: an unknown name, or a placement in Python.
    """
    kernel = make_policy(policy, scenario).kernel
    if kernel is None:
        raise InputError("placement", policy, "choose a compiled one for this benchmark")
    return kernel


@dataclass
class Bench:
    """One episode under one compiled placement, without Python between its events."""

    scenario: Scenario
    draws: Draws
    kernel: Kernel
    world: World

    @classmethod
    def of(cls, scenario: Scenario, policy: str, seed: int = 0) -> Bench:
        """Drawn and allocated, not loaded."""
        kernel = kernel_of(policy, scenario)
        draws = draw(scenario, np.random.default_rng(seed))
        shape = shape_of(scenario, Room.of(scenario, draws), len(kernel.memory), log=False)
        world = one(allocate(1, shape), 0)
        write_static(world, scenario)
        return cls(scenario, draws, kernel, world)

    def load(self) -> None:
        """Reset to the start of the episode."""
        load(self.world, self.scenario, self.draws, self.kernel.memory)

    def advance(self, until_s: float = math.inf) -> bool:
        """Go on to ``until_s``; whether everything has ended."""
        reason = advance(self.world, until_s, self.kernel.function, True, self.kernel.needs_progress)
        return bool(reason == DONE)

    def whole(self) -> None:
        """The whole episode: load the draws, run to the end of the last request."""
        self.load()
        self.advance()

    @property
    def requests(self) -> int:
        """Requests of the episode."""
        return len(self.draws.trace)


def best_s(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of ``repeats`` calls, after one that warms up (and compiles)."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)
