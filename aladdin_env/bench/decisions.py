"""Time of a single placement decision in a busy cluster."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from aladdin_env.bench.worlds import Bench, bench_scenario
from aladdin_env.compiled import compiled
from aladdin_env.simulator.core import sync_all
from aladdin_env.simulator.predictor import predict_length
from aladdin_env.simulator.state import Array, World

STATES, BATCH, WARM_S, GAP_S = 40, 50, 60.0, 2.0


@compiled
def _predict(requests: Array, lengths: Array, first: int, last: int, prior_tokens: float, prior_weight: float) -> None:
    for r in range(first, last):
        requests[r].predicted_tokens = predict_length(lengths, requests[r].prompt_tokens, prior_tokens, prior_weight)


@compiled
def _decide(world: World, kernel: Any, first: int, last: int, with_progress: bool) -> int:
    """The decisions for requests ``first`` to ``last``, each as the core takes it; nothing is placed."""
    total = 0
    for r in range(first, last):
        if with_progress:
            sync_all(world, world.cluster[0].now_s)
        total += kernel(
            world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, world.lengths,
            world.memory, r,
        )  # fmt: skip
    return total


def decision_us(workers: int, policy: str = "aladdin", scheduler: str = "prefill_first") -> float:
    """Median microseconds of one decision, at about 5 requests/s per worker.

    The policy itself runs the cluster; it is paused every 2 simulated seconds after the first minute, 40 times. In each
    pause the placements of the next 50 requests to come are decided one after the other by the compiled kernel, without
    placing any; before each the view of all workers is brought up to date, as the simulator does for policies that ask
    for it. A pause gives the time of its 50 decisions over 50; reported is the median over the pauses. The one call
    from Python per pause (about 1 us) is in.
    """
    horizon_requests = int((WARM_S + (STATES + 5) * GAP_S) * 5.0 * workers) + 200
    bench = Bench.of(bench_scenario(workers, scheduler, horizon_requests), policy)
    bench.load()
    return float(np.median([_pause_us(bench, WARM_S + i * GAP_S) for i in range(STATES)]))


def _pause_us(bench: Bench, at_s: float) -> float:
    """Microseconds per decision in the pause at ``at_s``."""
    bench.advance(at_s)
    world = bench.world
    first = int(world.control[0]["next_arrival"])
    last = min(first + BATCH, bench.requests)
    prior = bench.scenario.predictor
    _predict(world.requests, world.lengths, first, last, prior.prior_tokens, prior.prior_weight)
    kernel, memory = bench.kernel, world.memory.copy()
    if at_s == WARM_S:  # compile
        _decide(world, kernel.function, first, last, kernel.needs_progress)
    start = time.perf_counter()
    _decide(world, kernel.function, first, last, kernel.needs_progress)
    took_s = time.perf_counter() - start
    world.memory[:] = memory  # what the kernel remembers of decisions that were not carried out
    return took_s / (last - first) * 1e6
