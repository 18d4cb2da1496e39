"""The native vector environment: one compiled call steps all environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import EzPickle, seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from aladdin_env.envs import rendering
from aladdin_env.envs.engine import Engine, Setup
from aladdin_env.envs.spaces import MaskedMultiDiscrete, observation_space
from aladdin_env.errors import InputError
from aladdin_env.simulator.core import DONE, TIME

Observation = dict[str, NDArray[Any]]
Seeds = int | Sequence[int | None] | None
RENDER_MODES = ["rgb_array", "ansi"]


class ClusterVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]], EzPickle):
    """``num_envs`` environments with generators of their own; equal, bit for bit, to as many single ones.

    Autoreset is SAME_STEP: at the end of an episode the observation returned is the first of the next one, and
    ``infos["final_obs"]`` and ``infos["final_info"]`` have the last of the old one.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012, Gymnasium's declaration
        "render_modes": RENDER_MODES, "render_fps": 8, "autoreset_mode": AutoresetMode.SAME_STEP,
    }  # fmt: skip

    def __init__(self, setup: Setup, num_envs: int, render_mode: str | None) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise InputError("render_mode", render_mode, f"choose one of {RENDER_MODES}, or None")
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.engine = Engine(setup, num_envs)
        self.scenario = self.engine.scenario
        self.single_observation_space = observation_space(self.scenario, self.engine.actions)
        self.single_action_space = spaces.Discrete(self.engine.actions.size)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = MaskedMultiDiscrete(self.engine.out.mask)
        self._rngs = [seeding.np_random()[0] for _ in range(num_envs)]
        in_all = np.ones(num_envs, dtype=np.bool_)
        in_all.flags.writeable = False
        self._everywhere = {f"_{name}": in_all for name in self.engine.infos()}
        self._flat_workers = self.engine.out.workers.reshape(num_envs, -1)  # the same memory
        self._last_actions: NDArray[np.int64] | None = None
        self._begun = False

    def reset(self, *, seed: Seeds = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in every environment.

        Args:
            seed: An int seeds environment i with seed + i; a sequence gives one for each, None among them goes on.
            options: ``{"reset_mask": ...}``, a boolean array: reset only these environments.
        """
        seeds = self._seeds(seed)
        chosen = self._chosen(options or {})
        for e in chosen:
            given = seeds[e]
            if given is not None:
                self._rngs[e] = seeding.np_random(given)[0]
        self._begin(chosen)
        self._begun = True
        return self.observe(), self._infos()

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """One decision in every environment.

        Raises:
            InputError: a mask does not allow an action (named with its environment); nothing has been changed then.
        """
        terminated, truncated = self.advance(actions)
        rewards = self.engine.out.reward.copy()
        ended = np.flatnonzero(terminated | truncated)
        final = self._final(ended.tolist()) if ended.size else {}
        infos = self._infos()
        infos.update(final)
        return self.observe(), rewards, terminated, truncated, infos

    def advance(self, actions: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Step without autoreset and without copies (``engine.out`` has the results); which episodes have ended how."""
        if not self._begun:
            raise ResetNeeded("Call reset() first")
        given = np.asarray(actions)
        if given.shape != (self.num_envs,) or given.dtype.kind not in "iu":
            mend = f"give one integer for each of {self.num_envs} environments"
            raise InputError("actions", f"{given.dtype} of shape {given.shape}", mend)
        wanted = np.ascontiguousarray(given, dtype=np.int64)
        self.engine.step(wanted)
        self._last_actions = wanted
        reason = self.engine.out.reason
        return reason == DONE, reason == TIME

    def restart(self, ended: Sequence[int]) -> None:
        """Begin the next episode in these environments."""
        self._begin(ended)

    def observe(self, e: int | None = None) -> Observation:
        """A copy of the observations of all environments, or of environment ``e`` alone."""
        out = self.engine.out
        if e is not None:
            return {
                "workers": out.workers[e].ravel().copy(), "request": out.request[e].copy(),
                "cluster": out.cluster[e].copy(), "mask": out.mask[e].copy(),
            }  # fmt: skip
        return {
            "workers": self._flat_workers.copy(),
            "request": out.request.copy(),
            "cluster": out.cluster.copy(),
            "mask": out.mask.copy(),
        }

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, (environments, actions)."""
        return self.engine.out.mask.astype(np.bool_)

    def render(self) -> tuple[Any, ...] | None:
        """A picture or a text for each environment."""
        if self.render_mode is None:
            return None
        draw = rendering.text if self.render_mode == "ansi" else rendering.picture
        last = self._last_actions
        return tuple(draw(self.engine, e, None if last is None else int(last[e])) for e in range(self.num_envs))

    def _begin(self, environments: Sequence[int]) -> None:
        self.engine.begin(environments, [self._rngs[e] for e in environments])

    def _final(self, ended: list[int]) -> dict[str, Any]:
        """The last observation and info of episodes that have ended; begins the next ones."""
        final: dict[str, Any] = {}
        for e in ended:
            last = {"final_obs": self.observe(e), "final_info": self.engine.final_info(e)}
            final = self._add_info(final, last, e)
        self.restart(ended)
        return final

    def _infos(self) -> dict[str, Any]:
        """Every field has an entry for every environment, which ``_field`` says in Gymnasium's way."""
        infos = self.engine.infos()
        infos.update(self._everywhere)
        return infos

    def _seeds(self, seed: Seeds) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + e for e in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise InputError("seed", list(seed), f"give an int, or {self.num_envs} seeds, one for each environment")
        return list(seed)

    def _chosen(self, options: dict[str, Any]) -> list[int]:
        if "reset_mask" not in options:
            return list(range(self.num_envs))
        mask = np.asarray(options["reset_mask"])
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise InputError("reset_mask", mask, f"give {self.num_envs} booleans, at least one of them True")
        return [int(e) for e in np.flatnonzero(mask)]
