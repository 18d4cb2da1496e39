"""Experts beside environments decide as in a simulation, and what they do is learned."""

from __future__ import annotations

from functools import partial

import gymnasium as gym
import numpy as np
import pytest

from aladdin_agents.learned.train.curriculum import Load
from aladdin_agents.learned.train.experts import NO_ACTION, Experts
from aladdin_agents.learned.train.imitation import Imitator, same_choices
from aladdin_agents.learned.train.learner import make_learner
from aladdin_agents.learned.train.sources import make_pool, sources_of
from aladdin_env.errors import InputError
from aladdin_env.policy import Combined, make_policy
from aladdin_env.simulator.run import simulate
from aladdin_traces import FixedLengths
from tests.agents.learned.train.toys import elastic, load, small, written


def busy():
    return elastic(name="busy", workload=load(80.0, FixedLengths(1500, 100)), horizon_s=10.0)


@pytest.mark.parametrize("spec", ["aladdin_plus", "aladdin", "least_request"])
def test_a_placement_beside_an_environment_is_the_one_in_a_simulation(spec):
    """HOLD and REJECT included; bit for bit."""
    env = gym.make("aladdin/Placement-v0", scenario=busy(), allow_hold=True, allow_reject=True)
    env.reset(seed=5)
    experts = Experts(env.unwrapped.engine, partial(make_policy, spec))
    experts.begin(0)
    over, actions = False, set()
    while not over:
        action = experts.actions()[0]
        actions.add(int(action))
        _, _, over, _, info = env.step(action)
    expected = simulate(busy(), make_policy(spec, busy()), seed=5).summary
    assert info["summary"]["slo_attainment"] == expected["slo_attainment"]
    assert info["summary"]["rejected"] == expected["rejected"]
    assert (spec != "aladdin_plus") or expected["rejected"] > 0


def test_a_scaler_beside_an_environment_is_the_one_in_a_simulation():
    """Where the changes it wants are small enough to be actions."""
    scenario = elastic(horizon_s=200.0)
    env = gym.make("aladdin/Scaling-v0", scenario=scenario, policy="aladdin_plus", max_change=3)
    env.reset(seed=5)
    experts = Experts(env.unwrapped.engine, partial(make_policy, "aladdin_plus+target_utilisation"))
    experts.begin(0)
    over = False
    while not over:
        _, _, over, _, info = env.step(experts.actions()[0])
    expected = simulate(scenario, "aladdin_plus+target_utilisation", seed=5).summary
    assert info["summary"]["gpus_mean"] == pytest.approx(expected["gpus_mean"], rel=0.1)


class Wants:
    name = "wants"

    def __init__(self, wanted):
        self.wanted = wanted

    def scale(self, view):
        return self.wanted


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (None, "no change"), ((2, 1), "no change"), ((3, 1), "+1 a"), ((2, 9), "+1 b"), ((1, 0), "-1 a"),
        ((1, 2), "+1 b"), ((2, 0), "-1 b"), ((0, 1), "-1 a"),
    ],
)  # fmt: skip
def test_wishes_become_the_nearest_allowed_change(wanted, name):
    """The fleet has 2 (of 1 to 3) and 1 (of 0 to 2) workers; what lacks comes first."""
    env = gym.make("aladdin/Scaling-v0", scenario=elastic(), policy="least_request", max_change=2)
    env.reset(seed=0)
    engine = env.unwrapped.engine
    placement = make_policy("least_request", elastic()).placement
    experts = Experts(engine, lambda scenario: Combined(placement, Wants(wanted)))
    assert engine.actions.name(int(experts.actions()[0])) == name


def test_what_is_no_action_is_said_to_be_none():
    env = gym.make("aladdin/Placement-v0", scenario=busy())
    env.reset(seed=0)
    for answer in (-1, -2):
        placement = type("Says", (), {"name": "says", "place": lambda self, view, request, a=answer: a})()
        assert Experts(env.unwrapped.engine, lambda scenario, p=placement: Combined(p)).actions()[0] == NO_ACTION


def test_experts_that_want_to_hear_of_events_are_refused():
    listener = type("Hears", (), {"name": "hears", "place": lambda *_: 0, "on_finish": lambda *_: None})()
    env = gym.make("aladdin/Placement-v0", scenario=busy())
    with pytest.raises(InputError, match=r"imitation.expert: 'hears' is not valid; it wants to hear of events"):
        Experts(env.unwrapped.engine, lambda scenario: Combined(listener))


def test_workers_that_look_the_same_are_the_same_choice():
    workers = np.zeros((3, 4, 24), dtype=np.float32)
    workers[:, 2] = 1.0
    mask = np.array([[1, 1, 1, 0, 1]] * 3)
    found = same_choices({"workers": workers.reshape(3, -1), "mask": mask}, np.array([0, 2, 4]), 4)
    assert found.tolist() == [
        [True, True, False, False, False],  # slot 3 looks the same, and is not allowed
        [False, False, True, False, False],
        [False, False, False, False, True],  # HOLD
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "least"), [("placement", 0.8), ("scaling", 0.8), ("joint", 0.8)])
def test_the_learner_comes_to_agree_with_the_expert(task, least, tmp_path):
    more = {"steps": 3000, "rounds": 5, "epochs": 8, "batch_size": 128, "agreement": 0.99, "learning_rate": 3e-3}
    network = {"hidden": 32}
    expert = {"expert": "aladdin_plus+tuned_reactive"}
    config = small(task, written(elastic(), tmp_path), imitation=more | expert, network=network)
    pool = make_pool(config, sources_of(config), Load(config.curriculum))
    model = make_learner(config, pool)
    pool.seed(0)
    seen: list[str] = []
    agreement = Imitator(model, pool, config.imitation, 0).run(lambda what, part: seen.append(what))
    assert agreement >= least
    assert seen[0] == "round 1: watching" and "round 2: learning" in seen
