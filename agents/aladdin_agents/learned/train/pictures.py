"""Moments of an episode under a checkpoint, as the environments render them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from aladdin_agents.learned.train.config import Config
from aladdin_agents.learned.train.experts import Experts
from aladdin_agents.learned.train.sources import env_id, env_options
from aladdin_agents.learned.train.validation import Trial, learned

# A placement is a step a request: longer episodes would take minutes to look at.
_MOST_S = 900.0


def moments(config: Config, checkpoint: Path, trial: Trial, count: int) -> list[NDArray[np.uint8]]:
    """``count`` pictures (height, width, 3), evenly spaced over the first quarter of an hour of the trial's episode."""
    scenario = trial.scenario
    length_s = min(scenario.horizon_s or _MOST_S, _MOST_S)
    scenario = replace(scenario, horizon_s=length_s)
    env = gym.make(env_id(config.task), scenario=scenario, render_mode="rgb_array", **env_options(config))
    cluster: Any = env.unwrapped
    env.reset(seed=trial.seeds[0])
    policy = Experts(cluster.engine, partial(learned, checkpoint))
    policy.begin(0)
    found: list[NDArray[np.uint8]] = []
    while len(found) < count:
        _, _, terminated, _, _ = env.step(policy.actions()[0])
        if terminated or cluster.engine.view(0).now_s >= length_s * (len(found) + 0.5) / count:
            found.append(cluster.render())
        if terminated:
            break
    env.close()
    return found
