"""Running rows again and comparing every measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aladdin_agents.benchmark.entrants import BOUND, Entrant, entrant
from aladdin_agents.benchmark.rows import Key, Row, differing
from aladdin_agents.benchmark.units import Unit, measured
from aladdin_agents.scale_out.engine import Engine, LocalProcesses
from aladdin_env.compare.work import Progress
from aladdin_env.errors import InputError

TOLERANCE = 1e-9
"""Relative difference of a measure that counts as none: machines may round the last digits of a sum differently."""
BOUND_TOLERANCE = 1e-3
"""The same for bounds: any multipliers give one, and the search for the best ones ends a little elsewhere."""


@dataclass(frozen=True)
class Verdict:
    """A row beside the same run again.

    Attributes:
        row: As it stands in the file.
        again: As it came out now.
        measures: Those that differ.
    """

    row: Row
    again: Row
    measures: tuple[str, ...]


def drawn(rows: Sequence[Row], count: int | None) -> list[Row]:
    """``count`` rows, always the same of a file, in its order; None: all.

    Raises:
        InputError: less than one.
    """
    if count is None or count >= len(rows):
        return list(rows)
    if count < 1:
        raise InputError("--rows", count, "give 1 or more")
    chosen = np.random.default_rng(0).choice(len(rows), size=count, replace=False)
    return [rows[i] for i in sorted(chosen.tolist())]


def verify(
    rows: Sequence[Row], folder: Path = Path(), *, engine: Engine | None = None, progress: Progress | None = None
) -> list[Verdict]:
    """Run the rows again.

    Args:
        rows: From a file.
        folder: Where policy files are looked for that are not where the rows say.
        engine: Where; None: processes of this machine, several where that pays.
        progress: Told how many rows are done.

    Raises:
        InputError: a policy that does not exist here, or another file than the one that the row is of.
    """
    entrants = {row.key: _entrant(row, folder) for row in rows}
    by_key = {row.key: row for row in rows}
    found: dict[Key, Verdict] = {}

    def keep(unit: Unit, measures: dict[str, float]) -> None:
        row = by_key[unit.row_key]
        again = Row.of(row.case, entrants[row.key], row.seed, measures)
        tolerance = BOUND_TOLERANCE if row.policy == BOUND else TOLERANCE
        found[row.key] = Verdict(row, again, differing(row, again, tolerance))

    units = [
        Unit(row.case.key, row.seed, None if one is None else one.contender)
        for row, one in zip(rows, entrants.values(), strict=True)
    ]
    measured(units, engine=engine or LocalProcesses(), progress=progress or (lambda done: None), keep=keep)
    return [found[row.key] for row in rows]


def _entrant(row: Row, folder: Path) -> Entrant | None:
    if row.policy == BOUND:
        return None
    found = entrant(row.case, row.policy, folder)
    if found.sha256 != row.policy_sha256:
        mend = f"the row is of the file with SHA-256 {row.policy_sha256 or '(none)'}, this one has {found.sha256}"
        raise InputError(f"policy {row.policy}", "/".join(map(str, row.key)), mend)
    if found.policy != row.policy:
        mend = f"the row would be of {found.policy!r}: write it so in the file"
        raise InputError("policy", row.policy, mend)
    return found


def told(verdict: Verdict) -> str:
    """What differs, in a line."""
    row, again = verdict.row, verdict.again
    values = "; ".join(f"{name} {row[name]!r} is now {again[name]!r}" for name in verdict.measures)
    return f"{'/'.join(map(str, row.key))}: {values}{_other_versions(row, again)}"


def _other_versions(row: Row, again: Row) -> str:
    names = ("commit", "aladdin_env", "numpy", "numba", "policy_package")
    other = [f"{name} {getattr(row, name)}" for name in names if getattr(row, name) != getattr(again, name)]
    return f" (the row is of {', '.join(other)})" if other else ""
