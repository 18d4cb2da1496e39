"""Checkpoints as policies: the same observation and masks as in training, and the best allowed action."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.learned.advice import Adviser
from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import Weights, load, load_zip
from aladdin_agents.learned.forward import Forward
from aladdin_agents.learned.steered import SteeredPolicy
from aladdin_agents.learned.steered import make as steered
from aladdin_agents.tunable import Settings
from aladdin_env.action_masks import mask_changes, mask_placements, running_or_coming
from aladdin_env.envs.spaces import Actions
from aladdin_env.errors import InputError
from aladdin_env.observation import blank, encode
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import HOLD, NONE, REJECT
from aladdin_env.view import ClusterView, RequestView


class _Learned:
    """What both decisions have in common. It keeps no memory, but an adviser may.

    Args:
        weights: Weights of the network.
        card: Their card.
        scenario: The fleet it decides for.
        name: Shown in tables.

    Raises:
        InputError: an MLP on a fleet of another size than it was trained on.
    """

    def __init__(self, weights: Weights, card: Card, scenario: Scenario, name: str) -> None:
        self.name = name
        self.card = card
        self._weights = weights
        self._forward = Forward(weights, card)
        self.reset(scenario)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or what travels to another process, is made anew: the buffers are not shared."""
        return type(self), (self._weights, self.card, self._scenario, self.name)

    def reset(self, scenario: Scenario) -> None:
        """Decide for this fleet from now on; called at the start of an episode."""
        slots, types = scenario.fleet.slots, len(scenario.fleet.types)
        takes = (self.card.slots, self.card.shape.types)
        if self.card.slots is not None and (slots, types) != takes:
            raise InputError(
                f"policy {self.name!r}",
                f"a fleet of {_size(slots, types)}",
                f"its MLP was trained for {_size(*takes)} and takes no other fleet: choose an equivariant checkpoint, "
                "or train one for this fleet",
            )
        self._scenario = scenario
        self._actions = Actions.of(self.card.shape.task, scenario)
        self._mask = np.zeros(self._actions.size, dtype=np.int8)
        self._masked = np.zeros(self._actions.size, dtype=np.float32)
        self._observation = blank(slots, types)
        self._horizon_s = _horizon_s(scenario)
        self._adviser: Adviser | None = None
        if self.card.adviser:
            self._adviser = Adviser.named(self.card.adviser, scenario, self._actions)
            self._adviser.begin(scenario)

    def settings(self) -> Settings:
        """What the card says: how it was made, and what it reached."""
        return {"policy": self.name, **self.card.told()}

    def _logits(self, view: ClusterView, request: RequestView | None) -> None:
        """Encode for a request, or for a heartbeat, and keep the logits of what the mask allows."""
        world, seen = view._world, self._observation
        encode(
            world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, world.history,
            NONE if request is None else request.index, request is None, self._horizon_s,
            seen["workers"], seen["request"], seen["cluster"],
        )  # fmt: skip
        advice = self._advice(view, request)
        logits = self._forward.logits(seen["workers"], seen["request"], seen["cluster"], advice)
        self._masked.fill(-np.inf)
        np.copyto(self._masked, logits, where=self._mask.view(np.bool_))

    def _advice(self, view: ClusterView, request: RequestView | None) -> NDArray[np.float32] | None:
        adviser = self._adviser
        if adviser is None:
            return None
        if request is None:
            return adviser.advice(adviser.changed(view, self._mask), scaling=True)
        return adviser.advice(adviser.placed(view, request, self._mask), scaling=False)


class LearnedPlacement(_Learned):
    """A placement from a checkpoint."""

    def place(self, view: ClusterView, request: RequestView) -> int:
        """The allowed slot, HOLD or REJECT with the highest logit; HOLD where nothing is allowed."""
        world, actions, mask = view._world, self._actions, self._mask
        mask.fill(0)
        others = actions.first_change - actions.slots
        mask_placements(world.workers, world.requests, request.index, others, mask)
        if not mask.any():
            return HOLD
        self._logits(view, request)
        best = int(self._masked.argmax())
        if best < actions.slots:
            return best
        return HOLD if actions.holds and best == actions.slots else REJECT


class LearnedScaler(_Learned):
    """A scaler from a checkpoint: a heartbeat changes one type, by at most as many workers as in training."""

    def scale(self, view: ClusterView) -> Sequence[int] | None:
        """Wanted workers per type, or None for no change."""
        world, actions, mask = view._world, self._actions, self._mask
        mask.fill(0)
        limit, first = world.control[0]["max_gpus"], actions.first_change
        mask_changes(world.workers, world.cluster, world.types, actions.changes, limit, first, mask)
        self._logits(view, None)
        kind, more = actions.changes[int(self._masked.argmax()) - first].tolist()
        if more == 0:
            return None
        wanted = [int(running_or_coming(world.workers, world.types, k)) for k in range(len(world.types))]
        wanted[kind] += more
        return wanted


class LearnedJoint(LearnedPlacement, LearnedScaler):
    """Both decisions from one checkpoint."""


LearnedPolicy = LearnedPlacement | LearnedScaler | LearnedJoint | SteeredPolicy
_CLASSES: dict[str, type[LearnedPlacement] | type[LearnedScaler]] = {
    "placement": LearnedPlacement, "scaling": LearnedScaler, "joint": LearnedJoint,
}  # fmt: skip


def load_policy(path: str | os.PathLike[str], scenario: Scenario) -> LearnedPolicy:
    """The policy of a checkpoint, ``.npz`` or (with torch) a ``.zip`` of Stable-Baselines3, for ``scenario``.

    What it decides its card says. Entry points of the group ``aladdin.checkpoints`` lead here, so that a path goes
    wherever the name of a policy does.

    Raises:
        InputError: see :func:`aladdin_agents.learned.checkpoint.load`; or an MLP of another fleet.
    """
    weights, card = load_zip(path) if Path(path).suffix == ".zip" else load(path)
    return made(weights, card, scenario, Path(path).stem)


def made(weights: Weights, card: Card, scenario: Scenario, name: str) -> LearnedPolicy:
    """The policy of weights at hand."""
    if card.network == "steered":
        return steered(weights, card, scenario, name)
    return _CLASSES[card.kind](weights, card, scenario, name)


def _size(slots: int | None, types: int) -> str:
    return f"{slots} slots of {types} worker type{'s' * (types != 1)}"


def _horizon_s(scenario: Scenario) -> float:
    """When requests cease to arrive, as the environments count it."""
    if scenario.horizon_s is not None:
        return scenario.horizon_s
    trace = scenario.workload.trace
    return float(trace.arrival_s[-1]) if trace is not None and len(trace) else float("inf")
