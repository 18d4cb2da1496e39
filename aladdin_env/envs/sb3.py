"""The native batch as a Stable-Baselines3 ``VecEnv``; the only module here that imports Stable-Baselines3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from aladdin_env.envs.vector import ClusterVectorEnv, Observation
from aladdin_env.errors import InputError

Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):
    """A native vector environment for PPO, MaskablePPO and the other learners of Stable-Baselines3.

    ``terminal_observation`` and ``TimeLimit.truncated`` are in the last info of an episode, and so is ``episode`` with
    its return, length and time, as ``Monitor`` would give it: no further wrapper is needed for a learner's log.

    Args:
        envs: From ``gymnasium.make_vec("aladdin/Placement-v0", num_envs=64, ...)``.
    """

    def __init__(self, envs: gym.vector.VectorEnv[Any, Any, Any]) -> None:
        native = envs.unwrapped
        if not isinstance(native, ClusterVectorEnv):
            raise InputError("envs", envs, 'give a native vector environment: gymnasium.make_vec("aladdin/...")')
        self.native = native
        self.metadata = native.metadata
        super().__init__(native.num_envs, native.single_observation_space, native.single_action_space)
        self._actions: NDArray[np.int64] = np.zeros(self.num_envs, dtype=np.int64)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._start = time.time()

    @classmethod
    def make(cls, name: str, num_envs: int = 64, seed: int | None = None, **options: Any) -> SB3VecEnv:
        """``gymnasium.make_vec(name, num_envs, **options)`` as a VecEnv, seeded with ``seed``, ``seed + 1``, ..."""
        made = cls(gym.make_vec(name, num_envs=num_envs, **options))
        if seed is not None:
            made.seed(seed)
        return made

    def reset(self) -> Observation:
        """Begin an episode in every environment, with the seeds of an earlier ``seed()`` if there was one."""
        observation, _ = self.native.reset(seed=self._seeds)
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of the next :meth:`step_wait`."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One decision in every environment; an environment whose episode has ended begins the next one at once."""
        terminated, truncated = self.native.advance(self._actions)
        rewards = self.native.engine.out.reward
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        given = rewards.astype(np.float32)
        ended: list[int] = np.flatnonzero(dones).tolist()
        for e in ended:
            infos[e] = self._last_info(e, bool(truncated[e] and not terminated[e]))
        if ended:
            self.native.restart(ended)
        return self.native.observe(), given, dones, infos

    def _last_info(self, e: int, truncated: bool) -> dict[str, Any]:
        """The summary of an episode, and what SB3 expects at its end."""
        info = self.native.engine.final_info(e)
        info["terminal_observation"] = self.native.observe(e)
        info["TimeLimit.truncated"] = truncated
        elapsed = round(time.time() - self._start, 6)
        info["episode"] = {"r": round(float(self._returns[e]), 6), "l": int(self._lengths[e]), "t": elapsed}
        self._returns[e] = 0.0
        self._lengths[e] = 0
        return info

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, (environments, actions)."""
        return self.native.action_masks()

    def close(self) -> None:
        """Close the environments."""
        self.native.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """A picture of each environment (``render_mode="rgb_array"``)."""
        pictures = self.native.render() if self.render_mode == "rgb_array" else None
        return list(pictures) if pictures else [None] * self.num_envs

    # --- what SB3 asks of single environments -----------------------------------------------------------------------

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute for each environment: of the environment as a whole, the same for all of them."""
        if attr_name == "action_masks":
            return [self._mask_of(e) for e in self._get_indices(indices)]
        value = getattr(self.native, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of all environments together."""
        if indices is not None and len(list(self._get_indices(indices))) != self.num_envs:
            raise InputError("indices", indices, "the environments share their attributes: set it for all of them")
        setattr(self.native, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Indices = None, **kwargs: Any) -> list[Any]:
        """``action_masks`` of each environment, or ``summary`` of its episode so far."""
        chosen = list(self._get_indices(indices))
        if method_name == "action_masks":
            return list(self.native.action_masks()[chosen])
        if method_name == "summary":
            return [self.native.engine.summary(e) for e in chosen]
        raise AttributeError(f"{method_name!r}: only action_masks and summary can be called on single environments")

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """True for ``Monitor``, whose work is done here, and for no other wrapper."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def _mask_of(self, e: int) -> Callable[[], NDArray[np.bool_]]:
        return lambda: self.native.action_masks()[e]
