"""Numbering of actions, and the spaces that sample allowed actions only."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest

from aladdin_env.envs.spaces import Actions, MaskedDiscrete, MaskedMultiDiscrete, Task
from aladdin_env.observation import WORKER_FEATURES, cluster_size


def test_numbering(scenario):
    actions = Actions.of(Task(places=True, scales=True, holds=True, max_change=1), scenario("elastic"))
    assert actions.size == 7 + 1 + 1 + 2 * 2
    names = [actions.name(a) for a in range(actions.size)]
    assert names[6:] == ["place on slot 6", "hold", "no change", "-1 a", "+1 a", "-1 b", "+1 b"]


def test_space_samples_what_is_allowed():
    mask = np.array([0, 1, 0, 1, 0], dtype=np.int8)
    space = MaskedDiscrete(mask)
    space.seed(0)
    assert {int(space.sample()) for _ in range(50)} == {1, 3}
    mask[:] = [1, 0, 0, 0, 0]
    assert space.sample() == 0
    assert space.sample(mask=np.array([0, 0, 0, 0, 1], dtype=np.int8)) == 4
    assert space == gym.spaces.Discrete(5)
    for other in (copy.deepcopy(space), pickle.loads(pickle.dumps(space))):
        assert type(other) is gym.spaces.Discrete


def test_first_sample_after_seeding_suits_the_beginning_of_an_episode():
    mask = np.array([1, 1, 0], dtype=np.int8)
    space = MaskedDiscrete(mask)
    space.begin()
    mask[:] = [0, 1, 1]
    for seed in range(10):
        space.seed(seed)
        assert space.sample() == 1
    space.seed(0)
    space.sample()
    assert {int(space.sample()) for _ in range(50)} == {1, 2}


def test_space_never_seeded_samples_what_is_allowed_now():
    mask = np.array([1, 0], dtype=np.int8)
    space = MaskedDiscrete(mask)
    space.begin()
    space.sample()
    mask[:] = [0, 1]
    assert space.sample() == 1


def test_batched_space():
    masks = np.array([[0, 1, 0], [1, 0, 1]], dtype=np.int8)
    space = MaskedMultiDiscrete(masks)
    space.seed(0)
    drawn = np.array([space.sample() for _ in range(60)])
    assert set(drawn[:, 0]) == {1} and set(drawn[:, 1]) == {0, 2}
    assert space == gym.spaces.MultiDiscrete([3, 3])
    assert type(copy.deepcopy(space)) is gym.spaces.MultiDiscrete


@pytest.mark.parametrize("name", ["Placement", "Scaling", "Joint"])
def test_shapes_and_masks_three_ways(name, scenario, kernel):
    env = gym.make(
        f"aladdin/{name}-v0", scenario=scenario("elastic"), **({"policy": kernel} if name == "Scaling" else {})
    )
    observation, info = env.reset(seed=0)
    shapes = {key: space.shape for key, space in env.observation_space.spaces.items()}
    actions = int(env.action_space.n)
    assert shapes == {
        "workers": (7 * len(WORKER_FEATURES),), "request": (10,), "cluster": (cluster_size(2),), "mask": (actions,),
    }  # fmt: skip
    masks = (observation["mask"], info["action_mask"], env.unwrapped.action_masks())
    assert masks[2].dtype == np.bool_ and observation["mask"].dtype == np.int8
    assert all(np.array_equal(masks[0], mask) for mask in masks)


def test_joint_mask_is_one_half_or_the_other(scenario):
    env = gym.make("aladdin/Joint-v0", scenario=scenario("elastic"), allow_hold=True)
    observation, _ = env.reset(seed=0)
    seen = set()
    for _ in range(200):
        scaling = bool(observation["cluster"][0])
        seen.add(scaling)
        assert observation["mask"][:8].any() != scaling
        assert observation["mask"][8:].any() == scaling
        assert bool(observation["request"][0]) != scaling
        observation, *_ = env.step(env.action_space.sample())
    assert seen == {True, False}
