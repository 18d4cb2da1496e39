"""Discounts by the time that goes by, not by the decisions that are taken.

Decisions come at very different paces: dozens of arrivals a second here, a heartbeat every ten seconds there, both in
the joint task; and a request that is held is a decision again and again. With a discount per decision an agent learns
to hold: every further decision makes the misses to come look farther away. So between two decisions that are ``dt``
seconds apart the discount is ``exp(-dt / discount_s)``, and the lambda of generalised advantage estimation is
``exp(-dt / credit_s)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.vec_env import VecEnvWrapper
from torch import Tensor

from aladdin_agents.learned.train.pool import Observation, PooledVecEnv

_LARGEST, _LEAST_SHARE = 10.0, 0.25
#: Seconds that the last step took in each environment; 0 where it ended an episode.
Clock = Callable[[], NDArray[np.float64]]


class TimedRolloutBuffer(MaskableDictRolloutBuffer):
    """The rollouts of MaskablePPO, discounted by time.

    Args:
        args: As Stable-Baselines3 gives them; its gamma and lambda are not used.
        clock: Read after each step.
        discount_s: Time constant of the discount, seconds.
        credit_s: Time constant of the lambda, seconds.
        kwargs: As Stable-Baselines3 gives them.
    """

    def __init__(self, *args: Any, clock: Clock, discount_s: float, credit_s: float, **kwargs: Any) -> None:
        self._clock = clock
        self._discount_s, self._credit_s = discount_s, credit_s
        super().__init__(*args, **kwargs)

    def reset(self) -> None:
        """Forget the rollout."""
        self.elapsed_s = np.zeros((self.buffer_size, self.n_envs))
        super().reset()

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Keep a step, and how long it took."""
        self.elapsed_s[self.pos] = self._clock()
        super().add(*args, **kwargs)

    def compute_returns_and_advantage(self, last_values: Tensor, dones: NDArray[np.bool_]) -> None:
        """Advantages, and the returns that the value is to learn."""
        discount = np.exp(-self.elapsed_s / self._discount_s)
        share = discount * np.exp(-self.elapsed_s / self._credit_s)
        next_values, goes_on = last_values.cpu().numpy().ravel(), 1.0 - dones.astype(np.float64)
        advantage = np.zeros(self.n_envs)
        for step in reversed(range(self.buffer_size)):
            expected = self.rewards[step] + discount[step] * goes_on * next_values
            advantage = expected - self.values[step] + share[step] * goes_on * advantage
            self.advantages[step] = advantage
            next_values, goes_on = self.values[step], 1.0 - self.episode_starts[step]
        self.returns = self.advantages + self.values


class TimedNormalize(VecEnvWrapper):
    """Rewards divided by the standard deviation of their sums, discounted by time, in each scenario on its own.

    Otherwise one scenario in which much goes wrong would drown all the others, for the value as for the policy. But no
    scenario counts as if its rewards varied less than a quarter of what they do on average.

    Args:
        pool: The environments.
        discount_s: Time constant of the discount, seconds.

    Attributes:
        sums: (3, scenarios) count, sum and sum of squares of the discounted sums so far.
    """

    def __init__(self, pool: PooledVecEnv, discount_s: float) -> None:
        self.pool = pool
        self._discount_s = discount_s
        self.sums = np.zeros((3, len(pool.names)))
        self._returns = np.zeros(pool.num_envs)
        super().__init__(pool)

    def reset(self) -> Observation:
        """Begin an episode in every environment."""
        self._returns[:] = 0.0
        return self.pool.reset()

    def step_wait(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """One decision in every environment."""
        observation, rewards, dones, infos = self.pool.step_wait()
        self._returns = self._returns * np.exp(-self.pool.elapsed_s / self._discount_s) + rewards
        at, n = self.pool.scenario_index, len(self.pool.names)
        weights = (None, self._returns, self._returns**2)
        self.sums += [np.bincount(at, weights=w, minlength=n) for w in weights]
        self._returns[dones] = 0.0
        scaled = np.clip(rewards / self.deviations()[at], -_LARGEST, _LARGEST)
        return observation, scaled.astype(np.float32), dones, infos

    def deviations(self) -> NDArray[np.float64]:
        """What the rewards of each scenario are divided by, (scenarios,)."""
        count = np.maximum(self.sums[0], 1.0)
        spread = np.sqrt(np.maximum(self.sums[2] / count - (self.sums[1] / count) ** 2, 0.0))
        seen = self.sums[0] > 0
        least = _LEAST_SHARE * spread[seen].mean() if seen.any() else 0.0
        scales: NDArray[np.float64] = np.maximum(spread, max(least, 1e-6))
        return scales
