"""Small clusters for tests: scenarios, hand-made states, and states out of running simulations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from aladdin_env import SLO, Fleet, Scenario, WorkerType, Workload
from aladdin_env.latency import DecodeLaw, LatencyProfile, PrefillLaw, Provenance
from aladdin_env.policy import Kernel
from aladdin_env.scenario import ColdStart
from aladdin_env.simulator.setup import Room, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import NONE, World, allocate
from aladdin_env.view import ClusterView, RequestView

K1, C1 = 1e-4, 5e-3
K2, C2, C3 = 2e-7, 1e-5, 8e-3
OVERHEAD, OVERLAP = 0.01, 2e-3


def profile(name: str = "toy", speed: float = 1.0, gpus: int = 1, kv: int = 40_000) -> LatencyProfile:
    """The paper's linear laws; ``speed`` 2 is twice as fast."""
    return LatencyProfile(
        name,
        PrefillLaw.linear(K1 / speed, C1 / speed),
        DecodeLaw.linear(K2 / speed, C2 / speed, C3 / speed),
        OVERLAP / speed,
        OVERHEAD,
        1e5,
        0.0,
        kv,
        gpus,
        Provenance("toy", "none", gpus, "none", "0", "2026-01-01", "by hand", "by hand", {}),
    )


def kind(name: str = "a", workers: int = 2, **changes: object) -> WorkerType:
    """A worker type of a fixed number of toy workers."""
    plain = {
        "initial": workers,
        "minimum": workers,
        "maximum": workers,
        "scheduler": "prefill_first",
        "cold_start": ColdStart(30.0),
    }
    return WorkerType(name, changes.pop("profile", profile()), **{**plain, **changes})  # type: ignore[arg-type]


def scenario_of(
    requests: list[tuple[float, int, int]] | list[tuple[float, int, int, int]],
    *types: WorkerType,
    slo: SLO | None = None,
    **changes: object,
) -> Scenario:
    """A scenario with these requests: arrival, prompt, output and perhaps class."""
    columns = list(zip(*requests, strict=True))
    workload = Workload.from_arrays(*columns)
    return Scenario("test", workload, Fleet(types), slo=slo or SLO(1.0, 0.03), horizon_s=None, **changes)  # type: ignore[arg-type]


def random_requests(n: int, rate: float, seed: int, long: float = 0.1) -> list[tuple[float, int, int]]:
    """Poisson arrivals; mostly short prompts, some long ones."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rate, n))
    prompt = np.where(rng.random(n) < long, rng.integers(1000, 4000, n), rng.integers(1, 400, n))
    output = rng.geometric(1 / 80, n)
    return list(zip(arrival.tolist(), prompt.tolist(), output.tolist(), strict=True))


@dataclass
class State:
    """A world made by hand: workers are READY and idle, requests have not arrived."""

    world: World
    kernel: Kernel

    def choose(self, r: int = 0) -> int:
        """The kernel's decision for request ``r``."""
        view = ClusterView(self.world, None)  # type: ignore[arg-type]
        return self.kernel.place(view, RequestView(view.requests, r))


def state(scenario: Scenario, make: Callable[[Scenario], Kernel], predicted: float = 100.0) -> State:
    """The world of ``scenario`` at time 0, before anything has arrived."""
    kernel = make(scenario)
    draws = draw(scenario, np.random.default_rng(0))
    world = one(allocate(1, shape_of(scenario, Room.of(scenario, draws), len(kernel.memory), False)), 0)
    write_static(world, scenario)
    load(world, scenario, draws, kernel.memory)
    world.requests["predicted_tokens"] = predicted
    return State(world, kernel)


def put_counts(world: World, running: object, waiting: object = 0, inbound: object = 0) -> None:
    """Let every worker have so many requests, without saying which."""
    for name, counts in (("running", running), ("waiting", waiting), ("inbound", inbound)):
        world.workers[name] = counts
    world.workers["members"] = sum(world.workers[name] for name in ("running", "waiting", "inbound"))


def put_running(world: World, w: int, r: int, generated: int, first_token_s: float) -> None:
    """Let request ``r`` decode on worker ``w`` with so many tokens behind it (worker.decode_steps stays as it is)."""
    worker, request = world.workers[w], world.requests[r]
    steps = int(worker["decode_steps"])
    request["decoding"], request["worker"], request["first_token_s"] = 1, w, first_token_s
    request["joined_step"], request["generated"] = steps - generated, generated
    request["computed"] = request["prompt_tokens"] + generated - 1
    request["next"], request["prev"] = NONE, worker["run_tail"]
    if worker["run_tail"] != NONE:
        world.requests["next"][int(worker["run_tail"])] = r
    else:
        world.workers["run_head"][w] = r
    world.workers["run_tail"][w] = r
    world.workers["running"][w] += 1
    world.workers["members"][w] += 1
    world.workers["decoding"][w] += 1
    world.workers["context_tokens"][w] += request["prompt_tokens"] + generated
    world.workers["member_prompt_tokens"][w] += request["prompt_tokens"]
    world.workers["member_predicted_tokens"][w] += request["predicted_tokens"]
    blocks = -(-int(request["computed"]) // int(worker["block_size"]))
    world.workers["kv_used_blocks"][w] += blocks
    klass = int(request["klass"])
    overhead = world.laws[int(worker["type_index"]), 2]
    key = first_token_s - overhead - world.slo[klass, 1] * int(world.requests["joined_step"][r])
    world.workers["slack_key_s"][w, klass] = min(world.workers["slack_key_s"][w, klass], key)


def put_waiting(world: World, w: int, r: int) -> None:
    """Let request ``r`` wait on worker ``w``."""
    request = world.requests[r]
    tail = int(world.workers["wait_tail"][w])
    world.requests["worker"][r], world.requests["next"][r], world.requests["prev"][r] = w, NONE, tail
    if tail != NONE:
        world.requests["next"][tail] = r
    else:
        world.workers["wait_head"][w] = r
    world.workers["wait_tail"][w] = r
    world.workers["waiting"][w] += 1
    world.workers["members"][w] += 1
    world.workers["waiting_prefill_tokens"][w] += request["prompt_tokens"]
    world.workers["member_prompt_tokens"][w] += request["prompt_tokens"]
    world.workers["member_predicted_tokens"][w] += request["predicted_tokens"]


class Watcher:
    """A placement in Python that shows every decision's state to a check, then places at random."""

    name = "watcher"

    def __init__(self, check: Callable[[ClusterView, RequestView, int], None]) -> None:
        self.check = check
        self.seen = 0

    def place(self, view: ClusterView, request: RequestView) -> int:
        candidates = view.candidates(request)
        for w in candidates:
            self.check(view, request, int(w))
            self.seen += 1
        return int(candidates[int(request.coin * len(candidates))])
