"""Gymnasium's and SB3's own checkers, without a single warning (pytest turns warnings into errors)."""

import pickle

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

IDS = ("aladdin/Placement-v0", "aladdin/Scaling-v0", "aladdin/Joint-v0")
CASES = [(name, kind) for name in IDS for kind in ("fixed", "elastic", "split", "failing")]


@pytest.fixture
def options():
    return {
        "aladdin/Placement-v0": {"allow_hold": True, "allow_reject": True},
        "aladdin/Scaling-v0": {"policy": "least_request", "max_change": 1},
        "aladdin/Joint-v0": {},
    }


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_gymnasium_checker(name, kind, scenario, options):
    env = gym.make(name, scenario=scenario(kind), **options[name])
    check_env(env.unwrapped)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_sb3_checker(name, kind, scenario, options):
    sb3_check_env(gym.make(name, scenario=scenario(kind), **options[name]).unwrapped)


@pytest.mark.parametrize("name", IDS)
def test_made_through_the_module_name(name, scenario, options):
    env = gym.make(f"aladdin_env:{name}", scenario=scenario(), **options[name])
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space


@pytest.mark.parametrize("name", IDS)
def test_default_scenarios(name, kernel):
    env = gym.make(name, **({"policy": kernel} if name == "aladdin/Scaling-v0" else {}))
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space


@pytest.mark.parametrize("name", IDS)
def test_pickles_with_its_arguments(name, scenario):
    options = {"policy": "least_request"} if name == "aladdin/Scaling-v0" else {}
    env = gym.make(name, scenario=scenario(), **options)
    copy = pickle.loads(pickle.dumps(env))
    assert copy.action_space == env.action_space
    first, again = env.reset(seed=4)[0], copy.reset(seed=4)[0]
    assert all((first[key] == again[key]).all() for key in first)
    envs = gym.make_vec(name, 2, scenario=scenario(), **options)
    assert pickle.loads(pickle.dumps(envs)).reset(seed=4)[0]["mask"].shape == envs.reset(seed=4)[0]["mask"].shape


def test_unknown_argument_is_refused(scenario):
    with pytest.raises(TypeError, match="allow_hodl"):
        gym.make("aladdin/Placement-v0", scenario=scenario(), allow_hodl=True)
