"""Placements of decode workers over one and the same prefill pool, for split fleets."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numba

from aladdin_agents.baselines import fewest_members
from aladdin_env.compare import Contender
from aladdin_env.policy import Kernel, make_policy
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.core import KERNEL_SIGNATURE
from aladdin_env.simulator.state import NEW, Array


def on_decode(name: str) -> Contender:
    """A shipped placement for decode workers; the prefill pool joins the shortest queue."""
    return Contender(name, partial(_make, name))


def _make(name: str, scenario: Scenario) -> Kernel:
    inner = make_policy(name, scenario).kernel
    assert inner is not None  # all shipped ones are compiled
    return Kernel(name, _by_phase(inner.function.__wrapped__), True, inner.memory)


@cache
def _by_phase(decode: Any) -> Any:
    """A kernel of two. Not kept on disk, where a change in ``decode`` would go unnoticed: some seconds per process."""
    options: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
    decide = numba.njit(**options)(decode)

    def by_phase(
        workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
        memory: Array, r: int,
    ) -> int:  # fmt: skip
        if requests[r].stage == NEW:
            return fewest_members(workers, requests, r)
        return int(decide(workers, requests, cluster, types, laws, slo, lengths, memory, r))

    return numba.cfunc(KERNEL_SIGNATURE, **options)(by_phase)
