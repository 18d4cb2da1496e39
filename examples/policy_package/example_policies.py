"""A placement and a scaler in a package of their own: the entry points in ``pyproject.toml`` give them their names.

An entry point names a function that takes the scenario and returns the policy. The first line of the function's
docstring is what ``aladdin policies`` shows.
"""

from __future__ import annotations

from aladdin_agents.tunable import TunableKernel
from aladdin_env import Scenario
from aladdin_env.policy import placement_kernel
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.state import HOLD, Array
from aladdin_env.view import ClusterView

MORNING_H, EVENING_H = 7.0, 22.0


@placement_kernel("cheapest_first")
def cheapest_first(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    """The cheapest candidate that is not full; where all are, the one with the fewest requests (memory: full)."""
    best, best_rank = HOLD, (1, 0.0, 0)
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            worker = workers[w]
            full = worker.members >= memory[0]
            rank = (int(full), 0.0 if full else types[worker.type_index].price_per_s, worker.members)
            if best == HOLD or rank < best_rank:
                best, best_rank = w, rank
    return best


class NightsOff:
    """The fleet of the start by day, half of it by night: what many set up with cron."""

    name = "nights_off"

    def __init__(self, scenario: Scenario) -> None:
        self.start_of_day_s = scenario.start_of_day_s
        self.day = [kind.initial for kind in scenario.fleet.types]
        self.night = [max(kind.minimum, (kind.initial + 1) // 2) for kind in scenario.fleet.types]

    def settings(self) -> dict[str, float]:
        """What ``aladdin policies`` shows beside the name."""
        return {"morning_h": MORNING_H, "evening_h": EVENING_H}

    def scale(self, view: ClusterView) -> list[int]:
        """Wanted workers of each type."""
        hour = (self.start_of_day_s + view.now_s) / 3600 % 24
        return self.day if MORNING_H <= hour < EVENING_H else self.night


def make_cheapest_first(scenario: Scenario) -> TunableKernel:
    """Fills the cheapest workers first, up to so many requests each."""
    return TunableKernel.of(cheapest_first, {"full": 24.0})


def make_nights_off(scenario: Scenario) -> NightsOff:
    """All workers by day, half of them by night."""
    return NightsOff(scenario)
