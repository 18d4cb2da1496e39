"""Units of work of the benchmark: a policy, or the bound, in one episode of one scenario."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aladdin_agents.benchmark.entrants import BOUND
from aladdin_agents.benchmark.scenarios import TARGET, Case, case_of
from aladdin_agents.scale_out.engine import Engine
from aladdin_env.compare import Contender
from aladdin_env.compare.bounds import Bound, bound_of
from aladdin_env.compare.work import Lab, Progress
from aladdin_env.scenario import Scenario
from aladdin_traces import Trace

_FIRST_STEP, _HALVINGS = 0.01, 4
"""The share that a fleet could serve at most is looked for in growing steps below 1, then by halving."""


@dataclass(frozen=True)
class Unit:
    """What is measured; it travels between processes.

    Attributes:
        key: Split, task and name of the scenario.
        seed: The episode.
        contender: The policy; None: the bound.
    """

    key: tuple[str, str, str]
    seed: int
    contender: Contender | None

    @property
    def case(self) -> Case:
        """The scenario."""
        return case_of(*self.key)

    @property
    def row_key(self) -> tuple[str, str, str, str, int]:
        """Key of the row that it becomes."""
        return (*self.key, BOUND if self.contender is None else self.contender.label, self.seed)

    def __str__(self) -> str:
        return "/".join(map(str, self.row_key))


Keep = Callable[[Unit, dict[str, float]], None]
"""Given each unit and its measures as soon as they are there."""


def measured(units: Sequence[Unit], *, engine: Engine, progress: Progress, keep: Keep) -> None:
    """Measure all units in the processes of ``engine``; the results do not depend on it.

    Raises:
        InputError: a policy that answers nonsense.
        OutsideFault: processes that die again and again.
    """
    engine.do(measures, units, progress=progress, keep=keep)


def measures(unit: Unit, progress: Progress) -> dict[str, float]:
    """The measures of one unit."""
    own = Lab(unit.case.scenario)
    if unit.contender is not None:
        return own.run(unit.contender, unit.seed, progress=progress).summary
    if unit.case.task == "placement":
        return _bound_of_fleet(own, unit.seed)
    cost = bound_of(own, Bound(unit.seed, TARGET, any_size=False))
    return {"cost": cost, "slo_attainment": TARGET, "requests": len(own.trace(unit.seed))}


def _bound_of_fleet(lab: Lab, seed: int) -> dict[str, float]:
    """On a fixed fleet: the most that any policy serves within the SLO, and below which cost no fleet would do."""
    trace = lab.trace(seed)
    share = most_served(lab, seed)
    return {
        "cost": bound_of(lab, Bound(seed, TARGET, any_size=True)),
        "slo_attainment": share,
        # a run ends with its last request, at the earliest when that arrives
        "goodput_rps": share * len(trace) / float(trace.arrival_s[-1]),
        "requests": len(trace),
    }


def most_served(lab: Lab, seed: int) -> float:
    """A share of the requests that no policy exceeds on the scenario's fleet.

    Whoever serves more within the SLO spends more (the clairvoyant bound) than all workers cost until the last request
    is due.
    """
    budget = _price_per_s(lab.scenario) * _due_s(lab.scenario, lab.trace(seed))

    def too_many(share: float) -> bool:
        return bound_of(lab, Bound(seed, share, any_size=True)) > budget

    if not too_many(1.0):
        return 1.0
    high, step = 1.0, _FIRST_STEP
    while step < 1.0 and too_many(1.0 - step):
        high, step = 1.0 - step, 2.0 * step
    low = max(0.0, 1.0 - step)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if too_many(middle) else (middle, high)
    return high


def _price_per_s(scenario: Scenario) -> float:
    return sum(kind.initial * kind.price_per_s for kind in scenario.fleet.types)


def _due_s(scenario: Scenario, trace: Trace) -> float:
    """When the last request ends at the latest if it is within its SLO, seconds."""
    goals = scenario.slo.targets()[trace.klass]
    return float((trace.arrival_s + goals[:, 0] + goals[:, 1] * (trace.output_tokens - 1)).max())
