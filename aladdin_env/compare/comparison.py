"""Policies side by side: on one scaling or fixed fleet, or each on the fewest workers that do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from aladdin_env.compare.bounds import Bound, bound_of
from aladdin_env.compare.contenders import Contender, is_scaling
from aladdin_env.compare.rows import Row, in_order, make_row
from aladdin_env.compare.search import Ladder, Question, Search, fewest_workers
from aladdin_env.compare.work import Crew, Lab, Progress, Run, mean_of
from aladdin_env.errors import InputError
from aladdin_env.scenario import Scenario

TARGET = 0.99


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` and :func:`compare_fewest` find.

    Attributes:
        scenario: What was simulated.
        rows: A row per policy, sorted as :func:`aladdin_env.compare.rows.in_order` says.
        seeds: The seeds.
        target: Attainment that divides the rows.
        fleets: The fleet over time under the first seed, by policy.
        rate_rps: Requests per second that arrived, on average over time and seeds.
        bounds: By seed, the cost below which no policy holds ``target``; a fixed fleet may then be of any size.
        notes: What a reader of the table should know, a line each.
    """

    scenario: Scenario
    rows: list[Row]
    seeds: tuple[int, ...]
    target: float
    fleets: dict[str, pd.DataFrame]
    rate_rps: float
    bounds: tuple[float, ...]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Round:
    contender: Contender
    seed: int
    keep_fleet: bool


def _simulate(lab: Lab, unit: _Round | Bound, progress: Progress) -> Run | float:
    if isinstance(unit, Bound):
        return bound_of(lab, unit)
    return lab.run(unit.contender, unit.seed, keep_fleet=unit.keep_fleet, progress=progress)


def rounds(policies: int, seeds: int) -> int:
    """Units of work of :func:`compare`, for a progress bar: each policy and the bound, under each seed."""
    return (policies + 1) * seeds


def searches(policies: int, seeds: int) -> int:
    """Units of work of :func:`compare_fewest`: each policy, and the bound under each seed."""
    return policies + seeds


def compare(
    scenario: Scenario,
    entered: Sequence[Contender],
    seeds: Sequence[int],
    *,
    target: float = TARGET,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Every policy on the same drawn episodes, one per seed.

    Args:
        scenario: What to simulate; its fleet says whether it scales.
        entered: The policies, see :func:`aladdin_env.compare.contenders.contenders`.
        seeds: A seed per episode.
        target: Attainment that a policy should hold.
        jobs: Processes; None: several where that pays. The results do not depend on it.
        progress: Told how many of :func:`rounds` are done.

    Raises:
        InputError: a scenario that cannot work, a policy that answers nonsense.
    """
    checked = _checked_seeds(seeds)
    check_share("target", target)
    units: list[_Round | Bound] = []
    for seed in checked:
        units += [_Round(one, seed, seed == checked[0]) for one in entered]
        units.append(Bound(seed, target, any_size=not is_scaling(scenario)))
    done = Crew(scenario, _simulate, jobs=jobs, progress=progress).do(units)
    runs = [one for one in done if isinstance(one, Run)]
    bounds = tuple(one for one in done if isinstance(one, float))
    by_policy = {one.label: runs[i :: len(entered)] for i, one in enumerate(entered)}
    reference = next((by_policy[one.label] for one in entered if one.is_reference), None)
    rows = [make_row(one, by_policy[one.label], reference, bounds) for one in entered]
    fleets = {label: mine[0].fleet for label, mine in by_policy.items() if mine[0].fleet is not None}
    rate_rps = _rate_rps(scenario, by_policy[entered[0].label])
    notes = _notes(scenario, checked, reference)
    return Comparison(scenario, in_order(rows, target), checked, target, fleets, rate_rps, bounds, notes)


def compare_fewest(
    scenario: Scenario,
    entered: Sequence[Contender],
    seeds: Sequence[int],
    *,
    target: float = TARGET,
    ladder: Ladder | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Every policy on the fewest workers of a fixed fleet at which its mean attainment holds ``target``.

    Args:
        scenario: What to simulate; the fleet's size is what is searched.
        entered: The policies, without scalers.
        seeds: A seed per episode.
        target: Attainment to hold, above 0 and at most 1.
        ladder: The fleets to search; by default in the proportions of the scenario's.
        jobs: Processes; None: several where that pays.
        progress: Told how many of :func:`searches` are done.

    Raises:
        InputError: a scenario that cannot work, a policy that answers nonsense.
    """
    checked = _checked_seeds(seeds)
    check_share("target", target)
    steps = ladder or Ladder.of(scenario)
    units: list[Question | Bound] = [Question(one, checked, target, steps, sum(steps.shares)) for one in entered]
    units += [Bound(seed, target, any_size=True) for seed in checked]
    done = Crew(scenario, _search, jobs=jobs, progress=progress).do(units)
    found = [one for one in done if isinstance(one, Search)]
    bounds = tuple(one for one in done if isinstance(one, float))
    held = next((s.runs for s in found if s.contender.is_reference and s.workers is not None), None)
    rows = [_searched_row(scenario, one, held, bounds) for one in found]
    fleets = {s.contender.label: s.runs[0].fleet for s in found if s.runs[0].fleet is not None}
    notes = _notes(scenario, checked, held) + _search_notes(found, steps)
    rate_rps = _rate_rps(scenario, found[0].runs)
    return Comparison(scenario, in_order(rows, target), checked, target, fleets, rate_rps, bounds, notes)


def gpus_of(scenario: Scenario, counts: Sequence[int]) -> int:
    """GPUs of so many workers of each type."""
    return sum(n * kind.gpus for n, kind in zip(counts, scenario.fleet.types, strict=True))


def check_share(name: str, value: float) -> None:
    """Refuse what is no attainment to aim at."""
    if not 0 < value <= 1:
        raise InputError(name, value, "give a share above 0 and at most 1, such as 0.99")


def _search(lab: Lab, unit: Question | Bound, progress: Progress) -> Search | float:
    return bound_of(lab, unit) if isinstance(unit, Bound) else fewest_workers(lab, unit, progress)


def _searched_row(scenario: Scenario, search: Search, held: Sequence[Run] | None, bounds: Sequence[float]) -> Row:
    holds = search.workers is not None
    gpus = gpus_of(scenario, search.counts) if holds else None
    return make_row(
        search.contender, search.runs, held if holds else None, bounds,
        workers=search.workers, gpus=gpus, is_search=True,
    )  # fmt: skip


def _rate_rps(scenario: Scenario, runs: Sequence[Run]) -> float:
    trace = scenario.workload.trace
    if scenario.horizon_s is None and trace is not None:
        return scenario.workload.mean_rate_rps
    assert scenario.horizon_s is not None
    return mean_of(runs, "requests") / scenario.horizon_s


def _checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    if len(seeds) == 0:
        raise InputError("seeds", 0, "give at least one")
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError("seeds", list(seeds), "give different whole numbers, 0 or more")
    return tuple(seeds)


def _notes(scenario: Scenario, seeds: Sequence[int], reference: Sequence[Run] | None) -> list[str]:
    notes = []
    if len(seeds) > 1 and scenario.workload.trace is not None:
        notes.append(
            "The trace is the same under every seed: intervals show only the randomness of policies, cold starts and "
            "failures."
        )
    if reference is None:
        notes.append("Aladdin is not among the policies (or does not hold the target): no ratio to it.")
    if is_scaling(scenario) and scenario.horizon_s is not None and scenario.horizon_s < 10 * scenario.heartbeat_s:
        notes.append("The horizon is short against the heartbeat: scalers hardly act.")
    return notes


def _search_notes(found: Sequence[Search], ladder: Ladder) -> list[str]:
    notes = []
    for search in found:
        if search.workers is None:
            notes.append(
                f"{search.contender.label}: no fleet of up to {ladder.most} workers holds {search.target:g}; "
                f"shown is the nearest tried, {sum(search.counts)} workers."
            )
        elif not search.is_monotone:
            missed = [n for n, share in search.tried.items() if n > search.workers and share < search.target]
            notes.append(f"{search.contender.label}: not monotone, {min(missed)} workers miss the target again.")
    return notes
