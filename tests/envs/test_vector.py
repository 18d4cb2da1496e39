"""The native vector environment: equal to single ones bit for bit, SAME_STEP autoreset, seeds, growth."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from aladdin_env.errors import InputError

N = 3


def _options(name, kernel, python_policy, scaler):
    return {
        "placement": ("aladdin/Placement-v0", {"allow_hold": True}),
        "placement, scaled": ("aladdin/Placement-v0", {"scaler": scaler}),
        "scaling": ("aladdin/Scaling-v0", {"policy": kernel}),
        "scaling, Python inside": ("aladdin/Scaling-v0", {"policy": python_policy}),
        "joint": ("aladdin/Joint-v0", {"allow_hold": True, "allow_reject": True}),
        "joint, cut": ("aladdin/Joint-v0", {"drain": False}),
    }[name]


def _same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert np.array_equal(one[key], other[key]), key


@pytest.mark.parametrize("kind", ["elastic", "failing"])
@pytest.mark.parametrize(
    "name",
    ["placement", "placement, scaled", "scaling", "scaling, Python inside", "joint", "joint, cut"],
)
def test_equals_single_environments(name, kind, scenario, kernel, python_policy, scaler):
    env_id, options = _options(name, kernel, python_policy, scaler)
    made = {"scenario": scenario(kind, horizon_s=8.0), **options}
    envs = gym.make_vec(env_id, N, **made)
    singles = [gym.make(env_id, **made) for _ in range(N)]
    observations, infos = envs.reset(seed=5)
    for e, env in enumerate(singles):
        observation, info = env.reset(seed=5 + e)
        _same(observation, {key: value[e] for key, value in observations.items()})
        _same(info, {key: infos[key][e] for key in info})
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(300):
        actions = [rng.choice(np.flatnonzero(mask)) for mask in observations["mask"]]
        observations, rewards, terminated, truncated, infos = envs.step(np.array(actions))
        for e, env in enumerate(singles):
            observation, reward, term, trunc, info = env.step(actions[e])
            assert (reward, term, trunc) == (rewards[e], terminated[e], truncated[e])
            if term or trunc:
                ends += 1
                _same(observation, infos["final_obs"][e])
                assert infos["_final_info"][e]
                assert infos["final_info"]["summary"]["cost"][e] == info["summary"]["cost"]
                observation, info = env.reset()
            _same(observation, {key: value[e] for key, value in observations.items()})
            _same(info, {key: infos[key][e] for key in info})
    assert ends >= N


def test_declares_its_autoreset(scenario):
    envs = gym.make_vec("aladdin/Placement-v0", N, scenario=scenario())
    assert isinstance(envs, VectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.observation_space.contains(envs.reset(seed=0)[0])
    assert envs.action_space.contains(envs.action_space.sample())


def test_returned_arrays_are_the_callers(scenario):
    envs = gym.make_vec("aladdin/Placement-v0", N, scenario=scenario())
    first, infos = envs.reset(seed=0)
    kept = {key: value.copy() for key, value in first.items()}
    mask = infos["action_mask"].copy()
    rewards = envs.step(envs.action_space.sample())[1]
    _same(first, kept)
    assert np.array_equal(infos["action_mask"], mask)
    before = rewards.copy()
    envs.step(envs.action_space.sample())
    assert np.array_equal(rewards, before)


def test_forbidden_action_names_its_environment_and_changes_nothing(scenario):
    envs = gym.make_vec("aladdin/Placement-v0", N, scenario=scenario())
    observations, _ = envs.reset(seed=0)
    actions = envs.action_space.sample()
    forbidden = int(np.flatnonzero(observations["mask"][1] == 0)[0])
    with pytest.raises(InputError, match=rf"action of environment 1.*{forbidden}.*not allowed now; allowed: 0"):
        envs.step(np.where(np.arange(N) == 1, forbidden, actions))
    _same(envs.unwrapped.observe(), observations)
    other = gym.make_vec("aladdin/Placement-v0", N, scenario=scenario())
    other.reset(seed=0)
    _same(envs.step(actions)[0], other.step(actions)[0])


def test_seeds(scenario):
    envs = gym.make_vec("aladdin/Placement-v0", N, scenario=scenario())
    by_int = envs.reset(seed=7)[0]
    by_list = envs.reset(seed=[7, 8, 9])[0]
    _same(by_int, by_list)
    assert not np.array_equal(envs.reset()[0]["request"], by_int["request"])
    assert not np.array_equal(by_int["request"][0], by_int["request"][1])
    with pytest.raises(InputError, match="3 seeds"):
        envs.reset(seed=[1, 2])


def test_reset_mask_leaves_the_others_alone(scenario):
    envs = gym.make_vec("aladdin/Placement-v0", N, scenario=scenario())
    envs.reset(seed=0)
    for _ in range(20):
        before = envs.step(envs.action_space.sample())[0]
    after, infos = envs.reset(seed=100, options={"reset_mask": np.array([False, True, False])})
    for e in (0, 2):
        _same({key: value[e] for key, value in after.items()}, {key: value[e] for key, value in before.items()})
    assert infos["arrived"].tolist()[1] == 1.0
    with pytest.raises(InputError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.zeros(N, dtype=np.bool_)})


def test_longer_episodes_find_room(scenario):
    """A later episode with many more requests makes the arrays grow without disturbing the other environments."""
    calm = scenario("failing", rate=4.0)
    busy = scenario("failing", rate=30.0)

    def draw(rng):
        return busy if rng.random() < 0.4 else calm

    options = {"scenario": calm, "scenario_sampler": draw}
    envs = gym.make_vec("aladdin/Placement-v0", N, **options)
    singles = [gym.make("aladdin/Placement-v0", **options) for _ in range(N)]
    observations, _ = envs.reset(seed=3)
    for e, env in enumerate(singles):
        env.reset(seed=3 + e)
    for _ in range(1500):
        actions = observations["mask"].argmax(axis=1)
        observations = envs.step(actions)[0]
        for e, env in enumerate(singles):
            observation, _, terminated, _, _ = env.step(actions[e])
            if terminated:
                observation = env.reset()[0]
            _same(observation, {key: value[e] for key, value in observations.items()})
    assert {s.name for s in envs.unwrapped.engine.scenarios} == {"failing"}


def test_step_before_reset(scenario):
    envs = gym.make_vec("aladdin/Placement-v0", N, scenario=scenario())
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(N, dtype=np.int64))


def test_wrong_number_of_actions(scenario):
    envs = gym.make_vec("aladdin/Placement-v0", N, scenario=scenario())
    envs.reset(seed=0)
    with pytest.raises(InputError, match="one integer for each of 3"):
        envs.step(np.zeros(2, dtype=np.int64))


def test_gymnasium_wrappers_work_on_it(scenario):
    envs = gym.wrappers.vector.RecordEpisodeStatistics(
        gym.make_vec("aladdin/Placement-v0", N, scenario=scenario(horizon_s=4.0))
    )
    envs.reset(seed=0)
    for _ in range(200):
        infos = envs.step(envs.action_space.sample())[4]
        if "episode" in infos:
            break
    assert infos["episode"]["l"].max() > 5
