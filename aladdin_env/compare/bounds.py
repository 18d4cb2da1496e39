"""The clairvoyant bound of drawn episodes, a unit of work beside the simulations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aladdin_env.compare.work import Lab
from aladdin_env.scenario import Scenario


@dataclass(frozen=True)
class Bound:
    """What an episode costs at least, see :mod:`aladdin_env.yardsticks`: picklable.

    Attributes:
        seed: The episode's.
        target: Attainment to hold.
        any_size: Whether the fleet may be of any size; else the minima of its types are paid for.
    """

    seed: int
    target: float
    any_size: bool


def bound_of(lab: Lab, unit: Bound) -> float:
    """Currency."""
    from aladdin_env.yardsticks import lower_bound  # SciPy's optimisers take a while to import

    scenario = _without_minima(lab.scenario) if unit.any_size else lab.scenario
    return lower_bound(scenario, lab.trace(unit.seed), unit.target).value


def _without_minima(scenario: Scenario) -> Scenario:
    types = tuple(replace(kind, minimum=0) for kind in scenario.fleet.types)
    return replace(scenario, fleet=replace(scenario.fleet, types=types))
