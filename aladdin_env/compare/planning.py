"""The fewest GPUs that hold an SLO, and which worker type: sized by a planner, confirmed by simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Any, Protocol

from aladdin_env.compare.comparison import TARGET, check_share
from aladdin_env.compare.contenders import contenders
from aladdin_env.compare.rows import Row, make_row
from aladdin_env.compare.search import Ladder, Question, Search, fewest_workers
from aladdin_env.compare.work import Crew, Lab, Progress
from aladdin_env.errors import InputError, suggest
from aladdin_env.scenario import Scenario, WorkerType

PLANNER = "aladdin"
_START_WITHOUT_SIZING = 4
_AIMS = ("gpus", "cost")


class Size(Protocol):
    """What a planner says of one worker type: how many would carry the load, and why."""

    type: str
    workers: int  # 0 where no number would do
    batch: int
    rate_per_worker_rps: float
    binds: str


class Planner(Protocol):
    """What the entry-point group ``aladdin.planners`` holds: sizes fleets without simulating them."""

    def __call__(self, scenario: Scenario) -> Sequence[Size]:
        """A size for each worker type of ``scenario`` alone, in any order."""
        ...


@dataclass(frozen=True)
class Sizing:
    """What the planner says of one worker type; None where it says nothing.

    Attributes:
        workers: Workers it would run.
        rate_rps: Requests per second that it expects of one worker.
        batch: Requests that it expects to run at once on one worker.
        binds: The constraint that limits a worker.
    """

    workers: int | None = None
    rate_rps: float | None = None
    batch: int | None = None
    binds: str | None = None


@dataclass(frozen=True)
class Candidate:
    """One worker type in a plan.

    Attributes:
        kind: The worker type.
        sizing: The planner's answer.
        row: Simulated on the fewest workers that hold the target (or that came nearest); None if it cannot serve.
        reason: Why it cannot serve, or not hold the target.
    """

    kind: WorkerType
    sizing: Sizing
    row: Row | None = None
    reason: str = ""

    @property
    def workers(self) -> int | None:
        """The fewest workers that hold the target in simulation."""
        return None if self.row is None else self.row.workers

    @property
    def gpus(self) -> int | None:
        """Their GPUs."""
        return None if self.workers is None else self.workers * self.kind.gpus

    @property
    def cost_per_hour(self) -> float | None:
        """Their price for an hour."""
        return None if self.workers is None else self.workers * self.kind.price_per_s * 3600

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        measures = {}
        if self.row is not None:
            measures = {
                k: v for k, v in self.row.to_dict().items() if k.startswith(("slo_", "ttft", "atgt", "goodput"))
            }
        return {
            "type": self.kind.name,
            "profile": self.kind.latency.name,
            "gpus_per_worker": self.kind.gpus,
            "sized_workers": self.sizing.workers,
            "sized_rps_per_worker": self.sizing.rate_rps,
            "sized_batch": self.sizing.batch,
            "sized_binds": self.sizing.binds,
            "workers": self.workers,
            "gpus": self.gpus,
            "cost_per_hour": self.cost_per_hour,
            **measures,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Plan:
    """The candidates, best first.

    Attributes:
        scenario: The workload and the SLO; its fleet has the candidate types.
        policy: Placement that the simulation confirmed them with.
        seeds: Seeds of the simulation.
        target: Attainment to hold.
        candidates: Those that hold it in the order asked for, then the others.
    """

    scenario: Scenario
    policy: str
    seeds: tuple[int, ...]
    target: float
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate | None:
        """The answer; None if no type holds the target."""
        return self.candidates[0] if self.candidates[0].workers is not None else None


@dataclass(frozen=True)
class _Task:
    scenario: Scenario
    question: Question


def plan(
    scenario: Scenario,
    *,
    policy: str = "aladdin",
    seeds: Sequence[int] = (0,),
    target: float = TARGET,
    by: str = "gpus",
    most: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """For each worker type of ``scenario`` alone: the fewest workers that hold the SLO for ``target`` of the requests.

    Args:
        scenario: Workload, SLO, and the worker types to choose from.
        policy: Placement on the planned fleet.
        seeds: Seeds of the confirming simulations.
        target: Attainment to hold.
        by: "gpus" or "cost": what the best candidate has least of.
        most: Most workers to try.
        jobs: Processes; None: several where that pays.
        progress: Told how many worker types are done.

    Raises:
        InputError: a split fleet; an SLO that no type can meet, or prompts that fit on none.
    """
    check_share("target", target)
    if by not in _AIMS:
        raise InputError("by", by, suggest(by, _AIMS))
    if scenario.fleet.is_split:
        raise InputError(
            "scenario", scenario.name, "choose one with mixed workers: prefill and decode are not sized yet"
        )
    alone = [_alone(scenario, kind) for kind in scenario.fleet.types]
    refusals = [_refusal(one, seeds[0]) for one in alone]
    if all(refusals):
        raise next(refusal for refusal in refusals if refusal)
    sizes = _sized(scenario)
    sized = [sizes.get(kind.name, Sizing()) for kind in scenario.fleet.types]
    fit = [i for i, refusal in enumerate(refusals) if not refusal]
    tasks = [_task(alone[i], policy, tuple(seeds), target, sized[i], most) for i in fit]
    found = dict(zip(fit, Crew(scenario, _confirm, jobs=jobs, progress=progress).do(tasks), strict=True))
    candidates = [_candidate(kind, sized[i], found.get(i), refusals[i]) for i, kind in enumerate(scenario.fleet.types)]
    order = sorted(candidates, key=lambda one: (one.workers is None, *_aims(one, by)))
    return Plan(scenario, policy, tuple(seeds), target, tuple(order))


def _aims(candidate: Candidate, by: str) -> tuple[float, float]:
    """What to have least of, first by ``by``."""
    gpus, cost = candidate.gpus or 0, candidate.cost_per_hour or 0.0
    return (gpus, cost) if by == "gpus" else (cost, gpus)


def _alone(scenario: Scenario, kind: WorkerType) -> Scenario:
    """The scenario with one worker type."""
    at_start = replace(kind, initial=max(1, kind.initial), maximum=max(1, kind.maximum))
    return replace(scenario, fleet=replace(scenario.fleet, types=(at_start,), max_gpus=None))


def _refusal(scenario: Scenario, seed: int) -> InputError | None:
    """Why the type cannot serve the workload at all."""
    from aladdin_env.simulator.run import Simulator  # compiles on import

    try:
        Simulator(scenario, seed)
    except InputError as error:
        return error
    return None


def _task(
    scenario: Scenario, policy: str, seeds: tuple[int, ...], target: float, sized: Sizing, most: int | None
) -> _Task:
    start = sized.workers or _START_WITHOUT_SIZING
    ladder = Ladder.of(scenario, (1,), most or max(64, 4 * start))
    (contender,) = contenders(scenario.with_workers((1,)), [policy])
    return _Task(scenario, Question(contender, seeds, target, ladder, start))


def _confirm(lab: Lab, task: _Task, progress: Progress) -> Search:
    return fewest_workers(Lab(task.scenario), task.question, progress)


def _candidate(kind: WorkerType, sized: Sizing, search: Search | None, refusal: InputError | None) -> Candidate:
    if search is None:
        return Candidate(kind, sized, reason=str(refusal))
    row = make_row(search.contender, search.runs, None, workers=search.workers, is_search=True)
    tried = max(search.tried)
    best = f"{row['slo_attainment'].mean * 100:.2f} %"
    reason = "" if search.workers is not None else f"no fleet of up to {tried} workers holds it (best seen {best})"
    return Candidate(kind, sized, row, reason)


def _planner() -> Planner | None:
    points = {point.name: point for point in entry_points(group="aladdin.planners")}
    if PLANNER not in points:
        return None
    loaded: Planner = points[PLANNER].load()
    return loaded


def _sized(scenario: Scenario) -> dict[str, Sizing]:
    """The planner's answers by worker type; empty where none is installed."""
    planner = _planner()
    sizes = planner(scenario) if planner else []
    return {one.type: Sizing(one.workers, one.rate_per_worker_rps, one.batch, one.binds) for one in sizes}
