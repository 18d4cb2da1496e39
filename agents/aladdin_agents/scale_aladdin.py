"""The Aladdin scaler: the fewest workers that the sizing formulas allow for the load that is coming."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.pools import Pool, RecentLengths, pool_of, within_gpus
from aladdin_agents.sizing import Capacity, LengthStatistics, Safety, capacity, workers_for
from aladdin_agents.steering import Situation, Steer, Steering
from aladdin_agents.tunable import Settings
from aladdin_env.errors import InputError
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import FAILED
from aladdin_env.view import ClusterView
from aladdin_traces import checks

# A fleet tells whether it may be planned as full as it is where it is at least this share as full as planned.
_TELLING = 0.85
# A steer may ask so many times the time for which a smaller fleet must have been enough.
_MOST_PATIENCE = 2
# A trend is followed up to this many times the highest rate of a heartbeat within the window.
_MOST_GROWTH = 1.25


@dataclass(frozen=True)
class ScalerSettings:
    """Parameters of the Aladdin scaler.

    ``rho``, ``settle_s`` and ``memory_s`` were chosen on tuning loads, see ``python -m experiments.tuning.scalers
    aladdin``; ``rho`` also on a ramp.

    Attributes:
        rate_window_s: The arrival rate is taken over this time, and its trend over three times as long.
        sigmas: Margin on the rate, in standard deviations of a Poisson count over the window.
        jump_sigmas: A jump within the window is followed at once beyond so many standard deviations; 0: never.
        drain_s: Time in which a queue is to be worked off.
        down_s: Fewer workers only after all heartbeats of this time agreed.
        down_margin: Fewer workers only if they would also do for a load higher by this share.
        length_window_s: Length statistics are those of what finished in this time.
        least_finished: ... and of at least so many requests; before that the fleet is left as it is.
        memory_s: Peaks that came faster than a worker starts are remembered for this time; 0: not at all.
        settle_s: No fewer workers than at the start before this time: an operator's fleet stands for what he knows.
        target: Attainment that the margin tunes itself to; 0 switches that off. Its complement is also the share of
            requests whose peak need not be remembered.
        rho: Share of the computed throughput that is planned with at first.
        rho_low: The margin's limits when it tunes itself: rho falls below the target, and creeps up well above it.
        rho_high: The upper one.
    """

    rate_window_s: float = 60.0
    sigmas: float = 0.5
    jump_sigmas: float = 2.5
    drain_s: float = 20.0
    down_s: float = 120.0
    down_margin: float = 0.05
    length_window_s: float = 900.0
    least_finished: int = 100
    memory_s: float = 1800.0
    settle_s: float = 600.0
    target: float = 0.99
    rho: float = 0.9
    rho_low: float = 0.65
    rho_high: float = 0.95

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("rate_window_s", "drain_s", "length_window_s"):
            checks.number(f"scaler.{name}", getattr(self, name), above=0.0)
        for name in ("sigmas", "jump_sigmas", "down_s", "down_margin", "least_finished", "memory_s", "settle_s"):
            checks.number(f"scaler.{name}", getattr(self, name), low=0.0)
        for name in ("rho", "rho_low", "rho_high"):
            checks.number(f"scaler.{name}", getattr(self, name), above=0.0, high=1.0)
        if not 0 <= checks.number("scaler.target", self.target) < 1:
            raise InputError("scaler.target", self.target, "give a share, 0 or more and below 1")
        if not self.rho_low <= self.rho_high:
            raise InputError("scaler.rho_low", self.rho_low, f"give at most rho_high, {self.rho_high}")


class Demand(NamedTuple):
    """What the last decision of :class:`AladdinScaler` was made of: loads as shares of what the fleet can serve.

    The fleet is what serves or is to come, its throughput that of the sizing formulas at ``rho``; of two roles the
    fuller one counts. All 0 before anything has finished.

    Attributes:
        used: Rate of the window over the computed throughput of the workers that serve now, without ``rho``.
        rate: The same rate over the fleet's throughput.
        forecast: :meth:`AladdinScaler.expected_rate` over it.
        after_stop: The same with one worker less of the type that is the dearest per unit of throughput.
        remembered: Level of the surprises over the fleet's throughput.
        rho: Share of the computed throughput that is planned with.
    """

    used: float = 0.0
    rate: float = 0.0
    forecast: float = 0.0
    after_stop: float = 0.0
    remembered: float = 0.0
    rho: float = 0.0


class Peaks:
    """Remembers demand that came faster than a worker starts (our reconstruction).

    At each heartbeat t the rate ``r(t)`` of the last one is compared with the load ``F`` for which the fleet was sized
    when a worker had to be started to serve now, a cold start and a heartbeat ago. It was a surprise where
    ``r > F + sigmas sqrt(F / heartbeat)``. The level to hold is the smallest L such that the surprises of the last
    ``memory_s`` with ``r > L`` make up at most the share ``1 - target`` of all requests of that time: what the
    objective allows to be missed. Loads that a forecast can follow cause no surprise, hence no cost.
    """

    def __init__(self, scenario: Scenario, settings: ScalerSettings) -> None:
        self._beat_s = scenario.heartbeat_s
        self._sigmas = max(settings.jump_sigmas, 2.5)
        self._allowed = 1.0 - settings.target if settings.target > 0 else 0.01
        lead_s = max(kind.cold_start.mean_s for kind in scenario.fleet.types) + self._beat_s
        self._sized_for: deque[float] = deque(maxlen=max(1, math.ceil(lead_s / self._beat_s)) + 1)
        beats = round(settings.memory_s / self._beat_s)
        self._arrivals: deque[float] = deque(maxlen=beats)
        self._surprising: deque[bool] = deque(maxlen=beats)

    def note(self, view: ClusterView, sized_for_rps: float, lengths: LengthStatistics) -> None:
        """The heartbeat's demand, and the load that the fleet is being sized for now."""
        last = view.recent(1)
        arrived = max(float(last[:, 0].sum()), float(last[:, 1].sum()) / lengths.prompt)
        self._sized_for.append(sized_for_rps)
        then = self._sized_for[0] * self._beat_s
        full = len(self._sized_for) == self._sized_for.maxlen
        noise = math.sqrt(max(then, 1.0) * lengths.prompt_square) / lengths.prompt
        self._surprising.append(full and arrived > then + self._sigmas * noise)
        self._arrivals.append(arrived)

    def level_rps(self) -> float:
        """The rate to be ready for, requests per second; 0 where nothing was a surprise."""
        left = self._allowed * sum(self._arrivals)
        surprises = sorted((n for n, was in zip(self._arrivals, self._surprising, strict=True) if was), reverse=True)
        for arrived in surprises:
            left -= arrived
            if left < 0.0:
                return arrived / self._beat_s
        return 0.0


class AladdinScaler:
    """``W = ceil(rate / (rho X))`` at every heartbeat; up at once and ahead of the cold start, down in agreement.

    The rate is that of a window plus a margin, extrapolated by its trend to the time at which a worker started now
    would serve; at least the level of :class:`Peaks`. X comes from the sizing formulas with the lengths of what
    finished lately. ``rho`` tunes itself to the attainment observed. Of several types the cheapest per unit of
    throughput is filled first; prefill and decode pools are sized each on its own.
    """

    name = "aladdin"

    def __init__(self, scenario: Scenario, settings: ScalerSettings | None = None, steer: Steer | None = None) -> None:
        self._settings = settings or ScalerSettings()
        self._steer = steer
        self.reset(scenario)

    def reset(self, scenario: Scenario) -> None:
        """Forget the past; called at the start of an episode."""
        chosen = self._settings
        self._scenario = scenario
        self._lengths = RecentLengths(chosen.length_window_s, chosen.least_finished)
        self._rho = chosen.rho
        self._window = max(1, round(chosen.rate_window_s / scenario.heartbeat_s))
        self._load: deque[float] = deque(maxlen=2 * self._window)
        self._rejected: deque[float] = deque([0.0], maxlen=self._window + 1)
        self._peaks = Peaks(scenario, chosen)
        self._agreeing = max(1, round(chosen.down_s / scenario.heartbeat_s))
        self._past: deque[list[int]] = deque(maxlen=_MOST_PATIENCE * self._agreeing)
        self.demand = Demand()

    def settings(self) -> Settings:
        """The parameters by name."""
        return {"policy": self.name, **asdict(self._settings)}

    def scale(self, view: ClusterView) -> Sequence[int] | None:
        """Wanted workers per type."""
        self._rejected.append(float(view.cluster["rejected"]))
        lengths = self._lengths.update(view)
        if lengths is None:
            return None
        pools = [pool_of(view, i) for i in range(len(self._scenario.fleet.types))]
        safety = replace(Safety(), rho=self._rho)
        each = [capacity(kind, self._scenario.slo, lengths, safety) for kind in self._scenario.fleet.types]
        used = self._used(view, pools, each)
        self._tune(view, used)
        forecast = self.expected_rate(view)
        self._peaks.note(view, forecast / self._rho, lengths)
        remembered = self._peaks.level_rps()
        self.demand = self._demand(view, pools, each, used, forecast, remembered)
        steering = Steering()
        if self._steer is not None:
            steering = self._steer(self._situation(view, pools, each, lengths, forecast, remembered))
        feared = remembered * steering.remembered
        wanted = self._workers(each, max(forecast * steering.forecast, feared))
        enough = max(forecast * steering.release, feared) * (1 + self._settings.down_margin)
        self._past.append(self._workers(each, enough))
        past = list(self._past)[-max(1, round(self._agreeing * steering.patience)) :]
        agreed = len(past) >= round(self._agreeing * steering.patience) and view.now_s >= self._settings.settle_s
        return [
            max(n, min(before, max(then[i] for then in past)) if agreed else before)
            for i, (n, before) in enumerate(zip(wanted, (pool.wanted_so_far for pool in pools), strict=True))
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
        seen = max(rate, float(recent.max()) / beat_s)
        queued = float(view.cluster["held"] + view.workers["waiting"].sum())
        jump = _jump(recent / beat_s, beat_s, chosen.jump_sigmas)
        return max(min(ahead, _MOST_GROWTH * seen), jump) + min(queued / chosen.drain_s, 0.5 * seen)

    def _recent(self, view: ClusterView) -> NDArray[np.float64]:
        """The heartbeats of the rate's window."""
        rows: NDArray[np.float64] = view.recent(self._window)
        return rows

    def _demand(
        self, view: ClusterView, pools: Sequence[Pool], each: Sequence[Capacity], used: float, forecast_rps: float,
        remembered_rps: float,
    ) -> Demand:  # fmt: skip
        had = [pool.wanted_so_far for pool in pools]
        now = self._throughput(each, had)
        dearest = max(
            (i for i, n in enumerate(had) if n > 0),
            key=lambda i: _cost(self._scenario.fleet.types[i].price_per_s, each[i]),
            default=0,
        )
        less = self._throughput(each, [n - (i == dearest) for i, n in enumerate(had)])
        rate_rps = float(self._recent(view)[:, 0].mean()) / self._scenario.heartbeat_s
        return Demand(used, rate_rps / now, forecast_rps / now, forecast_rps / less, remembered_rps / now, self._rho)

    def _situation(
        self, view: ClusterView, pools: Sequence[Pool], each: Sequence[Capacity], lengths: LengthStatistics,
        forecast_rps: float, remembered_rps: float,
    ) -> Situation:  # fmt: skip
        scenario, demand = self._scenario, self.demand
        arrived = float(self._recent(view)[:, 0].sum())
        return Situation(
            filled=math.log(max(demand.forecast, 0.05)),
            growing=math.log(max(demand.forecast / max(demand.rate, 1e-3), 0.1)),
            remembered=remembered_rps / max(forecast_rps, 1e-9) - 0.5,
            misses=_misses_over_allowed(self._recent(view)),
            past_misses=_misses_over_allowed(view.recent(3 * self._window)),
            margin=10.0 * (demand.rho - 0.85),
            arrivals=min(max(math.log10(arrived + 1.0) - 2.5, -1.0), 1.0),
            workers=min(max(math.log(max(sum(pool.wanted_so_far for pool in pools), 1)) - 2.0, -1.0), 1.0),
            cold_start=math.log(max(1.0, *(kind.cold_start.mean_s for kind in scenario.fleet.types)) / 60.0),
            prompts=lengths.prompt_square / lengths.prompt**2 / 3.0 - 1.0,
            batch=math.log(max(1, *(one.batch for one in each))) - 3.5,
            queue=3.0 * sum(pool.waiting for pool in pools) / max(1, sum(pool.running for pool in pools)),
            failed=float(np.count_nonzero(view.workers["status"] == FAILED)),
        )

    def _throughput(self, each: Sequence[Capacity], workers: Sequence[int]) -> float:
        """Requests per second at rho that so many workers of each type serve; of two roles the lesser."""
        types = self._scenario.fleet.types
        sums = dict.fromkeys((kind.role for kind in types), 1e-9)
        for kind, one, n in zip(types, each, workers, strict=True):
            sums[kind.role] += self._rho * one.rate_rps * n
        return min(sums.values())

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

        A fleet that was overloaded lately says nothing of how full one may plan it, nor does one that was emptier than
        planned. What was rejected has missed its objective: where a placement sheds, those that are served all meet it.
        A steer does not see it so: those that ship were found without, and go on deciding as they did.
        """
        self._load.append(used)
        chosen = self._settings
        recent = self._recent(view)
        ended = float(recent[:, 2].sum())
        if self._steer is None:
            ended += self._rejected[-1] - self._rejected[0]
        if chosen.target <= 0 or ended < chosen.least_finished or used < _TELLING * self._rho:
            return
        misses = 1.0 - float(recent[:, 3].sum()) / ended
        allowed = 1.0 - chosen.target
        if misses > allowed and max(self._load) <= 1.0:
            self._rho = max(chosen.rho_low, self._rho * 0.98)
        elif misses < 0.25 * allowed:
            self._rho = min(chosen.rho_high, self._rho * 1.005)

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


def _misses_over_allowed(beats: NDArray[np.float64]) -> float:
    """log10 of the share of misses in hundredths, a tenth more; these heartbeats' finished and attained."""
    finished, attained = float(beats[:, 2].sum()), float(beats[:, 3].sum())
    share = 1.0 - attained / finished if finished > 0 else 0.0
    return math.log10(100.0 * share + 0.1)


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
