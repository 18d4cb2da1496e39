"""What the watching side reads of the bridge; it changes none of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aladdin_env.bridge.decider import Decider
from aladdin_env.bridge.dispatcher import Dispatcher
from aladdin_env.bridge.events import Beat
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.workers.pool import WorkerPool
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.profile_tracker import TrackerStatus
from aladdin_env.simulator.state import FAILED, HELD, READY, STARTING

#: For each worker type how far service has moved from its calibration; None: nobody looks.
Calibrations = Callable[[], Sequence[TrackerStatus | None]]
_MOST_LISTED = 512


@dataclass(frozen=True)
class Replicas:
    """Workers of one type.

    Attributes:
        name: Of the type.
        current: Those that serve or are to come.
        desired: As asked of the pool, or of whoever scales it.
        proposed: As the acting policy wanted before the guard rails; None: no change, or no heartbeat yet.
        minimum: Fewest.
        maximum: Most.
    """

    name: str
    current: int
    desired: int
    proposed: int | None
    minimum: int
    maximum: int


@dataclass(frozen=True)
class Spending:
    """What the fleet costs; currency is whatever the scenario's prices are in.

    Attributes:
        gpus: In use, those of workers that start or drain included.
        per_hour: Currency per hour now.
        gpu_seconds: Since the start.
        total: Currency since the start.
    """

    gpus: int
    per_hour: float
    gpu_seconds: float
    total: float


@dataclass(frozen=True)
class Sources:
    """The parts of a bridge.

    Attributes:
        cluster: What policies see.
        pool: The workers.
        decider: Who decides.
        dispatcher: Requests on their way.
        clock: Seconds since the bridge began.
        calibrations: By worker type.
    """

    cluster: LiveCluster
    pool: WorkerPool
    decider: Decider
    dispatcher: Dispatcher
    clock: Callable[[], float]
    calibrations: Calibrations

    @property
    def type_names(self) -> tuple[str, ...]:
        """Names of the worker types."""
        return tuple(kind.name for kind in self.cluster.view.scenario.fleet.types)

    def type_of(self, slot: int) -> str:
        """Name of the type of the worker in a slot."""
        return self.type_names[int(self.cluster.view.workers["type_index"][slot])]

    def listed(self) -> list[LiveWorker]:
        """The workers that are there, by slot; of very many the first."""
        return [worker for worker in self.pool.workers if worker.occupied][:_MOST_LISTED]

    def ready(self) -> int:
        """Workers that take new requests."""
        return sum(worker.takes_new for worker in self.pool.workers)

    def ready_in_s(self, worker: LiveWorker) -> float | None:
        """Seconds until a STARTING or FAILED worker is expected; None: it is neither, or that is over."""
        left_s = float(self.cluster.view.workers["ready_s"][worker.slot]) - self.clock()
        return left_s if worker.status in (STARTING, FAILED) and left_s > 0.0 else None

    def oldest_held_s(self) -> float:
        """How long the request that has waited longest for a worker is here; 0: nobody waits."""
        requests = self.cluster.view.requests
        arrivals = requests["arrival_s"][requests["status"] == HELD]
        return max(0.0, self.clock() - float(arrivals.min())) if arrivals.size else 0.0

    def replicas(self, last: Beat | None) -> list[Replicas]:
        """Workers by type; ``last`` is the last heartbeat."""
        kinds, pool = self.cluster.view.scenario.fleet.types, self.pool
        # A pool that cannot scale is not told what is wanted: whoever scales it goes by the heartbeat.
        desired = pool.wanted if last is None or pool.can_scale else last.wanted
        found = []
        for i, kind in enumerate(kinds):
            proposed = None if last is None or last.proposed is None else last.proposed[i]
            found.append(Replicas(kind.name, self._current(i), desired[i], proposed, kind.minimum, kind.maximum))
        return found

    def spending(self) -> Spending:
        """What has been spent up to now."""
        state = self.cluster.view.cluster
        gpus, rate = float(state["gpus"]), float(state["cost_rate_per_s"])
        since_s = max(0.0, self.clock() - float(state["accrued_s"]))
        return Spending(
            round(gpus), rate * 3600.0, float(state["gpu_seconds"]) + gpus * since_s,
            float(state["cost"]) + rate * since_s,
        )  # fmt: skip

    def _current(self, type_index: int) -> int:
        kind = self.cluster.view.types[type_index]
        status = self.cluster.view.workers["status"][kind["first_slot"] : kind["first_slot"] + kind["slots"]]
        return int(np.isin(status, (READY, STARTING, FAILED)).sum())
