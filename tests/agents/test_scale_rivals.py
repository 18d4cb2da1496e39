"""The planner like Dynamo's and the saturation scaler like WVA's: their rules by hand, and both in simulations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from aladdin_agents import placements, scalers
from aladdin_agents.scale_planner import LinearTrend, Planner, PlannerSettings, worker_rate
from aladdin_agents.scale_saturation import Saturation, SaturationSettings, Verdict, analyse
from aladdin_agents.sizing import LengthStatistics, pace
from aladdin_env import SLO, InputError
from aladdin_env.policy import Combined
from aladdin_env.scenario import ColdStart
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.state import OFF, READY, STARTING
from aladdin_env.view import ClusterView

from .worlds import kind, profile, random_requests, scenario_of, state

ATGT = 0.03
LENGTHS = LengthStatistics.of([400], [101])


def elastic(name="a", **changes):
    """A worker type of 1 to 8 toy workers, 3 at first."""
    return kind(name, 3, **{"minimum": 1, "maximum": 8, **changes})


def scenario(*types, **changes):
    return scenario_of([(float(i), 100, 50) for i in range(40)], *(types or (elastic(),)), **changes)


# Planner


def test_a_trend_goes_on():
    forecast = LinearTrend(level=0.8, trend=0.3)
    assert forecast.next() == 0.0
    found = []
    for value in (10.0, 20.0, 30.0):
        forecast.note(value)
        found.append(forecast.next())
    assert found == pytest.approx([10.0, 18.0 + 2.4, 28.08 + 4.704])
    forecast.note(0.0)
    forecast.note(0.0)
    assert forecast.next() == 0.0  # never below


def test_a_worker_serves_what_its_profile_promises_within_the_slo():
    slo = scenario(slo=SLO(1.0, ATGT))
    mixed = slo.fleet.types[0]
    most = max(b for b in range(1, 257) if pace(mixed, LENGTHS, b) <= ATGT and b * (400 + 50.5) <= 40_000)
    assert worker_rate(slo, mixed, LENGTHS) == pytest.approx(most / (100 * pace(mixed, LENGTHS, most)))
    prefill = kind("p", 1, scheduler="split", role="prefill")
    assert worker_rate(slo, prefill, LENGTHS) == pytest.approx(1.0 / (1e-4 * 400 + 5e-3))
    assert worker_rate(replace(slo, slo=SLO(1.0, 1e-3)), mixed, LENGTHS) == 0.0


@pytest.mark.parametrize(("load", "workers"), [(0.0, 1), (1.0, 1), (1.01, 2), (2.99, 3), (3.01, 4), (100.0, 8)])
def test_the_forecast_over_the_throughput_rounded_up(load, workers):
    found = Planner(scenario(), PlannerSettings(target=0.5))
    each = 0.5 * worker_rate(scenario(), elastic(), LENGTHS)
    assert found.plan(load * each, LENGTHS) == [workers]


def test_the_cheapest_per_request_is_filled_first():
    dear = elastic("dear", price_per_gpu_hour=9.0)
    cheap = elastic("cheap", price_per_gpu_hour=3.0, maximum=4)
    both = scenario(dear, cheap)
    each = worker_rate(both, cheap, LENGTHS)
    planner = Planner(both, PlannerSettings(target=1.0))
    assert planner.plan(3.5 * each, LENGTHS) == [1, 3]
    assert planner.plan(6.5 * each, LENGTHS) == [3, 4]


def test_roles_are_planned_apart():
    split = {"scheduler": "split"}
    both = scenario(elastic("p", role="prefill", **split), elastic("d", role="decode", **split))
    planner = Planner(both, PlannerSettings(target=1.0))
    rates = [worker_rate(both, one, LENGTHS) for one in both.fleet.types]
    expected = [min(8, max(1, math.ceil(40.0 / rate))) for rate in rates]
    assert planner.plan(40.0, LENGTHS) == expected
    assert expected[0] != expected[1]


def test_a_hopeless_objective_asks_for_all():
    assert Planner(scenario(slo=SLO(1.0, 1e-3))).plan(1.0, LENGTHS) == [8]


class Sums:
    """A view that has only the cluster's sums."""

    def __init__(self, now_s, arrived=0, finished=0):
        self.now_s = now_s
        self.cluster = {
            "arrived": arrived, "arrived_prompt_tokens": 400 * arrived,
            "finished": finished, "finished_output_tokens": 101 * finished,
        }  # fmt: skip


def test_decisions_come_at_intervals_from_what_came_since_the_last():
    planner = Planner(scenario(), PlannerSettings(interval_s=60.0, level=1.0, trend=0.0, target=1.0))
    each = worker_rate(scenario(), elastic(), LENGTHS)
    assert planner.scale(Sums(50.0, 1000, 900)) is None
    assert planner.scale(Sums(60.0, 1000, 0)) is None  # nothing has finished: lengths are not known
    later = 1000 + round(60.0 * 2.5 * each)
    assert planner.scale(Sums(110.0, later, 900)) is None
    assert planner.scale(Sums(120.0, later, 900)) == [3]
    assert planner.scale(Sums(180.0, later, 950)) == [1]  # nothing came


def test_lengths_are_forecast_too():
    """Twice the mean output takes about twice the workers: the trend sees it grow."""
    planner = Planner(scenario(), PlannerSettings(level=1.0, trend=1.0, target=1.0))
    view = Sums(60.0, 600, 600)
    planner.scale(view)
    assert planner._osl.next() == 101.0
    view = Sums(120.0, 1200, 1200)
    view.cluster["finished_output_tokens"] = 101 * 600 + 151 * 600
    planner.scale(view)
    assert planner._osl.next() == 201.0
    assert planner._isl.next() == 400.0
    assert planner._rate.next() == 10.0


# Saturation

CHOSEN = SaturationSettings(queue_spare=3.0, interval_s=60.0, down_s=300.0)  # WVA's own


@pytest.mark.parametrize(
    ("kv", "queue", "up", "down"),
    [
        ([0.5, 0.5, 0.5], [0, 0, 0], False, False),  # 1.5 on two is 0.75: 0.05 to spare
        ([0.4, 0.5, 0.5], [0, 0, 0], False, True),  # 0.7 on each: just 0.1 to spare
        ([0.2, 0.2, 0.2], [0, 0, 0], False, True),
        ([0.71, 0.71], [0, 0], True, False),  # 0.09 to spare
        ([0.70, 0.70], [0, 0], False, False),
        ([0.1, 0.1], [2, 2], False, False),  # three to spare; on one of them 4: one to spare
        ([0.1, 0.1], [3, 2], True, False),  # 2.5 to spare
        ([0.1, 0.1], [1, 1], False, True),  # 2 on one: three to spare
        ([0.9, 0.2, 0.2], [0, 0, 0], False, True),  # who is saturated does not count
        ([0.2, 0.2], [5, 0], False, False),  # one that is not saturated cannot be spared
        ([0.9, 0.2], [0, 9], True, False),  # all are saturated
        ([0.1], [0], False, False),
        ([], [], False, False),
    ],
)
def test_spare_capacity_decides(kv, queue, up, down):
    assert analyse(np.array(kv, float), np.array(queue, float), CHOSEN) == Verdict(up, down)


class Fleet:
    """A world made by hand, asked at heartbeats."""

    def __init__(self, *types, ready=(3,), settings=CHOSEN):
        self.scenario = scenario(*(types or (elastic(),)))
        self.world = state(self.scenario, placements.make_least_request).world
        self.scaler = Saturation(self.scenario, settings)
        self.view = ClusterView(self.world, self.scenario)
        self.world.workers["accepts"] = 1
        self.set(ready)

    def set(self, ready, starting=None):
        for i, n in enumerate(ready):
            first, slots = (int(self.world.types[i][name]) for name in ("first_slot", "slots"))
            more = starting[i] if starting else 0
            mine = self.world.workers["status"][first : first + slots]
            mine[:n], mine[n : n + more], mine[n + more :] = READY, STARTING, OFF

    def load(self, kv=0.0, waiting=0, held=0):
        self.world.workers["kv_used_blocks"] = np.ceil(kv * self.world.workers["kv_blocks"])
        self.world.workers["waiting"] = waiting
        self.world.cluster["held"] = held

    def ask(self, now_s):
        self.world.cluster["now_s"] = now_s
        found = self.scaler.scale(self.view)
        return None if found is None else list(found)


QUICK = replace(CHOSEN, interval_s=10.0, peak_s=10.0, down_s=10.0)


def test_one_more_when_spare_runs_low_and_none_while_it_starts():
    fleet = Fleet(settings=QUICK)
    fleet.load(kv=0.75)
    assert fleet.ask(10.0) == [4]
    fleet.set((3,), (1,))
    assert fleet.ask(20.0) == [4]
    fleet.set((4,))
    assert fleet.ask(30.0) == [5]
    fleet.load(kv=0.6)
    fleet.set((5,))
    assert fleet.ask(40.0) == [5]


def test_one_less_after_the_window_of_the_hpa():
    fleet = Fleet(settings=replace(QUICK, down_s=30.0))
    fleet.load(kv=0.1)
    assert [fleet.ask(10.0 * i) for i in range(1, 5)] == [[3], [3], [2], [2]]


def test_never_below_one_nor_the_minimum_nor_above_the_maximum():
    fleet = Fleet(elastic(minimum=2), ready=(2,), settings=QUICK)
    assert [fleet.ask(10.0 * i) for i in range(1, 4)] == [[2], [2], [2]]
    fleet = Fleet(ready=(8,), settings=QUICK)
    fleet.load(kv=0.99)
    assert fleet.ask(10.0) == [8]


def test_held_requests_wait_on_the_ready_workers():
    fleet = Fleet(settings=QUICK)
    fleet.load(held=7)  # 2.33 on each: 2.67 to spare
    assert fleet.ask(10.0) == [4]


def test_peaks_of_the_last_minute_count():
    fleet = Fleet(settings=replace(CHOSEN, interval_s=20.0))
    fleet.load(kv=0.75)
    assert fleet.ask(10.0) == [4]
    fleet.load(kv=0.1)
    fleet.set((4,))
    fleet.world.workers["kv_used_blocks"][3] = 0
    assert fleet.ask(20.0) is None
    found = [fleet.ask(10.0 * i) for i in range(3, 9)]
    assert found[0] == [4]  # three at 0.75 and one at 0 are 0.56 on average, 0.75 on three of them
    assert found[1::2] == [None] * 3


def test_the_cheapest_comes_and_the_dearest_goes():
    types = (elastic("cheap", price_per_gpu_hour=2.0), elastic("dear", price_per_gpu_hour=5.0))
    fleet = Fleet(*types, ready=(3, 3), settings=QUICK)
    fleet.load(kv=0.79)
    assert fleet.ask(10.0) == [4, 3]
    fleet.set((3, 3), (1, 0))
    assert fleet.ask(20.0) == [4, 4]  # the cheap one is still coming
    fleet.set((4, 3))
    fleet.load(kv=0.1)
    fleet.ask(30.0)
    assert fleet.ask(40.0) == [4, 2]


@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (PlannerSettings, {"interval_s": 0.0}), (PlannerSettings, {"target": 0.0}), (PlannerSettings, {"level": 2.0}),
        (PlannerSettings, {"trend": math.nan}), (SaturationSettings, {"kv": 1.5}), (SaturationSettings, {"queue": -1}),
        (SaturationSettings, {"interval_s": 0.0}), (SaturationSettings, {"down_s": math.inf}),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(make, bad):
    (name,) = bad
    with pytest.raises(InputError, match=name):
        make(**bad)


# Both


@pytest.mark.parametrize("name", ["planner", "saturation"])
def test_both_follow_a_load_that_grows_and_repeat_after_a_reset(name):
    requests = random_requests(3000, 4.0, seed=5) + [
        (750.0 + t, p, o) for t, p, o in random_requests(16_000, 25.0, seed=6)
    ]
    grown = scenario_of(
        sorted(requests), elastic(initial=2, profile=profile(kv=12_000), cold_start=ColdStart(20.0)),
        slo=SLO(2.0, ATGT), heartbeat_s=10.0,
    )  # fmt: skip
    scaler = getattr(scalers, f"make_{name}")(grown)
    assert scaler.settings()["policy"] == name
    runs = [Simulator(grown, 1).run(Combined(placements.make_least_request(grown), scaler)) for _ in range(2)]
    fleet = runs[0].fleet.set_index("time_s")
    workers = fleet["a_ready"] + fleet["a_starting"]
    assert workers.max() <= 8 and workers.min() >= 1
    assert workers.loc[1100:1300].mean() > workers.loc[500:700].mean()
    assert runs[0].requests.equals(runs[1].requests)
