"""The clairvoyant bound of a fixed fleet, of one worker type or several (docs/yardsticks.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from aladdin_env.compare import TARGET
from aladdin_env.scenario import Scenario
from aladdin_traces import Trace

_PIECES = (1, 2, 4, 8, 16)


def price_per_s(scenario: Scenario, counts: Sequence[int]) -> float:
    """Currency per second of so many workers of each type."""
    return sum(n * kind.price_per_s for n, kind in zip(counts, scenario.fleet.types, strict=True))


def least_fleet(scenario: Scenario, trace: Trace) -> tuple[float, float]:
    """GPUs (NaN where there are several types) and price per second, below which no fixed fleet holds the target."""
    least_per_s = least_price_per_s(scenario, trace)
    if len(scenario.fleet.types) > 1:
        return math.nan, least_per_s
    (kind,) = scenario.fleet.types
    workers = math.ceil(least_per_s / kind.price_per_s - 1e-9)
    return float(workers * kind.gpus), workers * kind.price_per_s


def least_price_per_s(scenario: Scenario, trace: Trace) -> float:
    """Currency per second, below which no fixed fleet of the scenario's types holds the target, in any proportions.

    What arrives in a window and must end in it is done within its length, or missed. All misses may fall into one
    window.
    """
    from aladdin_env.yardsticks import lower_bound  # SciPy's optimisers take a while to import

    misses = math.floor((1.0 - TARGET) * len(trace) + 1e-9)
    types = tuple(replace(kind, minimum=0) for kind in scenario.fleet.types)
    free = replace(scenario, fleet=replace(scenario.fleet, types=types))
    best = 0.0
    for seconds, inside in _windows(scenario, trace):
        if len(inside) > misses:
            best = max(best, lower_bound(free, inside, 1.0 - misses / len(inside)).value / seconds)
    return best


def _windows(scenario: Scenario, trace: Trace) -> Iterator[tuple[float, Trace]]:
    """The whole, its fuller half, its fullest quarter, ...: seconds, and what arrives and must end within them.

    Of prompts that share blocks, all requests: which tokens are nobody else's is a question to the whole trace.
    """
    goal = scenario.slo.targets()[trace.klass]
    due_s = trace.arrival_s + goal[:, 0] + goal[:, 1] * (trace.output_tokens - 1)
    if trace.prefix_blocks is not None:
        yield float(due_s.max()), trace
        return
    tokens = trace.prompt_tokens.astype(np.float64) + trace.output_tokens
    for pieces in _PIECES:
        edges = np.linspace(0.0, trace.duration_s, pieces + 1)
        inside = [(trace.arrival_s >= start_s) & (due_s <= end_s) for start_s, end_s in pairwise(edges.tolist())]
        fullest = max(inside, key=lambda one: float(tokens[one].sum()))
        yield trace.duration_s / pieces, trace.take(np.flatnonzero(fullest))
