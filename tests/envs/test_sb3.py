"""The native batch under Stable-Baselines3."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor

from aladdin_env.envs.sb3 import SB3VecEnv
from aladdin_env.errors import InputError


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_masks_attributes_and_methods(scenario):
    envs = SB3VecEnv.make("aladdin/Joint-v0", 3, seed=1, scenario=scenario())
    observation = envs.reset()
    assert is_masking_supported(envs)
    assert np.array_equal(get_action_masks(envs), observation["mask"].astype(bool))
    assert [mask().sum() for mask in envs.get_attr("action_masks")] == observation["mask"].sum(axis=1).tolist()
    assert envs.get_attr("scenario", [0, 2]) == [scenario(), scenario()]
    assert envs.env_is_wrapped(Monitor) == [True] * 3 and envs.env_is_wrapped(gym.wrappers.ClipReward) == [False] * 3
    assert envs.env_method("summary", indices=[1])[0]["requests"] > 0
    assert not envs.has_attr("nonsense")
    with pytest.raises(AttributeError, match="only action_masks"):
        envs.env_method("nonsense")
    with pytest.raises(InputError, match="native vector environment"):
        SB3VecEnv(gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")]))


@pytest.mark.parametrize("drain", [True, False])
def test_ends_of_episodes(drain, scenario):
    """As SB3's own wrapper over single environments gives them."""
    options = {"scenario": scenario("fixed", horizon_s=5.0), "drain": drain}
    envs = SB3VecEnv.make("aladdin/Placement-v0", 2, seed=3, **options)
    singles = [Monitor(gym.make("aladdin/Placement-v0", **options)) for _ in range(2)]
    observations = envs.reset()
    for e, env in enumerate(singles):
        assert np.array_equal(env.reset(seed=3 + e)[0]["workers"], observations["workers"][e])
    ended = 0
    for step in range(120):
        observations, rewards, dones, infos = envs.step(np.full(2, step % 4))
        for e, env in enumerate(singles):
            observation, reward, terminated, truncated, info = env.step(step % 4)
            assert rewards[e] == np.float32(reward) and dones[e] == (terminated or truncated)
            if dones[e]:
                ended += 1
                assert truncated is not drain
                assert infos[e]["TimeLimit.truncated"] is truncated
                last = infos[e]["terminal_observation"]
                assert all(np.array_equal(last[key], observation[key]) for key in observation)
                assert infos[e]["summary"]["cost"] == info["summary"]["cost"]
                assert infos[e]["episode"]["l"] == info["episode"]["l"]
                assert infos[e]["episode"]["r"] == pytest.approx(info["episode"]["r"], abs=2e-6)
                observation = env.reset()[0]
            assert np.array_equal(observation["request"], observations["request"][e])
    assert ended >= 2


@pytest.mark.parametrize("name", ["Placement", "Joint"])
def test_maskable_ppo_learns(name, scenario):
    envs = SB3VecEnv.make(f"aladdin/{name}-v0", 8, seed=0, scenario=scenario(horizon_s=5.0))
    model = MaskablePPO("MultiInputPolicy", envs, n_steps=64, batch_size=256, n_epochs=1, seed=0)
    model.learn(2 * 8 * 64)
    assert np.isfinite(model.ep_info_buffer[0]["r"])
    mean, _ = evaluate_policy(model, envs, n_eval_episodes=4)
    assert mean < 0


def test_ppo_and_saving(scenario, tmp_path):
    envs = SB3VecEnv.make("aladdin/Placement-v0", 8, seed=0, scenario=scenario("fixed", horizon_s=5.0))
    model = PPO("MultiInputPolicy", envs, n_steps=32, batch_size=256, n_epochs=1, seed=0)
    model.learn(8 * 32)
    model.save(tmp_path / "model.zip")
    again = PPO.load(tmp_path / "model.zip", env=envs)
    observation = envs.reset()
    assert np.array_equal(
        model.predict(observation, deterministic=True)[0], again.predict(observation, deterministic=True)[0]
    )


def test_pictures(scenario):
    envs = SB3VecEnv.make("aladdin/Placement-v0", 2, scenario=scenario(), render_mode="rgb_array")
    envs.reset()
    assert envs.render().ndim == 3
