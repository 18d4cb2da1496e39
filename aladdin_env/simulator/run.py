"""The Python face of the simulator: one episode under one policy."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from aladdin_env.errors import InputError
from aladdin_env.metrics import FleetHistory, Result
from aladdin_env.policy import Combined, combine, make_policy, placement_kernel
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.answers import HOOKS, bad_slot, carry_out_scaling, slot_answered, tell
from aladdin_env.simulator.core import ASK, BAD_ANSWER, BEAT, DONE, LOG_FULL, TIME, advance, sync_all
from aladdin_env.simulator.fleet import accrue
from aladdin_env.simulator.setup import Draws, Room, check, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import (
    HOLD,
    Array,
    World,
    allocate,
)
from aladdin_env.view import ClusterView, RequestView


@placement_kernel("hold")
def _hold(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """Stands in for the kernel where a Python policy decides; never called."""
    return HOLD


_BEATS_PER_REPORT = 16


class Simulator:
    """One cluster, one drawn episode, advanced under a policy.

    Args:
        scenario: What to simulate.
        seed: Seed of everything random, or a generator.
        draws: An episode drawn before, to run several policies on exactly the same one.

    Raises:
        InputError: no request at all, a prompt that fits nowhere, an SLO that cannot be met.
    """

    def __init__(self, scenario: Scenario, seed: int | np.random.Generator = 0, *, draws: Draws | None = None) -> None:
        self.scenario = scenario
        self.draws = draws if draws is not None else draw(scenario, _generator(seed))
        check(scenario, self.draws.trace)

    def run(
        self, policy: object, *, until_s: float = np.inf, progress: Callable[[float], None] | None = None
    ) -> Result:
        """Simulate the whole episode (or up to ``until_s``) under ``policy``, from the start.

        Args:
            policy: A name such as ``"aladdin"`` or ``"least_request+kpa"``, or an object (see ``aladdin_env.policy``).
            until_s: Stop at this time; requests that have not ended by then count as unserved.
            progress: Called now and then with the part done, 0 to 1.
        """
        chosen = make_policy(policy, self.scenario) if isinstance(policy, str) else combine(policy)
        episode = _Episode(self.scenario, self.draws, chosen, progress)
        episode.run(until_s)
        return Result(self.scenario, chosen.name, episode.world, len(self.draws.trace), episode.fleet)


def _generator(seed: object) -> np.random.Generator:
    if isinstance(seed, np.random.Generator):
        return seed
    if not isinstance(seed, Integral) or int(seed) < 0:
        raise InputError("seed", seed, "give a whole number from 0, or a numpy Generator")
    return np.random.default_rng(int(seed))


class _Episode:
    """The loop between the compiled core and what only Python can do: scaling, Python policies, hooks."""

    def __init__(
        self, scenario: Scenario, draws: Draws, policy: Combined, progress: Callable[[float], None] | None
    ) -> None:
        self.policy = policy
        self.kernel = policy.kernel
        self._hooks = {name: policy.hooks(name) for name in HOOKS}
        log = any(self._hooks.values())
        memory: NDArray[np.float64] = self.kernel.memory if self.kernel else np.zeros(0)
        shape = shape_of(scenario, Room.of(scenario, draws), len(memory), log)
        self.world: World = one(allocate(1, shape), 0)
        write_static(self.world, scenario)
        self.world.control[0]["log_on"] = log
        self.world.control[0]["beat_returns"] = True  # the fleet over time is part of the result
        load(self.world, scenario, draws, memory)
        self.view = ClusterView(self.world, scenario)
        self.fleet = FleetHistory(self.world)
        self._last_arrival_s = float(draws.trace.arrival_s[-1])
        self._progress = progress
        for hook in policy.hooks("reset"):
            hook(scenario)

    def run(self, until_s: float) -> None:
        """Advance until everything has ended or ``until_s``."""
        fixed = self.kernel is not None
        function = self.kernel.function if self.kernel else _hold.function
        progress = self.kernel.needs_progress if self.kernel else True
        control = self.world.control[0]
        while True:
            reason = advance(self.world, until_s, function, fixed, progress)
            if reason in (ASK, BEAT, DONE, TIME, LOG_FULL):
                tell(self._hooks, self.world, self.view)
            if reason == ASK:
                control["answer"] = self._place(int(control["asked"]))
            elif reason == BEAT:
                self._beat()
            elif reason == BAD_ANSWER:
                raise bad_slot(self.policy.placement.name, self.world, self.view)
            elif reason in (DONE, TIME):
                break
        end_s = float(control["last_end_s"]) if reason == DONE else until_s
        accrue(self.world.cluster, end_s)
        self.fleet.close(end_s)
        if self._progress:
            self._progress(1.0)

    def _place(self, r: int) -> int:
        return slot_answered(
            self.policy.placement.name, self.policy.place(self.view, RequestView(self.view.requests, r))
        )

    def _beat(self) -> None:
        if self.policy.scales:
            sync_all(self.world, self.view.now_s)
            carry_out_scaling(self.policy.scaler.name, self.policy.scale(self.view), self.world)
        self.fleet.note()
        if self._progress and int(self.world.cluster[0]["beats"]) % _BEATS_PER_REPORT == 0:
            self._progress(min(1.0, self.view.now_s / max(self._last_arrival_s, 1e-9)))


def simulate(
    scenario: Scenario, policy: object = "aladdin", seed: int = 0, *, progress: Callable[[float], None] | None = None
) -> Result:
    """Simulate ``scenario`` under ``policy`` (a name or an object), all random choices from ``seed``."""
    return Simulator(scenario, seed).run(policy, progress=progress)
