"""One network on fleets of several sizes at once: each observation is taken in the size of its own fleet."""

from __future__ import annotations

from typing import Any, cast

import torch
from gymnasium import spaces
from torch import Tensor

from aladdin_agents.learned.layout import CLUSTER, TYPE, WORKER
from aladdin_agents.learned.sb3 import ClusterPolicy, Observations
from aladdin_agents.learned.train.pool import Frame, numbering


class FramedPolicy(ClusterPolicy):
    """A :class:`ClusterPolicy` for the padded observations of a ``PooledVecEnv`` with several frames.

    The padding never reaches the network, so that it computes in training what it computes when deployed.

    Args:
        args: Of :class:`ClusterPolicy`.
        frames: (slots, types) of each fleet, as ``PooledVecEnv.frames`` has them.
        kwargs: Of :class:`ClusterPolicy`.
    """

    def __init__(self, *args: Any, frames: tuple[tuple[int, int], ...], **kwargs: Any) -> None:
        self._frames = frames
        super().__init__(*args, **kwargs)
        whole = Frame(max(slots for slots, _ in frames), max(types for _, types in frames))
        task = self._shape.task
        self._numbers = [torch.from_numpy(numbering(task, Frame(*frame), whole)) for frame in frames]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "frames": self._frames}

    def logits_and_values(self, obs: Observations) -> tuple[Tensor, Tensor]:
        """Unmasked logits (n, actions) and values (n,); the logit of an action that a fleet lacks is 0."""
        frame, n = obs["frame"][:, 0], len(obs["frame"])
        logits = obs["workers"].new_zeros((n, int(cast("spaces.Discrete", self.action_space).n)))
        values = obs["workers"].new_zeros(n)
        for k, (slots, types) in enumerate(self._frames):
            rows = torch.nonzero(frame == k)[:, 0]
            if len(rows) == 0:
                continue
            own = self.net(
                obs["workers"][rows, : slots * WORKER].view(-1, slots, WORKER),
                obs["request"][rows],
                obs["cluster"][rows, : CLUSTER + TYPE * types],
                obs["advice"][rows] if "advice" in obs else None,
            )
            logits[rows[:, None], self._numbers[k]] = own[0]
            values[rows] = own[1]
        return logits, values
