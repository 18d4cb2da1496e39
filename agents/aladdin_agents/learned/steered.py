"""Aladdin, steered by what was learned: settings of the placement, and factors of the scaler at every heartbeat.

No network decides here: the weights are those of two linear maps, found by a search over whole episodes
(:mod:`aladdin_agents.learned.train.search`). With all weights 0 it is ``aladdin_plus+aladdin`` with the settings of
:data:`ORIGIN`. Placements stay compiled, so that a steered policy is as fast as the heuristic.

With ``x`` the :class:`aladdin_agents.steering.Situation` of a heartbeat and ``o`` :func:`objectives` of a scenario::

    log of the four factors of Steering     steer.weight x + steer.bias, each within +-1.2
    move of each setting of the placement   settings.weight o + settings.bias, from its value in :data:`ORIGIN`: of
                                            shares on the scale of log odds, of all others on that of logarithms
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_agents import aladdin
from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import Weights
from aladdin_agents.scale_aladdin import AladdinScaler
from aladdin_agents.steering import LEARNED, SHARES, Situation, Steering
from aladdin_agents.tunable import Settings, TunableKernel
from aladdin_env.policy import Combined
from aladdin_env.scenario import Scenario

#: What all weights move, and what they were found with: ``aladdin_plus`` as it was then. Whatever becomes of its
#: defaults, a checkpoint goes on deciding as it did.
ORIGIN = aladdin.Settings(
    theta=0.9, gamma=0.95, ahead=1.0, fresh_ahead=8.0, stretch=1.0, hold_share=0.7, rebalance=1.0, target=0.99,
    groups=1, affinity=0.3, shed=0.5,
)  # fmt: skip
_LIMIT = 1.2
_FURTHEST = 3.0
_TOKENS = 512.0  # of the prompt by which objectives are measured


def objectives(scenario: Scenario) -> NDArray[np.float64]:
    """How much room the objectives leave on this fleet, (3,): without units, each about 0 and within +-3.

    The log of TTFT over the prefill of a prompt of 512 tokens, less 3; the log of ATGT over a decode step of one
    request, less 1; the log of the fleet's slots, less 2. Of several classes and worker types the tightest count.
    """
    ttft_s, atgt_s = scenario.slo.targets().min(axis=0).tolist()
    laws = [kind.latency for kind in scenario.fleet.types]
    prefill_s = max(law.prefill_s(_TOKENS) for law in laws)
    decode_s = max(law.decode_s(1, _TOKENS) for law in laws)
    slots = scenario.fleet.slots
    found = np.log((ttft_s / prefill_s, atgt_s / decode_s, slots)) - (3.0, 1.0, 2.0)
    return np.asarray(np.clip(found, -_FURTHEST, _FURTHEST), dtype=np.float64)


@dataclass(frozen=True)
class LinearSteer:
    """A steer whose factors are exponentials of linear functions of the situation.

    Attributes:
        weight: (4, 13), rows as in ``Steering``.
        bias: (4,).
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, situation: Situation) -> Steering:
        """The factors of a heartbeat."""
        logs = np.clip(self.weight @ situation.features() + self.bias, -_LIMIT, _LIMIT)
        return Steering(*np.exp(logs).tolist())


def placement_settings(weights: Mapping[str, NDArray[np.float32]], scenario: Scenario) -> aladdin.Settings:
    """The settings of the placement in a scenario."""
    moved = weights["settings.weight"].astype(np.float64) @ objectives(scenario) + weights["settings.bias"]
    found: dict[str, Any] = {
        name: _moved(name, getattr(ORIGIN, name), float(x)) for name, x in zip(LEARNED, moved, strict=True)
    }
    return replace(ORIGIN, **found)


def _moved(name: str, value: float, by: float) -> float:
    factor = math.exp(min(max(by, -_FURTHEST), _FURTHEST))
    if name not in SHARES:
        return value * factor
    return value * factor / (1.0 - value + value * factor)


class SteeredScaler(AladdinScaler):
    """The Aladdin scaler under a steer from a checkpoint.

    Args:
        weights: Those of ``steer``.
        card: Their card.
        scenario: The fleet it decides for.
        name: Shown in tables.
    """

    def __init__(self, weights: Weights, card: Card, scenario: Scenario, name: str) -> None:
        self.name = name
        self.card = card
        self._weights = weights
        weight, bias = (weights[f"steer.{part}"].astype(np.float64) for part in ("weight", "bias"))
        super().__init__(scenario, steer=LinearSteer(weight, bias))

    def settings(self) -> Settings:
        """What the card says."""
        return {"policy": self.name, **self.card.told()}


@dataclass
class SteeredJoint(Combined):
    """Both from one checkpoint.

    Attributes:
        title: Its name.
    """

    title: str = "steered"

    @property
    def name(self) -> str:
        """That of the checkpoint."""
        return self.title


SteeredPolicy = TunableKernel | SteeredScaler | SteeredJoint


def make(weights: Weights, card: Card, scenario: Scenario, name: str) -> SteeredPolicy:
    """What a checkpoint decides: a placement, a scaler, or both."""
    if not card.shape.places:
        return SteeredScaler(weights, card, scenario, name)
    kernel = replace(aladdin.make(scenario, placement_settings(weights, scenario)), name=name)
    if not card.shape.scales:
        return kernel
    placement: Any = kernel  # its name is read-only, which mypy minds
    return SteeredJoint(placement, SteeredScaler(weights, card, scenario, name), name)
