"""Small clusters of every kind, and policies to put inside environments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from aladdin_env.policy import Kernel, placement_kernel
from aladdin_env.scenario import SLO, ColdStart, Failures, Fleet, Scenario, SLOClass, WorkerType
from aladdin_env.simulator.router import can_place
from aladdin_traces import LENGTHS, Poisson, Workload

PROFILE = "llama-3.1-8b-h100-tp1"


@placement_kernel("fewest")
def fewest(workers, requests, cluster, types, laws, slo, lengths, memory, r):
    best, least = -2, 1 << 30
    for w in range(workers.shape[0]):
        load = workers[w].running + workers[w].waiting + workers[w].inbound
        if can_place(workers, requests, w, r) and load < least:
            best, least = w, load
    return best


class FewestInPython:
    """The same in Python; notes what it is told."""

    name = "fewest in Python"

    def __init__(self):
        self.finished = 0

    def reset(self, scenario):
        self.finished = 0

    def place(self, view, request):
        slots = view.candidates(request)
        workers = view.workers[slots]
        return slots[(workers["running"] + workers["waiting"] + workers["inbound"]).argmin()]

    def on_finish(self, view, request, time_s):
        self.finished += 1


class UpAndDown:
    """A scaler with memory: one worker more at each heartbeat for a while, then fewer."""

    name = "up and down"

    def __init__(self):
        self.beats = 0

    def reset(self, scenario):
        self.beats = 0

    def scale(self, view):
        self.beats += 1
        step = 1 if self.beats % 8 < 4 else -1
        return [view.workers_of(k) + step for k in range(len(view.types))]


def _kind(name: str, initial: int, maximum: int, **more: object) -> WorkerType:
    cold = ColdStart(3.0, 0.3, "uniform")
    return WorkerType(name, PROFILE, initial, min(1, initial), maximum, 3.0, cold, **more)  # type: ignore[arg-type]


SCENARIOS: dict[str, Callable[[], Fleet]] = {
    "fixed": lambda: Fleet((replace(_kind("a", 4, 4), minimum=4),)),
    "elastic": lambda: Fleet((_kind("a", 2, 4), replace(_kind("b", 1, 3), price_per_gpu_hour=5.0)), max_gpus=6),
    "tight": lambda: Fleet((_kind("a", 2, 4, kv_capacity_tokens=6000, max_num_seqs=16, scheduler="prefill_first"),)),
    "split": lambda: Fleet(
        (_kind("p", 2, 3, scheduler="split", role="prefill"), _kind("d", 2, 4, scheduler="split", role="decode"))
    ),
    "failing": lambda: Fleet((_kind("a", 3, 5),), failures=Failures(mtbf_s=20.0, repair_s=4.0)),
}


@pytest.fixture(scope="session")
def scenario() -> Callable[..., Scenario]:
    """``scenario(kind, horizon_s, rate)``: one of the small clusters."""

    def make(kind: str = "elastic", horizon_s: float = 20.0, rate: float = 12.0) -> Scenario:
        classes = (SLOClass("chat", 0.5, 0.03), SLOClass("batch", 5.0, 0.2))
        return Scenario(
            kind,
            Workload.generated(Poisson(rate), LENGTHS["sharegpt"], (0.7, 0.3)),
            SCENARIOS[kind](),
            SLO(classes=classes),
            horizon_s=horizon_s,
            heartbeat_s=2.0,
            max_hold_s=3.0,
            start_of_day_s=40000.0,
        )

    return make


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    return fewest


@pytest.fixture
def python_policy() -> FewestInPython:
    return FewestInPython()


@pytest.fixture
def scaler() -> UpAndDown:
    return UpAndDown()


@pytest.fixture
def play() -> Callable[..., tuple[list[float], dict]]:
    """``play(env, choose, seed)``: rewards of an episode, and its last info."""

    def run(env, choose, seed=0):
        observation, info = env.reset(seed=seed)
        rewards, over = [], False
        while not over:
            observation, reward, terminated, truncated, info = env.step(choose(env, observation))
            rewards.append(reward)
            over = terminated or truncated
        return rewards, info

    return run
