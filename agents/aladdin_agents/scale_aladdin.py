"""The Aladdin scaler: the fewest workers that the sizing formulas allow for the load that is coming."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.pools import Pool, RecentLengths, pool_of, within_gpus
from aladdin_agents.sizing import Capacity, Safety, capacity, workers_for
from aladdin_agents.tunable import Settings
from aladdin_env.scenario import Scenario
from aladdin_env.view import ClusterView


@dataclass(frozen=True)
class ScalerSettings:
    """Parameters of the Aladdin scaler.

    Attributes:
        rate_window_s: The arrival rate is taken over this time, and its trend over three times as long.
        sigmas: Margin on the rate, in standard deviations of a Poisson count over the window.
        jump_sigmas: A jump within the window is followed at once beyond so many standard deviations; 0: never.
        drain_s: Time in which a queue is to be worked off.
        down_s: Fewer workers only after all heartbeats of this time agreed.
        down_margin: Fewer workers only if they would also do for a load higher by this share.
        length_window_s: Length statistics are those of what finished in this time.
        least_finished: ... and of at least so many requests; before that the fleet is left as it is.
        target: Attainment that the margin tunes itself to; 0 switches that off.
        rho: Share of the computed throughput that is planned with at first.
        rho_low: The margin's limits when it tunes itself: rho falls below the target, and creeps up well above it.
        rho_high: The upper one.
    """

    rate_window_s: float = 60.0
    sigmas: float = 1.0
    jump_sigmas: float = 2.5
    drain_s: float = 20.0
    down_s: float = 120.0
    down_margin: float = 0.05
    length_window_s: float = 900.0
    least_finished: int = 100
    target: float = 0.99
    rho: float = 0.85
    rho_low: float = 0.65
    rho_high: float = 0.95


class AladdinScaler:
    """``W = ceil(rate / (rho X))`` at every heartbeat; up at once and ahead of the cold start, down in agreement.

    The rate is that of a window plus a margin, extrapolated by its trend to the time at which a worker started now
    would serve. X comes from the sizing formulas with the lengths of what finished lately. ``rho`` tunes itself to the
    attainment observed. Of several types the cheapest per unit of throughput is filled first; prefill and decode pools
    are sized each on its own.
    """

    name = "aladdin"

    def __init__(self, scenario: Scenario, settings: ScalerSettings | None = None) -> None:
        self._settings = settings or ScalerSettings()
        self.reset(scenario)

    def reset(self, scenario: Scenario) -> None:
        """Forget the past; called at the start of an episode."""
        chosen = self._settings
        self._scenario = scenario
        self._lengths = RecentLengths(chosen.length_window_s, chosen.least_finished)
        self._rho = chosen.rho
        self._window = max(1, round(chosen.rate_window_s / scenario.heartbeat_s))
        self._load: deque[float] = deque(maxlen=2 * self._window)
        beats = max(1, round(chosen.down_s / scenario.heartbeat_s))
        self._past: deque[list[int]] = deque(maxlen=beats)

    def settings(self) -> Settings:
        """The parameters by name."""
        return {"policy": self.name, **asdict(self._settings)}

    def scale(self, view: ClusterView) -> Sequence[int] | None:
        """Wanted workers per type."""
        lengths = self._lengths.update(view)
        if lengths is None:
            return None
        pools = [pool_of(view, i) for i in range(len(self._scenario.fleet.types))]
        safety = replace(Safety(), rho=self._rho)
        each = [capacity(kind, self._scenario.slo, lengths, safety) for kind in self._scenario.fleet.types]
        self._tune(view, self._used(view, pools, each))
        expected = self.expected_rate(view)
        wanted = self._workers(each, expected)
        self._past.append(self._workers(each, expected * (1 + self._settings.down_margin)))
        had = [pool.wanted_so_far for pool in pools]
        agreed = len(self._past) == self._past.maxlen
        return [
            max(n, min(before, max(past[i] for past in self._past)) if agreed else before)
            for i, (n, before) in enumerate(zip(wanted, had, strict=True))
        ]

    def expected_rate(self, view: ClusterView) -> float:
        """Requests per second to be ready for: the window's rate, its trend over the cold start, and the margin."""
        chosen, beat_s = self._settings, self._scenario.heartbeat_s
        arrivals = view.recent(3 * self._window)[:, 0]
        recent = arrivals[-self._window :]
        rate = float(recent.mean()) / beat_s  # that of the window's middle
        sigma = math.sqrt(max(rate, 1.0 / beat_s) / (len(recent) * beat_s))
        ahead_s = max(kind.cold_start.mean_s for kind in self._scenario.fleet.types) + beat_s + len(recent) * beat_s / 2
        ahead = rate + max(0.0, _trend(arrivals / beat_s, beat_s)) * ahead_s + chosen.sigmas * sigma
        queued = float(view.cluster["held"] + view.workers["waiting"].sum())
        return max(ahead, _jump(recent / beat_s, beat_s, chosen.jump_sigmas)) + queued / chosen.drain_s

    def _recent(self, view: ClusterView) -> NDArray[np.float64]:
        """The heartbeats of the rate's window."""
        rows: NDArray[np.float64] = view.recent(self._window)
        return rows

    def _used(self, view: ClusterView, pools: Sequence[Pool], each: Sequence[Capacity]) -> float:
        """Load over computed throughput of the workers that serve; of two roles the one that is used more."""
        types = self._scenario.fleet.types
        rate = float(self._recent(view)[:, 0].mean()) / self._scenario.heartbeat_s
        sums = dict.fromkeys((kind.role for kind in types), 1e-9)
        for kind, pool, one in zip(types, pools, each, strict=True):
            sums[kind.role] += pool.ready * one.rate_rps
        return rate / min(sums.values())

    def _tune(self, view: ClusterView, used: float) -> None:
        """Move rho by the attainment of the last window: down quickly, up slowly, and only on evidence.

        A fleet that was overloaded lately says nothing of how full one may plan it, nor does one with idle capacity.
        """
        self._load.append(used)
        chosen = self._settings
        recent = self._recent(view)
        finished = float(recent[:, 2].sum())
        if chosen.target <= 0 or finished < chosen.least_finished:
            return
        misses = 1.0 - float(recent[:, 3].sum()) / finished
        allowed = 1.0 - chosen.target
        if misses > allowed and max(self._load) <= 1.0:
            self._rho = max(chosen.rho_low, self._rho * 0.98)
        elif misses < 0.25 * allowed and used >= 0.97 * self._rho:
            self._rho = min(chosen.rho_high, self._rho * 1.002)

    def _workers(self, each: Sequence[Capacity], rate_rps: float) -> list[int]:
        """Workers per type for this rate: the types of a role in order of cost per unit of throughput."""
        scenario, safety = self._scenario, replace(Safety(), rho=self._rho)
        types = scenario.fleet.types
        order = sorted(range(len(types)), key=lambda i: _cost(types[i].price_per_s, each[i]))
        wanted = [kind.minimum for kind in types]
        for role in {kind.role for kind in types}:
            mine = [i for i in order if types[i].role == role]
            left = rate_rps - sum(self._rho * each[i].rate_rps * types[i].minimum for i in mine)
            for i in mine:
                if left > 0 and each[i].rate_rps > 0:
                    more = min(workers_for(left, each[i], safety), types[i].maximum - wanted[i])
                    wanted[i] += more
                    left -= self._rho * each[i].rate_rps * more
            if all(each[i].rate_rps <= 0 for i in mine):
                return [max(n, kind.initial) for n, kind in zip(wanted, types, strict=True)]  # no number would do
        return within_gpus(scenario, wanted, order)


def _cost(price_per_s: float, each: Capacity) -> float:
    """Currency per request; infinite where a worker cannot hold the SLO."""
    return price_per_s / each.rate_rps if each.rate_rps > 0 else math.inf


def _jump(rates: NDArray[np.float64], beat_s: float, sigmas: float) -> float:
    """The highest rate that any stretch of the last heartbeats shows beyond ``sigmas`` of its own Poisson noise."""
    if sigmas <= 0:
        return 0.0
    beats = np.arange(1, len(rates) + 1)
    means = np.cumsum(rates[::-1]) / beats
    return float((means - sigmas * np.sqrt(np.maximum(means, 1.0 / beat_s) / (beats * beat_s))).max())


def _trend(rates: NDArray[np.float64], beat_s: float) -> float:
    """Slope of the rate in requests per second per second, 0 where it is within its own noise."""
    n = len(rates)
    if n < 4:
        return 0.0
    x = (np.arange(n) - (n - 1) / 2) * beat_s
    slope = float((x * rates).sum() / (x**2).sum())
    noise = math.sqrt(max(float(rates.mean()), 1.0 / beat_s) / beat_s / float((x**2).sum()))
    return slope if abs(slope) > 2 * noise else 0.0
