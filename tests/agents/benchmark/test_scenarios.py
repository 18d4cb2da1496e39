"""The scenarios: what each split and task has, that splits differ, that groups have one frame, that draws repeat."""

from importlib.metadata import entry_points

import gymnasium as gym
import numpy as np
import pytest

import aladdin_env  # noqa: F401, registers the environments
from aladdin_agents.benchmark import SPLITS, TASKS, case_of, cases, training_groups, training_sampler
from aladdin_agents.benchmark.entrants import HEURISTICS, LATER, PLACEMENTS, REFERENCE, SCALERS
from aladdin_env.envs.engine import _frame
from aladdin_env.errors import InputError
from aladdin_env.presets import load_scenario
from aladdin_env.scenario_file import scenario_from_dict, scenario_to_dict

KINDS = {"steady", "bursty", "diurnal", "flood", "lengths", "types", "slow-start", "failures"}
EVERY = [(split, task) for split in SPLITS for task in TASKS]


@pytest.mark.parametrize(("split", "task"), EVERY)
def test_every_split_has_every_kind(split, task):
    names = {case.name for case in cases(split, task)}
    assert names >= KINDS
    assert ({"overload-1.15", "overload-1.4"} <= names) == (task == "placement")
    assert ("large" in names) == (split != "train" and task != "scaling")


@pytest.mark.parametrize(("split", "task"), EVERY)
def test_cases_are_what_they_say(split, task):
    for case in cases(split, task):
        scenario = case.scenario
        assert case_of(split, task, case.name) is case
        assert scenario.fleet.slots == (64 if case.name == "large" else 16)
        assert scenario.workload.trace is None and scenario.workload.path is None  # nothing from outside
        assert scenario.description
        assert 120.0 <= scenario.horizon_s <= 7200.0
        if task == "placement":
            assert all(kind.minimum == kind.initial for kind in scenario.fleet.types)
        else:
            assert scenario.horizon_s >= 3600.0
            assert all(kind.minimum == 1 for kind in scenario.fleet.types)
        assert (scenario.fleet.failures.mtbf_s > 0) >= (case.name == "failures")
        assert len(case.seeds) >= 10


def test_splits_share_neither_seeds_nor_loads():
    for task in TASKS:
        drawn = {split: {seed for case in cases(split, task) for seed in case.first_seeds(1000)} for split in SPLITS}
        assert not drawn["train"] & drawn["validate"] and not drawn["validate"] & drawn["test"]
        assert not drawn["train"] & drawn["test"]
        loads = [case.scenario.workload for split in SPLITS for case in cases(split, task)]
        assert len(set(loads)) == len(loads)


def test_a_scenario_can_be_stored_as_a_file():
    for task in TASKS:
        for case in cases("validate", task):
            assert scenario_from_dict(scenario_to_dict(case.scenario)) == case.scenario


@pytest.mark.parametrize(
    ("wrong", "field", "hint"),
    [
        (("tests", "joint", "steady"), "split", "test"),
        (("test", "joined", "steady"), "task", "joint"),
        (("test", "joint", "steddy"), "scenario", "steady"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(wrong, field, hint):
    with pytest.raises(InputError, match=hint) as refused:
        case_of(*wrong)
    assert refused.value.field == field


def test_heuristics_are_all_that_ship_but_for_later_ones():
    shipped = {point.name for point in entry_points(group="aladdin.policies", module="aladdin_agents.placements")}
    assert set(PLACEMENTS) == shipped - {"aladdin_grouped", *LATER}
    scalers = {point.name for point in entry_points(group="aladdin.scalers", module="aladdin_agents.scalers")}
    assert set(SCALERS) == scalers - set(LATER)
    assert set(LATER) <= shipped | scalers
    assert all(REFERENCE[task] in HEURISTICS[task] for task in TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_a_training_group_has_one_frame(task):
    groups = training_groups(task)
    assert [group.name for group in groups] == ["one-type", "three-types"]
    assert sum(len(group.cases) for group in groups) == len(cases("train", task))
    for group in groups:
        frame = _frame(group.scenario)
        sampler, rng = group.sampler(), np.random.default_rng(0)
        assert all(_frame(case.scenario) == frame for case in group.cases)
        assert all(_frame(sampler(rng)) == frame for _ in range(30))
        for split in ("validate", "test"):
            fitting = [case for case in cases(split, task) if _frame(case.scenario) == frame]
            assert fitting or group.name == "one-type"


def test_the_sampler_repeats_and_varies():
    def drawn(seed, **changes):
        sampler, rng = training_sampler("joint", **changes), np.random.default_rng(seed)
        return [sampler(rng) for _ in range(20)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({one.name for one in drawn(1)}) > 3
    assert all(one.horizon_s <= 600.0 for one in drawn(1, horizon_s=600.0))
    shipped = {case.scenario.fleet.types[0].latency for case in cases("train", "joint")}
    assert {one.fleet.types[0].latency for one in drawn(1, spread=0.0)} <= shipped
    assert not {one.fleet.types[0].latency for one in drawn(1)} & shipped


def test_the_load_of_the_sampler_is_a_setting():
    sampler, rng = training_sampler("joint"), np.random.default_rng(0)
    sampler.cases = sampler.cases[:1]
    nominal = sampler.cases[0].scenario.workload.mean_rate_rps
    sampler.load = (0.2, 0.3)
    assert 0.2 <= sampler(rng).workload.mean_rate_rps / nominal <= 0.3


def test_a_fixed_fleet_has_a_load_in_proportion():
    sampler, rng = training_sampler("placement", load=(1.0, 1.0)), np.random.default_rng(0)
    sampler.cases = sampler.cases[:1]
    case = sampler.cases[0].scenario
    each = case.workload.mean_rate_rps / case.fleet.types[0].initial
    for _ in range(10):
        scenario = sampler(rng)
        (kind,) = scenario.fleet.types
        assert 4 <= kind.initial == kind.minimum <= 16
        assert scenario.workload.mean_rate_rps / kind.initial == pytest.approx(each)


def test_an_unknown_group_is_refused():
    with pytest.raises(InputError, match="three-types"):
        training_sampler("joint", "three-type")


@pytest.mark.parametrize("task", TASKS)
def test_environments_take_the_samplers(task):
    for group in training_groups(task):
        env = gym.make_vec(
            f"aladdin/{task.title()}-v0", 3, scenario=group.scenario, scenario_sampler=group.sampler(horizon_s=60.0)
        )
        _, info = env.reset(seed=4)
        env.action_space.seed(0)
        ended = 0
        for _ in range(20 if task == "scaling" else 200):
            *_, terminated, _, info = env.step(env.action_space.sample())
            ended += int(terminated.sum())
        assert ended or task != "scaling"
        assert info["action_mask"].shape[0] == 3


def test_presets_are_not_changed():
    assert load_scenario("flood").fleet.types[0].maximum == 16
