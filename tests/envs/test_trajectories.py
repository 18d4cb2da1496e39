"""Determinism across processes, and a random agent over 100,000 steps."""

import hashlib
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from aladdin_env.features import LIMIT


def trajectory_hash(steps=400):
    env = gym.make("aladdin_env:aladdin/Joint-v0", scenario="mixed-fleet", allow_hold=True)
    env.action_space.seed(3)
    digest = hashlib.sha256()
    observation, _ = env.reset(seed=3)
    for _ in range(steps):
        observation, reward, *_ = env.step(env.action_space.sample())
        for key in sorted(observation):
            digest.update(observation[key].tobytes())
        digest.update(np.float64(reward).tobytes())
    return digest.hexdigest()


def test_same_seed_same_trajectory_in_another_process():
    code = f"import runpy; print(runpy.run_path({__file__!r})['trajectory_hash']())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert other.stdout.strip() == trajectory_hash()


@pytest.mark.parametrize(
    ("name", "kind", "steps"),
    [
        ("Placement", "failing", 20_000),
        ("Joint", "elastic", 20_000),
        ("Joint", "split", 20_000),
        ("Joint", "tight", 20_000),
        ("Scaling", "elastic", 20_000),
    ],
)
def test_random_agent_finds_no_invalid_state(name, kind, steps, scenario, kernel):
    options = {"policy": kernel} if name == "Scaling" else {"allow_hold": True}
    n = 20
    envs = gym.make_vec(f"aladdin/{name}-v0", n, scenario=scenario(kind, horizon_s=12.0, rate=25.0), **options)
    envs.action_space.seed(0)
    observations, infos = envs.reset(seed=0)
    ended = 0
    for step in range(steps // n):
        for key, values in observations.items():
            assert np.isfinite(values).all() and (np.abs(values) <= LIMIT).all(), key
        assert observations["mask"].any(axis=1).all()
        if step % 50 == 0:
            assert envs.observation_space.contains(observations)
            _conserved(envs.unwrapped.engine)
        observations, rewards, terminated, _, infos = envs.step(envs.action_space.sample())
        assert np.isfinite(rewards).all() and (rewards <= 0).all()
        assert np.array_equal(infos["action_mask"], observations["mask"])
        assert np.array_equal(envs.unwrapped.action_masks(), observations["mask"].astype(bool))
        ended += int(terminated.sum())
    assert ended > 0


def _conserved(engine):
    """Every request that has arrived is in exactly one place."""
    for world in engine.worlds:
        cluster, workers = world.cluster[0], world.workers
        asked = int(world.control[0]["asked"] >= 0)
        gone = cluster["finished"] + cluster["rejected"] + cluster["failed"]
        assert cluster["arrived"] == gone + cluster["in_flight"]
        here = workers["running"].sum() + workers["waiting"].sum() + workers["inbound"].sum()
        assert here == workers["members"].sum()
        asked_in_queue = asked and world.requests[world.control[0]["asked"]]["status"] == 1  # HELD: offered again
        pending = 0
        r = int(world.control[0]["pending_head"])
        while r >= 0:
            pending += 1
            r = int(world.requests[r]["next"])
        assert cluster["in_flight"] == here + cluster["held"] + pending + asked - int(asked_in_queue)
        assert (workers["kv_used_blocks"] <= workers["kv_blocks"]).all()
