"""The environments' ids, registered on ``import aladdin_env``; nothing heavy is imported for it."""

from __future__ import annotations

import gymnasium as gym

_CLASSES = {
    "aladdin/Placement-v0": "aladdin_env.envs.placement:Placement",
    "aladdin/Scaling-v0": "aladdin_env.envs.scaling:Scaling",
    "aladdin/Joint-v0": "aladdin_env.envs.joint:Joint",
}


def register_envs() -> None:
    """Make the ids known to Gymnasium (again, if need be)."""
    for name, stem in _CLASSES.items():
        if name not in gym.registry:
            gym.register(name, entry_point=f"{stem}Env", vector_entry_point=f"{stem}VectorEnv")
