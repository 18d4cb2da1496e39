"""The environments and our networks for Ray RLlib (its new API stack); see ``examples/rllib_ppo.py``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.tune import register_env
from torch import Tensor

from aladdin_agents.learned.layout import WORKER
from aladdin_agents.learned.networks import make_net
from aladdin_env.errors import InputError

IDS = ("aladdin/Placement-v0", "aladdin/Scaling-v0", "aladdin/Joint-v0")
_FORBIDDEN = -1e8  # the logit of what the mask forbids


def register() -> None:
    """Make the environments known to RLlib, in whatever process it makes them.

    ``config.environment("aladdin/Placement-v0", env_config={...})`` takes the keyword arguments of the environment.
    """
    for name in IDS:
        register_env(name, partial(_made, name))


def _made(name: str, config: Mapping[str, Any]) -> gym.Env[Any, Any]:
    import aladdin_env  # noqa: F401, registers the environments in this process

    return gym.make(name, **config)


class ClusterModule(TorchRLModule, ValueFunctionAPI):
    """Either of our networks, with the mask: what it forbids is never chosen.

    ``model_config``: ``shape``, an :class:`aladdin_agents.learned.shape.Shape` (what the actions are); ``network``,
    "equivariant" (by default) or "mlp"; ``hidden``, the width of the layers (32).
    """

    def setup(self) -> None:
        """Make the network; RLlib calls it.

        Raises:
            InputError: no shape.
        """
        given: Any = self.model_config
        space: Any = self.observation_space
        if "shape" not in given:
            raise InputError("model_config.shape", None, "give Shape.of(task, types) of the environment")
        slots = space["workers"].shape[0] // WORKER
        self.net = make_net(given.get("network", "equivariant"), given["shape"], given.get("hidden", 32), slots)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        seen = batch[Columns.OBS]
        logits, values = self._logits_and_values(seen)
        masked = torch.where(seen["mask"] > 0, logits, logits.new_tensor(_FORBIDDEN))
        return {Columns.ACTION_DIST_INPUTS: masked, Columns.EMBEDDINGS: values}

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """Values (n,) of n observations; those of a forward pass just made are its embeddings."""
        return self._logits_and_values(batch[Columns.OBS])[1] if embeddings is None else embeddings

    def _logits_and_values(self, seen: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        workers = seen["workers"]
        found: tuple[Tensor, Tensor] = self.net(
            workers.view(len(workers), -1, WORKER), seen["request"], seen["cluster"]
        )
        return found
