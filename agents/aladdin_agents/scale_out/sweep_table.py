"""What came out of a sweep: a row per trial, the best one, and means over seeds."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aladdin_agents.learned.train.keeper import BEST
from aladdin_agents.scale_out.follow import validations_of
from aladdin_agents.scale_out.sweep_file import Sweep, Trial
from aladdin_agents.scale_out.trial import ending_of
from aladdin_traces.files import whole_file

TABLE = "sweep.csv"
_BEGUN = "begun"


@dataclass(frozen=True)
class Row:
    """A trial that has been validated.

    Attributes:
        trial: Which one.
        state: "finished", "stopped" (early), or "begun".
        score: Of its best validation, see :mod:`aladdin_agents.learned.train.validation`.
        attainment: There.
        cost_ratio: There: cost over the expert's.
        steps: Decisions until its last validation.
        checkpoint: Its best one, from the folder of the sweep.
    """

    trial: Trial
    state: str
    score: float
    attainment: float
    cost_ratio: float
    steps: int
    checkpoint: str


@dataclass(frozen=True)
class Group:
    """The trials with the same parameters.

    Attributes:
        changes: The parameters.
        scores: One for each seed.
    """

    changes: Mapping[str, Any]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean score over the seeds."""
        return float(np.mean(self.scores))


def rows_of(sweep: Sweep, out: Path) -> list[Row]:
    """The trials that have been validated, in their order."""
    rows = []
    for trial in sweep.trials:
        found = validations_of(out / trial.name)
        if not found:
            continue
        best = max(found, key=lambda row: row["score"])
        state = ending_of(out / trial.name, trial) or _BEGUN
        numbers = best["score"], best["attainment"], best["cost_ratio"], int(found[-1]["steps"])
        rows.append(Row(trial, state, *numbers, f"{trial.name}/{BEST}"))
    return rows


def write_rows(sweep: Sweep, rows: Sequence[Row], out: Path) -> Row | None:
    """Write the table into the folder of the sweep, and the best checkpoint beside it; gives the best row."""
    columns = ["trial", "state", *sweep.parameters, "seed", "score", "attainment", "cost_ratio", "steps", "checkpoint"]
    with whole_file(out / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            values = [_text(row.trial.changes[name]) for name in sweep.parameters]
            numbers = [row.score, row.attainment, row.cost_ratio, row.steps]
            writer.writerow([row.trial.name, row.state, *values, row.trial.seed, *numbers, row.checkpoint])
    best = max(rows, key=lambda row: row.score, default=None)
    if best is not None:
        with whole_file(out / BEST) as temporary:
            shutil.copyfile(out / best.checkpoint, temporary)
    return best


def groups_of(rows: Sequence[Row]) -> list[Group]:
    """The rows by their parameters, the best mean first."""
    scores: dict[str, list[Row]] = {}
    for row in rows:
        scores.setdefault(_text(row.trial.changes), []).append(row)
    groups = [Group(mine[0].trial.changes, tuple(row.score for row in mine)) for mine in scores.values()]
    return sorted(groups, key=lambda group: -group.mean)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
