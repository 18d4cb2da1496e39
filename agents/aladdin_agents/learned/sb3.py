"""The networks as a policy of Stable-Baselines3: for MaskablePPO, on the environments' observations as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import MaskableCategoricalDistribution, MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from aladdin_agents.learned.layout import CLUSTER, TYPE, WORKER
from aladdin_agents.learned.networks import EquivariantNet, Net, make_net
from aladdin_agents.learned.shape import Shape
from aladdin_env.errors import InputError

Observations = Mapping[str, Tensor]
Masks = Tensor | np.ndarray[Any, Any] | None
_FORBIDDEN = -1e8  # the logit of what the mask forbids, as in sb3-contrib


class ClusterPolicy(MaskableActorCriticPolicy):
    """Either network, with the masks of MaskablePPO.

    ::

        MaskablePPO(ClusterPolicy, envs, policy_kwargs={"network": "equivariant", "hidden": 32, "shape": shape})

    The observations need no preprocessing: their features are scaled already. ``mask`` is no input of the network.

    Args:
        observation_space: That of an environment: ``workers``, ``request``, ``cluster``, ``mask``.
        action_space: Its actions.
        lr_schedule: As Stable-Baselines3 gives it.
        network: "equivariant" or "mlp".
        hidden: Width of the layers.
        shape: What the actions are: ``Shape.of(task, types)``.
        trust: Of a network that is advised (observations have ``advice``, too): trust to begin with.
        optimizer_kwargs: Of ``torch.optim.Adam``.

    Raises:
        InputError: no shape, or one that is not that of the spaces.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        network: str = "equivariant",
        hidden: int = 32,
        shape: Shape | None = None,
        trust: float = 0.0,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if shape is None:
            raise InputError("policy_kwargs.shape", None, "give Shape.of(task, types) of the environment")
        self._network, self._hidden, self._shape, self._trust = network, hidden, shape, trust
        self._slots = _slots(observation_space, action_space, shape)
        adam = {"eps": 1e-5, "foreach": True, **(optimizer_kwargs or {})}
        super().__init__(observation_space, action_space, lr_schedule, optimizer_kwargs=adam)

    def _build(self, lr_schedule: Schedule) -> None:
        """The network and its optimizer; nothing of SB3's own layers."""
        self.net: Net = make_net(self._network, self._shape, self._hidden, self._slots)
        if isinstance(self.net, EquivariantNet):
            self.net.set_trust(self._trust)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
            "network": self._network,
            "hidden": self._hidden,
            "shape": self._shape,
            "trust": self._trust,
            "optimizer_kwargs": self.optimizer_kwargs,
        }

    def logits_and_values(self, obs: Observations) -> tuple[Tensor, Tensor]:
        """Unmasked logits (n, actions) and values (n,)."""
        workers = obs["workers"]
        found: tuple[Tensor, Tensor] = self.net(
            workers.view(len(workers), -1, WORKER), obs["request"], obs["cluster"], obs.get("advice")
        )
        return found

    def forward(  # type: ignore[override]
        self, obs: Observations, deterministic: bool = False, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, values and log probabilities of the actions."""
        logits, values = self.logits_and_values(obs)
        log_probs, _ = _log_softmax(logits, action_masks)
        actions = log_probs.argmax(dim=1) if deterministic else torch.multinomial(log_probs.exp(), 1)[:, 0]
        return actions, values[:, None], log_probs.gather(1, actions[:, None])[:, 0]

    def evaluate_actions(  # type: ignore[override]
        self, obs: Observations, actions: Tensor, action_masks: Masks = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, log probabilities of ``actions``, and entropies."""
        logits, values = self.logits_and_values(obs)
        log_probs, allowed = _log_softmax(logits, action_masks)
        weighted = log_probs.exp() * log_probs
        entropy = -(weighted if allowed is None else weighted.where(allowed, weighted.new_zeros(()))).sum(dim=1)
        chosen = log_probs.gather(1, actions.long().view(-1, 1))[:, 0]
        return values[:, None], chosen, entropy

    def get_distribution(  # type: ignore[override]
        self, obs: Observations, action_masks: Masks = None
    ) -> MaskableDistribution:
        """The distribution over the actions, as SB3's evaluation asks for it."""
        logits, _ = self.logits_and_values(obs)
        distribution = MaskableCategoricalDistribution(logits.shape[1]).proba_distribution(logits)
        if action_masks is not None:
            distribution.apply_masking(action_masks)
        return distribution

    def predict_values(self, obs: Observations) -> Tensor:  # type: ignore[override]
        """Values (n, 1)."""
        return self.logits_and_values(obs)[1][:, None]


def _log_softmax(logits: Tensor, masks: Masks) -> tuple[Tensor, Tensor | None]:
    """Log probabilities over what the masks allow, and the masks as a tensor."""
    if masks is None:
        return torch.log_softmax(logits, dim=1), None
    allowed = torch.as_tensor(masks, dtype=torch.bool, device=logits.device).view(logits.shape)
    return torch.log_softmax(logits.masked_fill(~allowed, _FORBIDDEN), dim=1), allowed


def _slots(observation_space: spaces.Dict, action_space: spaces.Discrete, shape: Shape) -> int:
    """Worker slots of these spaces, if they fit ``shape``."""
    sizes = {name: int(np.prod(space.shape or ())) for name, space in observation_space.items()}
    slots, left = divmod(sizes["workers"], WORKER)
    types = (sizes["cluster"] - CLUSTER) // TYPE
    if left or types != shape.types or action_space.n != shape.actions(slots):
        found = f"{slots} slots, {types} types, {action_space.n} actions"
        raise InputError("policy_kwargs.shape", found, f"the shape {shape} has {shape.actions(slots)} actions there")
    return slots
