"""Running the benchmark: what is asked for, less what a file of results already has, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aladdin_agents.benchmark.entrants import HEURISTICS, Entrant, entrant
from aladdin_agents.benchmark.results import Ledger
from aladdin_agents.benchmark.rows import Row
from aladdin_agents.benchmark.scenarios import SEEDS, SPLITS, TASKS, Case, case_of, cases
from aladdin_agents.benchmark.units import Unit, measured
from aladdin_agents.scale_out.engine import Engine, LocalProcesses
from aladdin_env.compare.work import Progress
from aladdin_env.errors import InputError, suggest

MOST_SEEDS = 1000


@dataclass(frozen=True)
class Asked:
    """Which rows are asked for.

    Attributes:
        split: "train", "validate" or "test".
        tasks: Of "placement", "scaling", "joint".
        scenarios: Names; empty: all of the tasks.
        policies: As the user names them; empty: the heuristics of each task.
        seeds: Episodes of each scenario.
    """

    split: str = "validate"
    tasks: tuple[str, ...] = TASKS
    scenarios: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    seeds: int = SEEDS

    def __post_init__(self) -> None:
        for name, value, known in (("--split", self.split, SPLITS), *(("--task", task, TASKS) for task in self.tasks)):
            if value not in known:
                raise InputError(name, value, suggest(value, known))
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise InputError("--seeds", self.seeds, f"give 1 to {MOST_SEEDS}")

    def cases(self) -> list[Case]:
        """The scenarios.

        Raises:
            InputError: a name that none of the tasks has.
        """
        found = [case for task in self.tasks for case in cases(self.split, task)]
        names = list(dict.fromkeys(case.name for case in found))
        for name in self.scenarios:
            if name not in names:
                raise InputError("--scenario", name, suggest(name, names))
        return [case for case in found if not self.scenarios or case.name in self.scenarios]


Entrants = dict[tuple[tuple[str, str, str], str], Entrant]
"""By scenario and name of the policy."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        units: What the file does not have yet; the episodes of a scenario one after the other, each with all policies.
        entrants: Who takes part.
        kept: How many rows of what was asked for the file has.
        notes: Policies that cannot take part somewhere, and why; a line each.
    """

    units: list[Unit]
    entrants: Entrants
    kept: int
    notes: list[str] = field(default_factory=list)


def plan(asked: Asked, ledger: Ledger) -> Plan:
    """Who takes part where, and what of it is still to be measured.

    Raises:
        InputError: a name that does not exist; a policy that was named and fits no scenario; a file of results that
            has rows of another policy file of the same name.
    """
    found = asked.cases()
    entrants, notes = _entrants(found, asked.policies)
    ledger.check_same_files((case_of(*key), one) for (key, _), one in entrants.items())
    units: list[Unit] = []
    for case in found:
        mine = [one.contender for (key, _), one in entrants.items() if key == case.key]
        for seed in case.first_seeds(asked.seeds):
            units += [Unit(case.key, seed, one) for one in ([None, *mine] if mine else [])]
    missing = [unit for unit in units if unit.row_key not in ledger.rows]
    return Plan(missing, entrants, len(units) - len(missing), notes)


def _entrants(found: Sequence[Case], policies: Sequence[str]) -> tuple[Entrants, list[str]]:
    """Who can take part, and a note about each that cannot; who was named and fits nowhere is the user's mistake."""
    entrants: Entrants = {}
    refused: dict[str, list[tuple[Case, InputError]]] = {}
    fitting = set()
    for case in found:
        for policy in policies or HEURISTICS[case.task]:
            try:
                one = entrant(case, policy)
            except InputError as error:
                refused.setdefault(policy, []).append((case, error))
            else:
                entrants[case.key, one.policy] = one
                fitting.add(policy)
    for policy, errors in refused.items():
        if policies and policy not in fitting:
            raise errors[0][1]
    notes = [
        f"left out {policy} in {'/'.join(case.key)}: {error}"
        for policy, errors in refused.items()
        for case, error in errors
    ]
    return entrants, notes


def run(planned: Plan, ledger: Ledger, *, engine: Engine | None = None, progress: Progress | None = None) -> None:
    """Measure what is planned; each row is in the file as soon as it is done.

    Args:
        planned: What to do.
        ledger: Where rows go.
        engine: Where; None: processes of this machine, several where that pays.
        progress: Told how many units are done.
    """

    def keep(unit: Unit, measures: dict[str, float]) -> None:
        one = None if unit.contender is None else planned.entrants[unit.key, unit.contender.label]
        ledger.add(Row.of(unit.case, one, unit.seed, measures))

    where = engine or LocalProcesses()
    measured(planned.units, engine=where, progress=progress or (lambda done: None), keep=keep)


def benchmark(asked: Asked, out: Path, *, jobs: int | None = None) -> list[Row]:
    """Run what is asked for into the file ``out`` and give all its rows; for scripts."""
    ledger = Ledger(out)
    run(plan(asked, ledger), ledger, engine=LocalProcesses(jobs))
    return list(ledger.rows.values())
