"""The fleet behind a bridge as a scenario, and a pool's workers in its slots."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from aladdin_env.bridge.events import Sight, Watcher
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.workers.pool import WorkerPool
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.scenario import SLO, ColdStart, Fleet, Scenario, WorkerType
from aladdin_env.simulator.state import READY
from aladdin_traces import FixedLengths, Poisson, Workload

_UNKNOWN_COLD_START_S = 60.0


@dataclass(frozen=True)
class LiveFleet:
    """What is to be said of the workers that no worker says itself.

    Attributes:
        profile: Name or file of the latency profile of a worker.
        slo: Objectives.
        price_per_gpu_hour: Currency.
        max_num_seqs: Most requests at once on a worker.
        heartbeat_s: From one scaling decision to the next, seconds.
        max_hold_s: Longest wait of a request for a worker, seconds.
    """

    profile: str = "llama-3.1-8b-h100-tp1"
    slo: SLO = field(default_factory=SLO)
    price_per_gpu_hour: float = 1.0
    max_num_seqs: int = 256
    heartbeat_s: float = 10.0
    max_hold_s: float = 30.0

    def scenario(self, pool: WorkerPool) -> Scenario:
        """As policies know it: one worker type with the pool's limits; its workload is nobody's."""
        limits = pool.limits
        kind = WorkerType(
            "worker",
            self.profile,
            initial=limits.minimum if pool.can_scale else limits.maximum,
            minimum=limits.minimum,
            maximum=limits.maximum,
            price_per_gpu_hour=self.price_per_gpu_hour,
            max_num_seqs=self.max_num_seqs,
            cold_start=ColdStart(pool.cold_start_s or _UNKNOWN_COLD_START_S),
        )
        return Scenario(
            "live",
            Workload.generated(Poisson(1.0), FixedLengths(1, 1)),
            Fleet((kind,)),
            self.slo,
            horizon_s=1.0,
            heartbeat_s=self.heartbeat_s,
            max_hold_s=self.max_hold_s,
        )


class Mirror:
    """Keeps the arrays as the workers are.

    Args:
        cluster: The arrays.
        pool: The workers.
        watcher: Hears of every change of status.
        offer: Called when a worker has become READY.
        clock: Seconds since the bridge began.
        workers_clock: The clock of the workers.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        pool: WorkerPool,
        watcher: Watcher,
        offer: Callable[[], None],
        clock: Callable[[], float],
        workers_clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._watcher = watcher
        self._offer = offer
        self._clock = clock
        self._workers_clock = workers_clock
        for worker in pool.workers:
            worker.subscribe(self.changed)
            self.changed(worker)

    def changed(self, worker: LiveWorker) -> None:
        """Something about a worker is different."""
        cluster, slot, now_s = self._cluster, worker.slot, self._clock()
        before = int(cluster.view.workers[slot]["status"])
        left_s = worker.ready_s - self._workers_clock()
        ready_in_s = max(0.0, left_s) if math.isfinite(left_s) else 0.0
        scrape = worker.scrape
        kv_tokens = block_size = kv_used = None
        if scrape is not None and scrape.kv_capacity_tokens and scrape.block_size:
            kv_tokens, block_size = scrape.kv_capacity_tokens, scrape.block_size
            cluster.set_kv(slot, kv_tokens, block_size)
        status = worker.shown_status
        cluster.set_worker(slot, status, now_s, ready_in_s)
        if scrape is not None and scrape.kv_usage is not None and not worker.is_stale:
            kv_used = scrape.kv_usage
            cluster.see_kv(slot, kv_used)
        sight = Sight(slot, now_s, status, ready_in_s, kv_tokens, block_size, kv_used)
        self._watcher.seen(sight)
        if status != before:
            self._watcher.moved(slot, status, now_s, ready_in_s)
            if status == READY:
                self._offer()
