"""The environments and networks as RLlib takes them; ``tests/examples`` trains with them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns
from ray.tune.registry import ENV_CREATOR, _global_registry

from aladdin_agents.learned.shape import Shape
from aladdin_agents.scale_out.rllib import IDS, ClusterModule, register
from aladdin_env.envs.spaces import Task
from aladdin_env.errors import InputError
from tests.agents.learned.train.toys import elastic

TASK = Task(places=True, scales=True, holds=True)


@pytest.fixture
def env():
    return gym.make("aladdin/Joint-v0", scenario=elastic(), allow_hold=True)


@pytest.fixture
def module(env):
    def make(**config):
        return ClusterModule(
            observation_space=env.observation_space, action_space=env.action_space, model_config=config
        )

    return make


def test_the_environments_are_registered():
    assert set(IDS) == {name for name in gym.registry if name.startswith("aladdin/")}
    register()
    for name in IDS:
        env = _global_registry.get(ENV_CREATOR, name)({"scenario": elastic()})
        observation, _ = env.reset(seed=1)
        assert env.observation_space.contains(observation)


@pytest.mark.parametrize("network", ["equivariant", "mlp"])
def test_what_the_mask_forbids_has_no_chance(env, module, network):
    torch.manual_seed(0)
    made = module(shape=Shape.of(TASK, types=2), network=network, hidden=8)
    seen = [env.reset(seed=seed)[0] for seed in range(4)]
    seen[0]["mask"][:2] = 0
    batch = {Columns.OBS: {key: torch.as_tensor(np.stack([one[key] for one in seen])) for key in seen[0]}}
    found = made.forward_train(batch)
    chances = torch.softmax(found[Columns.ACTION_DIST_INPUTS], dim=1)
    mask = batch[Columns.OBS]["mask"] > 0
    assert chances.shape == mask.shape and (~mask).any()
    assert (chances[~mask] == 0).all() and (chances[mask] > 0).all()
    values = made.compute_values(batch)
    assert values.shape == (4,) and torch.equal(values, found[Columns.EMBEDDINGS])
    assert torch.equal(made.compute_values(batch, embeddings=found[Columns.EMBEDDINGS]), values)


def test_without_a_shape_it_says_what_is_missing(module):
    with pytest.raises(InputError, match=r"model_config.shape: None is not valid; give Shape.of"):
        module(hidden=8)
