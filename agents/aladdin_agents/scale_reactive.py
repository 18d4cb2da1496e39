"""Autoscalers that people run, which react to what they see: HPA, Knative's KPA, and a tuned rule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from aladdin_agents.pools import Pool, RecentLengths, pool_of, within_gpus
from aladdin_agents.sizing import LengthStatistics, Safety, capacity, pace
from aladdin_agents.tunable import Settings
from aladdin_env.errors import InputError, suggest
from aladdin_env.scenario import Scenario, WorkerType
from aladdin_env.view import ClusterView

# How many requests fill a worker is learnt from what finishes, as by an operator who load-tests his own workload; it
# makes these rivals stronger than fixed targets would. At first: conversations as in the public traces.
_LENGTH_WINDOW_S, _LEAST_FINISHED = 900.0, 100
_REFERENCE = LengthStatistics.of([128, 256, 512, 1024], [64, 128, 256, 512])
METRICS = ("running", "kv")


def full_batch(scenario: Scenario, kind: WorkerType, lengths: LengthStatistics) -> float:
    """Requests of these lengths that fill a worker of this type within the SLO; at least 1.

    The batch at which the steady pace is ATGT, or, where prefill limits it, the requests in flight at that throughput
    (Little's law: ``b = X m tau(b)``). A prefill worker is full when its queue takes a quarter of TTFT.
    """
    if kind.role == "prefill":
        return max(1.0, 0.25 * scenario.slo.ttft_s / kind.latency.prefill_s(lengths.prompt))
    most = capacity(kind, scenario.slo, lengths, Safety(theta=1.0, gamma=0.9))
    return max(1.0, min(float(most.batch), in_flight(kind, lengths, most.rate_rps)))


def in_flight(kind: WorkerType, lengths: LengthStatistics, rate_rps: float) -> float:
    """Requests on a worker that serves so many per second: the least b with ``b >= rate m tau(b)``."""
    low, high = 0, kind.max_num_seqs
    while low < high:
        middle = (low + high) // 2
        if middle < rate_rps * lengths.decoded * pace(kind, lengths, middle):
            low = middle + 1
        else:
            high = middle
    return float(low)


class PerPool(ABC):
    """A scaler that decides for each worker type by itself."""

    name: str

    def __init__(self, scenario: Scenario) -> None:
        self.reset(scenario)

    def reset(self, scenario: Scenario) -> None:
        """Forget the past; called at the start of an episode."""
        self._scenario = scenario
        self._lengths = RecentLengths(_LENGTH_WINDOW_S, _LEAST_FINISHED)
        self._full = [full_batch(scenario, kind, _REFERENCE) for kind in scenario.fleet.types]
        self._forget(len(scenario.fleet.types))

    def scale(self, view: ClusterView) -> Sequence[int] | None:
        """Wanted workers per type."""
        lengths = self._lengths.update(view)
        if lengths is not None:
            self._full = [full_batch(self._scenario, kind, lengths) for kind in self._scenario.fleet.types]
        pools = [pool_of(view, i) for i in range(len(self._scenario.fleet.types))]
        wanted = [self.wanted(view, i, pool) for i, pool in enumerate(pools)]
        return within_gpus(self._scenario, wanted, list(range(len(wanted))))

    def _beats(self, seconds: float) -> int:
        return max(1, math.ceil(seconds / self._scenario.heartbeat_s - 1e-9))

    def _held(self, view: ClusterView, i: int) -> float:
        """Held requests that fall to type ``i``: in equal parts to the types that take new ones."""
        entry = [kind.role != "decode" for kind in self._scenario.fleet.types]
        return float(view.cluster["held"]) / sum(entry) if entry[i] else 0.0

    @abstractmethod
    def wanted(self, view: ClusterView, i: int, pool: Pool) -> int:
        """Workers of type ``i``."""

    @abstractmethod
    def _forget(self, types: int) -> None:
        """Start afresh with so many types."""


@dataclass(frozen=True)
class HpaSettings:
    """Parameters of the target-utilisation scaler.

    The tolerance is the default of the Kubernetes HPA. ``target`` and ``down_s`` (300 s there) were chosen on
    tuning loads for 99 % at little cost, see ``python -m experiments.tuning.scalers target_utilisation``.

    Attributes:
        metric: "running": requests on a worker over those that fill it; "kv": share of KV memory in use.
        target: Utilisation aimed at.
        tolerance: No change while metric over target is within 1 +- this.
        down_s: Stabilisation window: never fewer than what was wanted at any heartbeat of this time.
    """

    metric: str = "running"
    target: float = 0.6
    tolerance: float = 0.1
    down_s: float = 1800.0


class TargetUtilisation(PerPool):
    """Kubernetes HPA: ``ceil(workers * metric / target)`` with tolerance and a stabilisation window down."""

    name = "target_utilisation"

    def __init__(self, scenario: Scenario, settings: HpaSettings | None = None) -> None:
        self._settings = settings or HpaSettings()
        if self._settings.metric not in METRICS:
            raise InputError("metric", self._settings.metric, suggest(self._settings.metric, METRICS))
        super().__init__(scenario)

    def settings(self) -> Settings:
        """The parameters by name."""
        return {"policy": self.name, **asdict(self._settings)}

    def _forget(self, types: int) -> None:
        beats = self._beats(self._settings.down_s)
        self._past: list[deque[int]] = [deque(maxlen=beats) for _ in range(types)]

    def wanted(self, view: ClusterView, i: int, pool: Pool) -> int:
        """Workers of type ``i``; those not ready yet count as unused when it goes up, as HPA does."""
        chosen, current = self._settings, pool.wanted_so_far
        if chosen.metric == "kv":
            used = pool.kv * pool.ready
        else:
            used = (pool.concurrency + self._held(view, i)) / self._full[i]
        ratio = used / (max(1, current) * chosen.target)
        desired = current if abs(ratio - 1.0) <= chosen.tolerance else math.ceil(used / chosen.target)
        if not self._past[i]:
            self._past[i].append(current)  # HPA's first recommendation is what it finds
        self._past[i].append(desired)
        return max(desired, min(current, max(self._past[i])))


@dataclass(frozen=True)
class KpaSettings:
    """Parameters of the KPA: the defaults of Knative, but for ``target`` and ``delay_s``.

    These two (0.7 and 0 s there) were chosen on tuning loads for 99 % at little cost, see ``python -m
    experiments.tuning.scalers kpa``. Without a delay it lets every fleet go between two bursts.

    Attributes:
        target: Share of a full worker's requests that a worker should have.
        stable_s: Window of the normal mode; panic lasts at least so long.
        panic_s: Window of panic mode.
        panic_threshold: Panic when the panic window wants so many times the ready workers.
        most_down: Fewest workers after a step down: the ready ones over this.
        delay_s: Scale-down delay: never fewer than what was wanted at any heartbeat of this time.
    """

    target: float = 0.55
    stable_s: float = 60.0
    panic_s: float = 6.0
    panic_threshold: float = 2.0
    most_down: float = 2.0
    delay_s: float = 1800.0


class Kpa(PerPool):
    """Knative's autoscaler: mean concurrency over a stable window, over a short one in panic; no way down in panic.

    As Knative's, it starts in panic mode, so that it keeps what it finds until it has seen a stable window. It samples
    at heartbeats, not every second as Knative does.
    """

    name = "kpa"

    def __init__(self, scenario: Scenario, settings: KpaSettings | None = None) -> None:
        self._settings = settings or KpaSettings()
        super().__init__(scenario)

    def settings(self) -> Settings:
        """The parameters by name."""
        return {"policy": self.name, **asdict(self._settings)}

    def _forget(self, types: int) -> None:
        self._samples: list[deque[float]] = [deque(maxlen=self._beats(self._settings.stable_s)) for _ in range(types)]
        self._panic_until_s = [-math.inf] * types
        self._panic_most = [0] * types
        beats = self._beats(self._settings.delay_s)
        self._past: list[deque[int]] = [deque(maxlen=beats) for _ in range(types)]

    def wanted(self, view: ClusterView, i: int, pool: Pool) -> int:
        """Workers of type ``i``."""
        chosen, samples = self._settings, self._samples[i]
        if not samples:
            self._panic_until_s[i] = view.now_s + chosen.stable_s
            self._past[i].append(pool.wanted_so_far)
        samples.append(pool.concurrency + self._held(view, i))
        target = max(1.0, chosen.target * self._full[i])
        short = list(samples)[-self._beats(chosen.panic_s) :]
        stable = math.ceil(sum(samples) / len(samples) / target)
        panic = math.ceil(sum(short) / len(short) / target)
        stable = max(stable, math.floor(pool.ready / chosen.most_down))
        if panic >= chosen.panic_threshold * max(1, pool.ready):
            self._panic_until_s[i] = view.now_s + chosen.stable_s
        if view.now_s < self._panic_until_s[i]:
            self._panic_most[i] = max(self._panic_most[i], panic, pool.wanted_so_far)
            self._past[i].append(self._panic_most[i])
        else:
            self._panic_most[i] = 0
            self._past[i].append(stable)
        return max(self._past[i])


@dataclass(frozen=True)
class ReactiveSettings:
    """Parameters of the tuned reactive rule.

    ``high``, ``low``, ``step`` and ``down_s`` were chosen on tuning loads for 99 % at little cost, see ``python -m
    experiments.tuning.scalers tuned_reactive``.

    Attributes:
        high: More workers above this share of a full worker's requests,
        queue: or with prefills queued for this share of TTFT, or with requests held at the router.
        step: By this share of the fleet, at least one.
        low: One worker less below this share,
        down_s: for so long,
        after: if the others then stay below this share.
    """

    high: float = 0.7
    queue: float = 0.3
    step: float = 0.25
    low: float = 0.5
    down_s: float = 600.0
    after: float = 0.65


class TunedReactive(PerPool):
    """Up by queue and batch pressure, a quarter at a time, counting those that start; down slowly, one at a time."""

    name = "tuned_reactive"

    def __init__(self, scenario: Scenario, settings: ReactiveSettings | None = None) -> None:
        self._settings = settings or ReactiveSettings()
        super().__init__(scenario)

    def settings(self) -> Settings:
        """The parameters by name."""
        return {"policy": self.name, **asdict(self._settings)}

    def _forget(self, types: int) -> None:
        self._calm = [0] * types

    def wanted(self, view: ClusterView, i: int, pool: Pool) -> int:
        """Workers of type ``i``."""
        chosen, current = self._settings, pool.wanted_so_far
        held = self._held(view, i)
        used = (pool.concurrency + held) / self._full[i]
        pressed = pool.queue_s > chosen.queue * self._scenario.slo.ttft_s or held > 0
        if used > chosen.high * current or (pressed and pool.coming == 0):
            self._calm[i] = 0
            return current + max(1, math.ceil(chosen.step * current))
        calm = used < chosen.low * current and used < chosen.after * (current - 1) and not pressed
        self._calm[i] = self._calm[i] + 1 if calm else 0
        if self._calm[i] >= self._beats(chosen.down_s):
            self._calm[i] = 0
            return current - 1
        return current
