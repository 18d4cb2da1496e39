"""The margin that tunes itself, and workers in groups."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from aladdin_agents import aladdin, placements
from aladdin_env import InputError
from aladdin_env.compare import compare_fewest, contenders
from aladdin_env.presets import load_scenario

from .worlds import kind, put_running, scenario_of, state


def tuned(target=0.99):
    return state(
        scenario_of([(0.0, 100, 200)] * 20, kind(workers=2)),
        lambda x: aladdin.make(x, aladdin.Settings(target=target)),
    )


def theta_after(s, finished, slow=0, late=0):
    """Let so many requests have finished in all, and decide once more."""
    s.world.cluster["finished"], s.world.cluster["atgt_missed"] = finished, slow
    s.world.cluster["ttft_missed"] = late
    s.choose()
    return s.kernel._asked[aladdin._NOW_THETA]


def test_theta_falls_where_pace_is_lost_and_rises_where_nothing_is():
    s = tuned()
    assert theta_after(s, 100, slow=50) == 0.9  # too few to tell
    lower = theta_after(s, 300, slow=60)
    assert lower == pytest.approx(0.9 * 0.98)
    assert theta_after(s, 600, slow=60) == pytest.approx(lower * 1.01)
    steady = theta_after(s, 900, slow=61)
    assert theta_after(s, 1200, slow=62) == steady  # a third of what is allowed: let well alone
    for turn in range(60):
        theta_after(s, 1500 + 300 * turn, slow=62)
    assert theta_after(s, 30_000, slow=62) == 1.0
    for turn in range(60):
        theta_after(s, 30_300 + 300 * turn, slow=62 + 100 * (turn + 1))
    assert s.kernel._asked[aladdin._NOW_THETA] == 0.7


def test_theta_rises_where_first_tokens_are_late_for_lack_of_room():
    s = tuned()
    assert theta_after(s, 300, slow=10, late=80) == pytest.approx(0.9 * 1.01)


def test_without_a_target_theta_stays():
    s = tuned(target=0.0)
    assert theta_after(s, 5000, slow=4000) == 0.9


def test_a_new_episode_begins_with_the_given_theta():
    s = tuned()
    theta_after(s, 300, slow=200)
    assert theta_after(s, 0) == 0.9


def test_a_request_is_placed_in_its_own_group_while_that_will_do():
    s = state(
        scenario_of([(0.0, 100, 200)] * 20, kind(workers=4)),
        lambda x: aladdin.make(x, aladdin.Settings(groups=2)),
    )
    s.world.cluster["now_s"] = 20.0
    s.world.requests["arrival_s"] = 20.0
    put_running(s.world, 3, 19, generated=150, first_token_s=18.0)
    assert (s.choose(0), s.choose(1), s.choose(2)) == (0, 3, 0)  # even requests: slots 0 and 2, odd ones: 1 and 3
    s.world.workers["kv_blocks"][[0, 2]] = 1  # no room in its own group: the other one
    assert s.choose(0) == 3


@pytest.mark.parametrize("bad", [{"groups": 0}, {"groups": 1.5}, {"theta": 1.01}, {"gamma": 0.0}, {"target": 1.0}])
def test_settings_out_of_range_are_named(bad):
    with pytest.raises(InputError, match=f"aladdin.{next(iter(bad))}"):
        aladdin.Settings(**bad)


def test_the_grouped_scheduler_has_as_many_groups_as_the_fleet_asks_for():
    small = placements.make_aladdin_grouped(load_scenario("short-day"))
    assert small.settings()["groups"] == 1 and small.name == "aladdin_grouped"
    base = load_scenario("short-day")
    large = replace(base, fleet=replace(base.fleet, types=(replace(base.fleet.types[0], maximum=200),)))
    made = placements.make_aladdin_grouped(large)
    assert made.settings()["groups"] == 4
    assert pickle.loads(pickle.dumps(made)).name == "aladdin_grouped"


def test_grouping_costs_at_most_two_per_cent_of_the_workers():
    base = load_scenario("sharegpt-poisson")
    scenario = replace(base, workload=base.workload.with_rate(150.0), horizon_s=60.0)
    grouped = [contenders(scenario.with_workers((34,)), [maker])[0] for maker in (_whole, _in_four)]
    found = compare_fewest(scenario, grouped, [3], jobs=1)
    workers = {row.policy: row.workers for row in found.rows}
    assert workers["in_four"] <= 1.02 * workers["whole"] + 0.5


def _named(scenario, name, groups):
    return replace(aladdin.make(scenario, aladdin.Settings(groups=groups)), name=name)


def _whole(scenario):
    return _named(scenario, "whole", 1)


def _in_four(scenario):
    return _named(scenario, "in_four", 4)
