"""The control loop: at every heartbeat predict, propose, constrain, act.

Guard rails stand outside every policy. They are applied in this order, and each that changes something is named:
``stale`` (metrics are too old: nothing is stopped), ``canary`` (under ``canary`` one worker more or less than there
is), ``infeasible`` (an empty worker could not meet the objectives: no more are started), ``step`` (so many workers at a
time), ``cooldown`` (nothing is stopped so soon after the last change), ``limits``
(fewest and most workers), ``budget`` (GPUs in all). Under ``shadow`` the baseline's scaler acts. What loads or is busy
is never stopped: that is the pool's promise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aladdin_env.bridge.decider import CANARY, SHADOW, Decider
from aladdin_env.bridge.events import Beat, Watcher
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.workers.pool import WorkerPool
from aladdin_env.errors import OutsideFault
from aladdin_env.policy import Combined
from aladdin_env.simulator import laws
from aladdin_env.simulator.state import FAILED, READY, STARTING
from aladdin_traces import checks

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Guards:
    """Limits on what any policy can do.

    Attributes:
        step: Most workers of a type that are started or stopped at a heartbeat.
        cooldown_s: No worker is stopped within this time after the last change of what is wanted.
        gpu_budget: Most GPUs in all; None: as many as the limits allow.
    """

    step: int = 4
    cooldown_s: float = 60.0
    gpu_budget: int | None = None

    def __post_init__(self) -> None:
        checks.whole("step", self.step, low=1, high=8192)
        checks.number("cooldown_s", self.cooldown_s, low=0.0)
        if self.gpu_budget is not None:
            checks.whole("gpu_budget", self.gpu_budget, low=1, high=1 << 30)


class ControlLoop:
    """Scales the pool.

    Args:
        cluster: What policies see.
        decider: Which policy acts.
        pool: The workers.
        guards: What limits it.
        watcher: Hears of each heartbeat.
        offer: Called after each: those who wait may find a worker now.
        clock: Seconds since the bridge began.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        decider: Decider,
        pool: WorkerPool,
        guards: Guards,
        watcher: Watcher,
        offer: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], object] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._decider = decider
        self._pool = pool
        self._guards = guards
        self._watcher = watcher
        self._offer = offer
        self._clock = clock
        self._sleep = sleep
        self._changed_s = -np.inf
        self._types = cluster.view.scenario.fleet.types

    async def run(self) -> None:
        """A heartbeat after the other, until cancelled; a failing pool is asked again at the next."""
        every_s = self._cluster.view.scenario.heartbeat_s
        due_s = self._clock() + every_s
        while True:
            await self._sleep(max(0.0, due_s - self._clock()))  # type: ignore[misc]
            due_s = max(due_s, self._clock() - every_s) + every_s
            await self.beat()

    async def beat(self) -> Beat:
        """One heartbeat."""
        now_s = self._clock()
        self._cluster.heartbeat(now_s)
        began_s = time.perf_counter()
        proposed = self._proposed()
        took_s = time.perf_counter() - began_s
        wanted, rails = self.constrained(proposed, now_s)
        if wanted != self._pool.wanted:  # a pool that somebody else scales notes it
            self._changed_s = now_s
            try:
                await self._pool.scale_to(wanted)
            except OutsideFault as fault:
                _log.warning("not scaled: %s", fault)
                rails = (*rails, "pool failed")
        beat = Beat(now_s, self._decider.mode, self.have(), proposed, wanted, rails, took_s)
        self._watcher.beat(beat)
        self._offer()
        return beat

    def have(self) -> tuple[int, ...]:
        """Workers of each type that serve or are to come."""
        found = []
        for kind in self._cluster.view.types:
            slots = self._cluster.view.workers[kind["first_slot"] : kind["first_slot"] + kind["slots"]]
            found.append(int(np.isin(slots["status"], (READY, STARTING, FAILED)).sum()))
        return tuple(found)

    def _proposed(self) -> tuple[int, ...] | None:
        """What the acting policy wants; what its first fallback wants where it fails."""
        decider = self._decider
        policy = decider.baseline if decider.mode == SHADOW else decider.policy
        for one in (policy, *decider.fallbacks):
            try:
                return self._checked(one, one.scale(self._cluster.view))
            except Exception as error:
                self._watcher.fell_back("scaling failed")
                _log.warning("scaler %s failed: %s: %s", one.name, type(error).__name__, error)
        return None

    def _checked(self, policy: Combined, wanted: Sequence[int] | None) -> tuple[int, ...] | None:
        if wanted is None:
            return None
        found = tuple(int(n) for n in wanted)
        if len(found) != len(self._types):
            raise ValueError(f"{policy.name} wants {found}, and there are {len(self._types)} worker types")
        return found

    def constrained(self, proposed: Sequence[int] | None, now_s: float) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """What is asked of the pool, and the guard rails that made it different from what was proposed."""
        standing = self._pool.wanted
        wanted, rails = tuple(standing if proposed is None else proposed), []
        for name, rail in (
            ("stale", self._not_blindly),
            ("canary", self._by_one),
            ("infeasible", self._only_if_it_helps),
            ("step", self._by_steps),
            ("cooldown", self._not_too_soon),
            ("limits", self._within_limits),
            ("budget", self._within_budget),
        ):
            before, wanted = wanted, rail(wanted, standing, now_s)
            if wanted != before:
                rails.append(name)
        return wanted, tuple(rails)

    def _not_blindly(self, wanted: tuple[int, ...], standing: tuple[int, ...], now_s: float) -> tuple[int, ...]:
        workers = self._pool.workers  # one that shows no metrics at all is no reason
        is_stale = any(one.status == READY and one.scrape is not None and one.is_stale for one in workers)
        return _no_fewer(wanted, standing) if is_stale else wanted

    def _by_one(self, wanted: tuple[int, ...], standing: tuple[int, ...], now_s: float) -> tuple[int, ...]:
        return _near(wanted, standing, 1) if self._decider.mode == CANARY else wanted

    def _only_if_it_helps(self, wanted: tuple[int, ...], standing: tuple[int, ...], now_s: float) -> tuple[int, ...]:
        helps = [self._can_meet(kind) for kind in range(len(wanted))]
        return tuple(n if can else min(n, was) for n, was, can in zip(wanted, standing, helps, strict=True))

    def _can_meet(self, kind: int) -> bool:
        """Whether an empty worker of a type meets the objectives of any class of the scenario."""
        table = self._cluster.world.laws
        first_s = laws.prefill_time(table, kind, 1.0, 1.0) + table[kind, laws.OVERHEAD]
        step_s = laws.decode_time(table, kind, 1, 1.0)
        objectives = self._cluster.view.slo[: max(1, len(self._cluster.view.scenario.slo.classes))]
        return any(first_s <= ttft_s and step_s <= atgt_s for ttft_s, atgt_s in objectives.tolist())

    def _by_steps(self, wanted: tuple[int, ...], standing: tuple[int, ...], now_s: float) -> tuple[int, ...]:
        return _near(wanted, standing, self._guards.step)

    def _not_too_soon(self, wanted: tuple[int, ...], standing: tuple[int, ...], now_s: float) -> tuple[int, ...]:
        return _no_fewer(wanted, standing) if now_s - self._changed_s < self._guards.cooldown_s else wanted

    def _within_limits(self, wanted: tuple[int, ...], standing: tuple[int, ...], now_s: float) -> tuple[int, ...]:
        return tuple(min(max(n, kind.minimum), kind.maximum) for n, kind in zip(wanted, self._types, strict=True))

    def _within_budget(self, wanted: tuple[int, ...], standing: tuple[int, ...], now_s: float) -> tuple[int, ...]:
        """No more GPUs than there are; the dearest types give way first, none below its fewest."""
        left = self._guards.gpu_budget
        if left is None:
            return wanted
        cut = [min(n, kind.minimum) for n, kind in zip(wanted, self._types, strict=True)]
        left -= sum(n * kind.gpus for n, kind in zip(cut, self._types, strict=True))
        for i in sorted(range(len(cut)), key=lambda i: self._types[i].price_per_s / self._types[i].gpus):
            more = min(wanted[i] - cut[i], max(0, left) // self._types[i].gpus)
            cut[i] += more
            left -= more * self._types[i].gpus
        return tuple(cut)


def _no_fewer(wanted: Sequence[int], standing: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(max, wanted, standing))


def _near(wanted: Sequence[int], standing: Sequence[int], step: int) -> tuple[int, ...]:
    return tuple(min(max(n, was - step), was + step) for n, was in zip(wanted, standing, strict=True))
