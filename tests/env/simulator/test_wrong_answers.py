"""What a policy, a seed or a scenario must not say: one clear error each, from the simulator and from environments."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import aladdin_env  # noqa: F401  (registers the environments)
from aladdin_env.errors import InputError
from aladdin_env.policy import Combined
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Failures, Scenario
from aladdin_env.simulator.run import Simulator, simulate
from aladdin_traces import FixedLengths, Poisson, Workload


class Places:
    """Answers the same to every request."""

    name = "says"

    def __init__(self, slot: object) -> None:
        self.slot = slot

    def place(self, view, request):  # type: ignore[no-untyped-def]
        return self.slot


class Scales:
    """Wants the same at every heartbeat."""

    name = "says"

    def __init__(self, workers: object) -> None:
        self.workers = workers

    def scale(self, view):  # type: ignore[no-untyped-def]
        return self.workers


def small(**changes: object) -> Scenario:
    workload = Workload.generated(Poisson(2.0), FixedLengths(50, 20))
    return replace(load_scenario("sharegpt-poisson"), workload=workload, horizon_s=40.0, heartbeat_s=5.0, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("slot", [1.5, "0", None, [0], float("nan")])
def test_an_answer_that_is_no_integer(slot: object) -> None:
    with pytest.raises(InputError, match=r"answer of policy 'says'.*return a slot"):
        simulate(small(), Places(slot))
    env = gym.make("aladdin/Scaling-v0", scenario=small(), policy=Places(slot))
    with pytest.raises(InputError, match=r"answer of policy 'says'"):
        env.reset(seed=0)
        env.step(0)


def test_a_slot_that_is_no_candidate() -> None:
    with pytest.raises(InputError, match=r"slot from policy 'says' for request 0 .* choose one of \[0"):
        simulate(small(), Places(10_000))
    env = gym.make("aladdin/Scaling-v0", scenario=small(), policy=Places(10_000))
    with pytest.raises(InputError, match=r"slot from policy 'says' for request 0 .* there is no such slot"):
        env.reset(seed=0)


@pytest.mark.parametrize("workers", [5, [], [1, 2, 3], [1.5], ["x"], [float("nan")]])
def test_a_scale_decision_that_is_none(workers: object) -> None:
    with pytest.raises(InputError, match=r"scale decision of policy 'says'.*one per worker type"):
        simulate(small(), Combined(Places(0), Scales(workers)))
    env = gym.make("aladdin/Placement-v0", scenario=small(), scaler=Scales(workers))
    env.reset(seed=0)
    with pytest.raises(InputError, match=r"scale decision of policy 'says'"):
        for _ in range(200):
            env.step(int(np.flatnonzero(env.unwrapped.action_masks())[0]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("action", [None, "x", 2.5, float("nan"), [1, 2]])
def test_an_action_that_is_no_integer(action: object) -> None:
    env = gym.make("aladdin/Placement-v0", scenario=small()).unwrapped
    env.reset(seed=0)
    with pytest.raises(InputError, match=r"action: .*whole number"):
        env.step(action)
    with pytest.raises(InputError, match=r"there is no such action; allowed: 0"):
        env.step(10_000)
    envs = gym.make_vec("aladdin/Placement-v0", num_envs=2, scenario=small())
    envs.reset(seed=0)
    with pytest.raises(InputError, match=r"actions.*one integer for each of 2"):
        envs.step(np.array([0.5, 1.0]))


@pytest.mark.parametrize("source", [3, None, 2.5, ["a"]])
def test_a_scenario_that_is_none(source: object) -> None:
    with pytest.raises(InputError, match=r"scenario.*give a Scenario"):
        gym.make("aladdin/Placement-v0", scenario=source)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", None])
def test_a_seed_that_is_none(seed: object) -> None:
    with pytest.raises(InputError, match=r"seed.*whole number from 0"):
        Simulator(small(), seed)  # type: ignore[arg-type]


def test_slips_of_the_pen_that_would_never_end() -> None:
    with pytest.raises(InputError, match=r"heartbeat_s: 1e-09 .* give more than"):
        simulate(replace(small(), heartbeat_s=1e-9))
    fleet = replace(small().fleet, failures=Failures(mtbf_s=1e-6))
    with pytest.raises(InputError, match=r"mtbf_s: 1e-06 .* failures in 80 s; give more than"):
        simulate(replace(small(), fleet=fleet))
