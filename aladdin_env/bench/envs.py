"""Steps per second of the placement environment, observations, masks and resets included."""

from __future__ import annotations

import time

import gymnasium as gym
import numpy as np

from aladdin_env.bench.worlds import bench_scenario
from aladdin_env.envs import register_envs

WORKERS, REQUESTS, CHUNKS = 16, 5_000, 40


def vec_env_steps_per_s(num_envs: int = 64, steps: int = 400, scheduler: str = "chunked") -> float:
    """Placement steps per second of ``gymnasium.make_vec("aladdin/Placement-v0", 64)``, all environments counted.

    16 workers, ShareGPT lengths, 5 requests/s per worker, episodes of about 5,000 requests. The actions are drawn
    beforehand, any worker equally likely (the fleet is fixed, so all are allowed). Timed are simulation, rewards,
    observations, masks, infos and resets; the environments are spread evenly over an episode, so that resets come
    evenly too. Best of 40 runs of 400 steps, one core.
    """
    register_envs()
    envs = gym.make_vec("aladdin/Placement-v0", num_envs, scenario=bench_scenario(WORKERS, scheduler, REQUESTS))
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    for e in range(num_envs):  # one after the other begins anew
        for row in rng.integers(0, WORKERS, (REQUESTS // num_envs, num_envs)):
            envs.step(row)
        envs.reset(options={"reset_mask": np.arange(num_envs) == e})
    actions = rng.integers(0, WORKERS, (steps, num_envs))
    best = 0.0
    for _ in range(CHUNKS):
        start = time.perf_counter()
        for row in actions:
            envs.step(row)
        best = max(best, steps * num_envs / (time.perf_counter() - start))
    envs.close()
    return best


def env_steps_per_s(steps: int = 2_000, scheduler: str = "chunked") -> float:
    """The same for a single ``gymnasium.make("aladdin/Placement-v0")``, with Gymnasium's own wrappers as they come.

    Best of 40 runs of 2,000 steps; resets are timed where they fall.
    """
    register_envs()
    env = gym.make("aladdin/Placement-v0", scenario=bench_scenario(WORKERS, scheduler, REQUESTS))
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, WORKERS, steps).tolist()
    best = 0.0
    for _ in range(CHUNKS):
        start = time.perf_counter()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        best = max(best, steps / (time.perf_counter() - start))
    env.close()
    return best
