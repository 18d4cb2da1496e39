"""MaskablePPO as a run uses it: one rollout at a time, and able to fit the value alone."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from torch.nn import functional

from aladdin_agents.learned.sb3 import ClusterPolicy
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train.config import Config, Learner
from aladdin_agents.learned.train.framed import FramedPolicy
from aladdin_agents.learned.train.pool import PooledVecEnv
from aladdin_agents.learned.train.timed import TimedNormalize, TimedRolloutBuffer

_VALUE_RATE, _VALUE_EPOCHS = 1e-3, 8


class ClusterPPO(MaskablePPO):
    """MaskablePPO whose policy can be kept as it is while its value is fitted.

    Attributes:
        only_value: An update fits the value to the returns, and changes nothing that an action depends on.
    """

    only_value = False

    @property
    def cluster_policy(self) -> ClusterPolicy:
        """The policy, as the class that it is."""
        return cast("ClusterPolicy", self.policy)

    @property
    def rewards(self) -> TimedNormalize:
        """The environments, as what scales their rewards."""
        return cast("TimedNormalize", self.env)

    def train(self) -> None:
        """Update from the rollout."""
        if not self.only_value:
            super().train()
            return
        mine = [parameter for name, parameter in self.cluster_policy.net.named_parameters() if name.startswith("value")]
        optimiser = torch.optim.Adam(mine, lr=_VALUE_RATE)
        for _ in range(_VALUE_EPOCHS):
            for batch in self.rollout_buffer.get(self.batch_size):
                loss = functional.mse_loss(self.policy.predict_values(batch.observations)[:, 0], batch.returns)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        self.logger.record("train/value_loss", loss.item())


class Rate:
    """A learning rate that is what it was last set to, whatever Stable-Baselines3 believes of the progress."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, progress_remaining: float) -> float:
        """The rate."""
        return self.value


def make_learner(config: Config, pool: PooledVecEnv) -> ClusterPPO:
    """MaskablePPO on the environments of ``pool``, rewards normalised; observations are scaled as they are."""
    chosen = config.learner
    several = len(pool.frames) > 1

    def clock() -> NDArray[np.float64]:
        return pool.elapsed_s

    kwargs: dict[str, Any] = {
        "network": config.network.kind,
        "hidden": config.network.hidden,
        "shape": Shape.of(config.decides, pool.whole.types, bool(config.network.adviser)),
        "trust": config.network.trust,
    }
    if several:
        kwargs["frames"] = tuple((frame.slots, frame.types) for frame in pool.frames)
    return ClusterPPO(
        FramedPolicy if several else ClusterPolicy,
        TimedNormalize(pool, chosen.discount_s),
        learning_rate=chosen.learning_rate,
        n_steps=chosen.n_steps,
        batch_size=chosen.batch_size,
        n_epochs=chosen.epochs,
        rollout_buffer_class=TimedRolloutBuffer,
        rollout_buffer_kwargs={"clock": clock, "discount_s": chosen.discount_s, "credit_s": chosen.credit_s},
        clip_range=chosen.clip,
        ent_coef=chosen.entropy,
        vf_coef=chosen.value,
        max_grad_norm=chosen.max_grad_norm,
        target_kl=chosen.target_kl or None,
        policy_kwargs=kwargs,
        seed=config.seed,
        device="cpu",
    )


def rate_at(chosen: Learner, part_done: float) -> float:
    """The learning rate after this part of the run."""
    return chosen.learning_rate + min(1.0, part_done) * (chosen.last_learning_rate - chosen.learning_rate)


def learn_once(model: ClusterPPO, callback: BaseCallback, rate: float) -> None:
    """One rollout and one update."""
    model.lr_schedule = Rate(rate)
    model.learn(model.n_steps * model.n_envs, callback=callback, reset_num_timesteps=False, log_interval=1)
