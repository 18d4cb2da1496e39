"""A saturation scaler like llm-d's Workload Variant Autoscaler (WVA): spare KV memory and spare queue, one at a time.

Sources: llm-d's workload-variant-autoscaler, ``docs/saturation-analyzer.md`` and ``internal/saturation/analyzer.go``
(thresholds and rule), its custom metrics and Kubernetes' HPA, which acts on what it recommends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.pools import Pool, pool_of, within_gpus
from aladdin_agents.tunable import Settings
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import NEW, READY
from aladdin_env.view import ClusterView
from aladdin_traces import checks


@dataclass(frozen=True)
class SaturationSettings:
    """Parameters of the saturation scaler: WVA's and Kubernetes' defaults, but for three.

    ``queue_spare`` (3 there), ``interval_s`` (60 s) and ``down_s`` (300 s) were chosen on tuning loads for 99 % at
    little cost, see ``python -m experiments.tuning.scalers saturation``.

    Attributes:
        kv: A worker is saturated from this share of its KV memory in use on,
        queue: or with so many requests that wait on it.
        kv_spare: One worker more where the workers that are not saturated have less than this share left on average,
        queue_spare: or room for fewer waiting requests than this.
        peak_s: Both are the peaks of this time on each worker.
        interval_s: Time between decisions.
        down_s: Stabilisation window of the HPA: never fewer than at any decision of this time.
    """

    kv: float = 0.8
    queue: float = 5.0
    kv_spare: float = 0.1
    queue_spare: float = 4.0
    peak_s: float = 60.0
    interval_s: float = 15.0
    down_s: float = 1800.0

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("kv", "kv_spare"):
            checks.number(f"saturation.{name}", getattr(self, name), low=0.0, high=1.0)
        for name in ("queue", "queue_spare", "down_s"):
            checks.number(f"saturation.{name}", getattr(self, name), low=0.0)
        for name in ("peak_s", "interval_s"):
            checks.number(f"saturation.{name}", getattr(self, name), above=0.0)


class Verdict(NamedTuple):
    """What the workers of one role say.

    Attributes:
        up: One worker more, by KV or by queue.
        down: One worker less, by KV and by queue.
    """

    up: bool
    down: bool


def analyse(kv: NDArray[np.float64], queue: NDArray[np.float64], chosen: SaturationSettings) -> Verdict:
    """WVA's rule for the workers that serve: share of KV memory in use and waiting requests of each.

    Spare is what the workers that are not saturated have left to both thresholds on average, none where all are. Up
    where either spare is below its trigger. Down where at least two are not saturated and their load, put on one of
    them less, leaves both spares.
    """
    if len(kv) == 0:
        return Verdict(up=False, down=False)
    free = (kv < chosen.kv) & (queue < chosen.queue)
    n = int(free.sum())
    held, waiting = float(kv[free].sum()), float(queue[free].sum())

    def spared(workers: int) -> tuple[bool, bool]:
        if workers < 1:
            return False, False
        return chosen.kv - held / workers >= chosen.kv_spare, chosen.queue - waiting / workers >= chosen.queue_spare

    return Verdict(up=not all(spared(n)) if n else True, down=n >= 2 and all(spared(n - 1)))


class Saturation:
    """One worker more of the cheapest type when spare runs low, one less of the dearest where the others can bear it.

    Types of one role are looked at together; a type of which a worker is still to come is left alone. It knows no
    objective. Our reconstruction: requests held at the router wait on the ready workers in equal parts (WVA's first
    analyser sees the workers' queues only); the HPA between WVA and the fleet has no delay up.
    """

    name = "saturation"

    def __init__(self, scenario: Scenario, settings: SaturationSettings | None = None) -> None:
        self._settings = settings or SaturationSettings()
        self.reset(scenario)

    def reset(self, scenario: Scenario) -> None:
        """Forget the past; called at the start of an episode."""
        chosen, beat_s = self._settings, scenario.heartbeat_s
        self._scenario = scenario
        self._peaks: deque[tuple[NDArray[np.float64], NDArray[np.float64]]] = deque(
            maxlen=max(1, math.ceil(chosen.peak_s / beat_s - 1e-9))
        )
        decisions = math.ceil(chosen.down_s / max(chosen.interval_s, beat_s) - 1e-9)
        self._past: deque[list[int]] = deque(maxlen=max(1, decisions))
        self._decided_s = -math.inf

    def settings(self) -> Settings:
        """The parameters by name."""
        return {"policy": self.name, **asdict(self._settings)}

    def scale(self, view: ClusterView) -> Sequence[int] | None:
        """Wanted workers per type; None between decisions."""
        self._note(view)
        if view.now_s - self._decided_s < self._settings.interval_s - 1e-9:
            return None
        self._decided_s = view.now_s
        types = self._scenario.fleet.types
        pools = [pool_of(view, i) for i in range(len(types))]
        recommended = self._recommended(view, pools)
        if not self._past:
            self._past.append([pool.wanted_so_far for pool in pools])  # HPA's first recommendation is what it finds
        self._past.append(recommended)
        wanted = [
            max(n, min(pool.wanted_so_far, max(then[i] for then in self._past)))
            for i, (n, pool) in enumerate(zip(recommended, pools, strict=True))
        ]
        return within_gpus(self._scenario, wanted, sorted(range(len(types)), key=self._price))

    def _note(self, view: ClusterView) -> None:
        """KV memory in use and queue of every slot, now; 0 where it does not serve."""
        serving = view.workers["status"] == READY
        kv = np.where(serving, view.workers["kv_used_blocks"] / np.maximum(1, view.workers["kv_blocks"]), 0.0)
        waiting = np.where(serving, view.workers["waiting"] + view.workers["inbound"], 0).astype(np.float64)
        self._peaks.append((kv, waiting + self._held(view, serving)))

    def _held(self, view: ClusterView, serving: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Held requests on each slot, in equal parts on those that take new ones."""
        entry = serving & (view.workers["accepts"] & NEW).astype(bool)
        each = float(view.cluster["held"]) / max(1, int(entry.sum()))
        return np.where(entry, each, 0.0)

    def _recommended(self, view: ClusterView, pools: Sequence[Pool]) -> list[int]:
        """Workers per type before the HPA's window."""
        kv, queue = (np.max([sample[k] for sample in self._peaks], axis=0) for k in range(2))
        types = self._scenario.fleet.types
        wanted = [pool.wanted_so_far for pool in pools]
        for role in {kind.role for kind in types}:
            mine = [i for i, kind in enumerate(types) if kind.role == role]
            slots = np.concatenate([self._ready(view, i) for i in mine])
            verdict = analyse(kv[slots], queue[slots], self._settings)
            settled = [i for i in mine if pools[i].coming == 0]
            if verdict.up:
                able = [i for i in settled if wanted[i] < types[i].maximum]
                for i in sorted(able, key=self._price)[:1]:
                    wanted[i] += 1
            elif verdict.down:
                able = [i for i in settled if wanted[i] > max(1, types[i].minimum)]
                for i in sorted(able, key=self._price)[-1:]:
                    wanted[i] -= 1
        return wanted

    def _ready(self, view: ClusterView, kind: int) -> NDArray[np.int64]:
        """Slots of this type that serve."""
        first, slots = int(view.types[kind]["first_slot"]), int(view.types[kind]["slots"])
        return first + np.flatnonzero(view.workers["status"][first : first + slots] == READY)

    def _price(self, kind: int) -> float:
        """Currency per second of a worker of this type."""
        return self._scenario.fleet.types[kind].price_per_s
