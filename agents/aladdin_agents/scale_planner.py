"""A planner like that of NVIDIA Dynamo: forecasts the load, divides by what a profile says a worker can do.

Sources: Dynamo's page "Planner Design" (docs.nvidia.com/dynamo, "Throughput-Based Scaling"), ``planner_core.py``,
``perf_interpolation.py`` and ``load_predictor.py`` there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from aladdin_agents.pools import within_gpus
from aladdin_agents.sizing import LengthStatistics, Safety, capacity
from aladdin_agents.tunable import Settings
from aladdin_env.scenario import Scenario, WorkerType
from aladdin_env.view import ClusterView
from aladdin_traces import checks

_SUMS = ("arrived", "arrived_prompt_tokens", "finished", "finished_output_tokens")
_ALL = Safety(theta=1.0, decode=1.0, gamma=1.0, rho=1.0, prefill=1.0)  # the profile's word, without margins


@dataclass(frozen=True)
class PlannerSettings:
    """Parameters of the planner.

    ``interval_s``, ``trend`` and ``target`` were chosen on those tuning loads that no burst ruins, for 99 % at little
    cost, see ``python -m experiments.tuning.scalers planner``; none holds the bursts.

    Attributes:
        interval_s: Time between decisions, over which the load is averaged (Dynamo: 180 s).
        level: Weight of the last interval in the forecast's level, 0 to 1.
        trend: Weight of the level's last change in its trend, 0 to 1; 0: no trend.
        target: Share of the profile's throughput that is planned with (Dynamo: 1, all of it).
    """

    interval_s: float = 60.0
    level: float = 0.8
    trend: float = 0.3
    target: float = 0.6

    def __post_init__(self) -> None:
        """Check every number."""
        checks.number("planner.interval_s", self.interval_s, above=0.0)
        checks.number("planner.level", self.level, above=0.0, high=1.0)
        checks.number("planner.trend", self.trend, low=0.0, high=1.0)
        checks.number("planner.target", self.target, above=0.0, high=1.0)


class LinearTrend:
    """Holt's forecast one interval ahead: a level, and a trend that goes on.

    It is the steady state of the local linear trend model that Dynamo's Kalman predictor filters by (our
    reconstruction; Dynamo's default is an ARIMA that chooses its own order). The first value is its own forecast, as
    with Dynamo's constant predictor, which stands in until the others have seen enough.
    """

    def __init__(self, level: float, trend: float) -> None:
        self._weights = (level, trend)
        self._level: float | None = None
        self._trend = 0.0

    def note(self, value: float) -> None:
        """What the last interval had."""
        level, trend = self._weights
        if self._level is None:
            self._level = value
            return
        before, self._level = self._level, level * value + (1.0 - level) * (self._level + self._trend)
        self._trend = trend * (self._level - before) + (1.0 - trend) * self._trend

    def next(self) -> float:
        """The forecast of the next interval, never below 0; 0 before the first."""
        return max(0.0, (self._level or 0.0) + self._trend)


def worker_rate(scenario: Scenario, kind: WorkerType, lengths: LengthStatistics) -> float:
    """Requests per second of these mean lengths that a worker serves by its profile alone; 0 where the SLO is hopeless.

    Prefill workers: one prompt after the other, ``1 / prefill(isl)``, whatever TTFT is. Decode workers, and those that
    do both: the throughput at the largest batch whose time per token is ATGT, at a context of ``isl + osl / 2``.
    Dynamo interpolates a measured sweep; here the laws answer.
    """
    if kind.role == "prefill":
        return 1.0 / kind.latency.prefill_s(lengths.prompt)
    return capacity(kind, scenario.slo, lengths, _ALL).rate_rps


class Planner:
    """Every interval ``ceil(forecast requests / interval / what a worker serves per second)``, each role on its own.

    Requests, their mean input (isl) and their mean output (osl) are forecast one interval ahead, see
    :class:`LinearTrend`. Means are all that it looks at. Between decisions, and before anything has finished, the fleet
    is left as it is. Our reconstruction: requests are counted as they arrive; correction factors (measured over
    expected latencies) are off, as by Dynamo's ``--no-correction``; workers that prefill and decode are sized by the
    joint throughput, Dynamo sizes them by load alone; of several types of a role the cheapest per request is filled
    first, Dynamo has one.
    """

    name = "planner"

    def __init__(self, scenario: Scenario, settings: PlannerSettings | None = None) -> None:
        self._settings = settings or PlannerSettings()
        self.reset(scenario)

    def reset(self, scenario: Scenario) -> None:
        """Forget the past; called at the start of an episode."""
        chosen = self._settings
        self._scenario = scenario
        self._decided_s = 0.0
        self._seen = dict.fromkeys(_SUMS, 0.0)
        self._rate, self._isl, self._osl = (LinearTrend(chosen.level, chosen.trend) for _ in range(3))

    def settings(self) -> Settings:
        """The parameters by name."""
        return {"policy": self.name, **asdict(self._settings)}

    def scale(self, view: ClusterView) -> Sequence[int] | None:
        """Wanted workers per type; None between decisions."""
        seconds = view.now_s - self._decided_s
        if seconds < self._settings.interval_s - 1e-9:
            return None
        now = {name: float(view.cluster[name]) for name in _SUMS}
        new = {name: now[name] - self._seen[name] for name in _SUMS}
        self._seen, self._decided_s = now, view.now_s
        self._rate.note(new["arrived"] / seconds)
        if new["arrived"] > 0:
            self._isl.note(new["arrived_prompt_tokens"] / new["arrived"])
        if new["finished"] > 0:
            self._osl.note(new["finished_output_tokens"] / new["finished"])
        if now["finished"] == 0:
            return None
        lengths = LengthStatistics.of([max(1.0, self._isl.next())], [max(1.0, self._osl.next())])
        return self.plan(self._rate.next(), lengths)

    def plan(self, rate_rps: float, lengths: LengthStatistics) -> list[int]:
        """Workers per type for that many requests per second of these lengths.

        Of a role that cannot hold the SLO all that there are, as Dynamo does (its issue 11624).
        """
        types = self._scenario.fleet.types
        each = [self._settings.target * worker_rate(self._scenario, kind, lengths) for kind in types]
        dear = [kind.price_per_s / rate if rate > 0 else math.inf for kind, rate in zip(types, each, strict=True)]
        order = sorted(range(len(types)), key=dear.__getitem__)
        wanted = [kind.minimum for kind in types]
        for role in {kind.role for kind in types}:
            mine = [i for i in order if types[i].role == role]
            left_rps = rate_rps - sum(each[i] * wanted[i] for i in mine)
            for i in mine:
                if left_rps > 1e-9:
                    enough = math.ceil(left_rps / each[i] - 1e-9) if each[i] > 0 else types[i].maximum
                    more = min(enough, types[i].maximum - wanted[i])
                    wanted[i] += more
                    left_rps -= each[i] * more
        return within_gpus(self._scenario, wanted, order)
