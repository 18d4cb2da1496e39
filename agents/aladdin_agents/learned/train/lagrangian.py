"""The objective as a constraint: what a miss costs is a Lagrangian multiplier, moved until the target is held.

Least cost subject to an attainment of ``target``: the agent's reward is

    - (cost / c + price x misses) / r

with one price for each scenario, c the cost of a request there, and r its requests per second. So a price of 10 says
the same everywhere, a miss is as bad as serving ten requests, and a second of a large cluster counts as much as one of
a small. After every update each price moves with the misses of the episodes that have ended,

    price <- clip(price x exp(rate x clip(missed / (1 - target) - 1, -1, 3)), low, high)

which stands still where exactly the allowed share is missed. Where nothing is scaled the cost is constant: the reward
is ``- misses / r``, whatever their price.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.learned.train.config import Lagrangian
from aladdin_env.scenario import Scenario

_MOST_EXCESS = 3.0


def cost_of_a_request(scenario: Scenario) -> float:
    """Currency: the workers at time 0 (at least one of the cheapest type), shared by the requests that arrive."""
    types = scenario.fleet.types
    per_s = sum(kind.initial * kind.price_per_s for kind in types) or min(kind.price_per_s for kind in types)
    return per_s / scenario.workload.mean_rate_rps


class Prices:
    """Prices of a miss, by scenario.

    Args:
        chosen: Target, start and limits.
        scenarios: All that episodes are variations of; a variation has the name of its original.
        scales: Whether cost is the agent's to save.
    """

    def __init__(self, chosen: Lagrangian, scenarios: Iterable[Scenario], scales: bool) -> None:
        self._chosen = chosen
        self._units = {one.name: (cost_of_a_request(one), one.workload.mean_rate_rps) for one in scenarios}
        self._scales = scales
        self._prices: dict[str, float] = {}

    def price(self, name: str) -> float:
        """The price of a miss in the scenario of this name, in costs of a request."""
        return self._prices.get(name, self._chosen.start)

    def weights(self, scenario: Scenario) -> NDArray[np.float64]:
        """Weights of the reward, in the order of ``aladdin_env.reward.TERMS``."""
        cost, rate_rps = self._units[scenario.name]
        price = self.price(scenario.name) if self._scales else 1.0
        per_cost = 1.0 / cost if self._scales and cost > 0 else 0.0
        return np.array([per_cost, price, price, price]) / rate_rps

    def update(self, attained: Mapping[str, Sequence[float]]) -> None:
        """Move the prices by the attainment of the episodes that have ended, by scenario."""
        if not self._scales:
            return
        chosen = self._chosen
        for name, values in attained.items():
            excess = (1.0 - float(np.mean(values))) / (1.0 - chosen.target) - 1.0
            moved = self.price(name) * math.exp(chosen.rate * min(excess, _MOST_EXCESS))
            self._prices[name] = min(max(moved, chosen.low), chosen.high)

    def state(self) -> dict[str, float]:
        """What :meth:`restore` takes: the prices that have moved."""
        return dict(self._prices)

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from there."""
        self._prices = {name: float(price) for name, price in state.items()}
