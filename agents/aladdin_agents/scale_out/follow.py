"""A training run that goes on by itself and is followed from elsewhere: all that it tells lies in its folder."""

from __future__ import annotations

import csv
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from aladdin_agents.learned.train.config import Config
from aladdin_agents.learned.train.display import heard_by
from aladdin_agents.learned.train.keeper import HISTORY, Outcome
from aladdin_agents.learned.train.run import train
from aladdin_traces.files import whole_file

PROGRESS = "progress.json"
_WRITTEN_EVERY_S = 0.5

Validation = dict[str, float]
"""A row of ``history.csv``: steps, score, attainment, cost_ratio, ..."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        what: What it does now.
        part: How much of that is done, 0 to 1.
        told: Remarks for people.
        trained: How much of its decisions it has learned from, 0 to 1.
        host: The machine that it runs on.
        process: Its id there.
    """

    what: str
    part: float
    told: str
    trained: float
    host: str
    process: int


def progress_of(folder: Path) -> Progress | None:
    """What the run in ``folder`` told last; None: nothing yet."""
    try:
        return Progress(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def validations_of(folder: Path) -> list[Validation]:
    """The validations of the run in ``folder``, the first one first."""
    try:
        with (folder / HISTORY).open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except OSError:
        return []


class _Listener:
    """Writes what a run tells into its folder; calls ``judge`` after each validation."""

    def __init__(self, folder: Path, judge: Callable[[list[Validation]], None]) -> None:
        self._folder = folder
        self._judge = judge
        self._written_s = -_WRITTEN_EVERY_S
        self._before = ""
        self._trained = 0.0

    def __call__(self, what: str, part: float, told: str) -> None:
        if what == "training":
            self._trained = part
        if time.monotonic() - self._written_s >= _WRITTEN_EVERY_S or what != self._before:
            self._write(Progress(what, part, told, self._trained, socket.gethostname(), os.getpid()))
        has_validated, self._before = self._before == "validating" != what, what
        rows = validations_of(self._folder) if has_validated else []
        if rows:  # the halves of a joint agent have tables of their own
            self._judge(rows)

    def _write(self, progress: Progress) -> None:
        with whole_file(self._folder / PROGRESS) as temporary:
            temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        self._written_s = time.monotonic()


def follow(
    config: Config, folder: Path, command: str, judge: Callable[[list[Validation]], None] = lambda rows: None
) -> Outcome:
    """Train in ``folder``, from its checkpoint on where there is one.

    Args:
        config: What to train.
        folder: Of the run; no other process may train in it.
        command: What was typed, for the cards.
        judge: Given all validations so far after each; it may end the run by raising, the checkpoint is there already.

    Raises:
        InputError: as :class:`aladdin_agents.learned.train.run.Run`; another process trains there.
    """
    with heard_by(_Listener(folder, judge)):
        return train(config, folder, resume=True, command=command)
