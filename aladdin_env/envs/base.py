"""What the three single environments have in common."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from aladdin_env.envs import rendering
from aladdin_env.envs.engine import Engine, Setup
from aladdin_env.envs.spaces import MaskedDiscrete, observation_space
from aladdin_env.errors import InputError
from aladdin_env.simulator.core import DONE, TIME

Observation = dict[str, NDArray[Any]]
RENDER_MODES = ["human", "rgb_array", "ansi"]


class ClusterEnv(gym.Env[Observation, np.int64], EzPickle):
    """One environment on a batch of one; the subclasses say what the agent decides.

    Pickling and copying keep the arguments, not the state: the copy is to be reset.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": RENDER_MODES, "render_fps": 8}  # type: ignore[misc]

    def __init__(self, setup: Setup, render_mode: str | None) -> None:
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise InputError("render_mode", render_mode, f"choose one of {RENDER_MODES}, or None")
        if render_mode == "human":
            rendering.require_display()
        self.render_mode = render_mode
        self.engine = Engine(setup)
        self.scenario = self.engine.scenario
        self.observation_space = observation_space(self.scenario, self.engine.actions)
        self._actions = MaskedDiscrete(self.engine.out.mask[0])
        self.action_space = self._actions
        # Without a display a window cannot be had: whoever goes through the modes of this instance is not sent there.
        modes = [mode for mode in RENDER_MODES if mode != "human" or rendering.has_display()]
        self.metadata = {**type(self).metadata, "render_modes": modes}  # type: ignore[misc]
        self._window: rendering.Window | None = None
        self._last_action: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode and run to its first decision.

        Args:
            seed: Seed of everything random from here on: ``reset(seed=7)`` gives the episode of
                ``Simulator(scenario, 7)`` and later resets go on from there. None goes on.
            options: ``{"draws": ...}`` plays an episode drawn before (``aladdin_env.simulator.setup.draw``).
        """
        super().reset(seed=seed)
        self.engine.begin([0], [self.np_random], (options or {}).get("draws"))
        self._actions.begin()
        self._last_action = None
        if self.render_mode == "human":
            self.render()
        return self._observation(), self.engine.info(0)

    def step(self, action: np.int64 | int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out ``action`` and run to the next decision.

        Raises:
            InputError: the mask does not allow ``action``; nothing has been changed then.
        """
        engine = self.engine
        if engine.over(0):
            raise ResetNeeded("The episode is over, or has not begun: call reset()")
        try:
            chosen = operator.index(action)
        except TypeError:
            raise InputError("action", action, "give a whole number, an action of the space") from None
        engine.step(np.array([chosen], dtype=np.int64))
        self._last_action = chosen
        reason = engine.out.reason[0]
        info = engine.final_info(0) if reason in (DONE, TIME) else engine.info(0)
        if self.render_mode == "human":
            self.render()
        return self._observation(), float(engine.out.reward[0]), bool(reason == DONE), bool(reason == TIME), info

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed actions, as sb3-contrib's MaskablePPO asks for them."""
        allowed: NDArray[np.bool_] = self.engine.out.mask[0].astype(np.bool_)
        return allowed

    def render(self) -> Any:
        """A text table ("ansi"), a picture (height, width, 3) uint8 ("rgb_array"), or a window ("human")."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: give one when the environment is made")
            return None
        if self.render_mode == "ansi":
            return rendering.text(self.engine, 0, self._last_action)
        picture = rendering.picture(self.engine, 0, self._last_action)
        if self.render_mode == "rgb_array":
            return picture
        self._window = self._window or rendering.Window(self.scenario.name)
        return self._window.show(picture)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _observation(self) -> Observation:
        out = self.engine.out
        return {
            "workers": out.workers[0].ravel().copy(),
            "request": out.request[0].copy(),
            "cluster": out.cluster[0].copy(),
            "mask": out.mask[0].copy(),
        }
