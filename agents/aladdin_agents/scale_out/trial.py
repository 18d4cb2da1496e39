"""One trial of a sweep: a training run in a folder of its own, begun or gone on with, ended early or not."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aladdin_agents.learned.train.folder import CONFIG
from aladdin_agents.scale_out.follow import Validation, follow, validations_of
from aladdin_agents.scale_out.halving import Stopping
from aladdin_agents.scale_out.sweep_file import Sweep, Trial
from aladdin_traces.files import whole_file

ENDING = "ending.json"
FINISHED, STOPPED = "finished", "stopped"

Report = Callable[[Validation], None]


class _LeftBehind(Exception):
    """Others are better."""


@dataclass(frozen=True)
class Trainer:
    """Trains trials; what every process must know of a sweep.

    Attributes:
        folder: Of the sweep; each trial has its own in it, by its name.
        names: Of all trials.
        stopping: Which trials end early.
    """

    folder: Path
    names: tuple[str, ...]
    stopping: Stopping | None

    @classmethod
    def of(cls, sweep: Sweep, out: Path) -> Trainer:
        """That of a sweep in the folder ``out``."""
        return cls(out.absolute(), tuple(trial.name for trial in sweep.trials), sweep.stopping)

    def train(self, trial: Trial, report: Report = lambda row: None) -> None:
        """Train a trial from where it is; nothing, where it has ended.

        Args:
            trial: Which one.
            report: Given each new validation.
        """
        own = self.folder / trial.name
        if ending_of(own, trial) is not None:
            return

        def judge(rows: list[Validation]) -> None:
            report(rows[-1])
            others = (validations_of(self.folder / name) for name in self.names if name != trial.name)
            if self.stopping is not None and self.stopping.ends(rows, others):
                raise _LeftBehind

        try:
            follow(trial.config, own, shlex.join(["aladdin", "train", str(own / CONFIG)]), judge)
        except _LeftBehind:
            how = STOPPED
        else:
            how = FINISHED
            report(validations_of(own)[-1])
        with whole_file(own / ENDING) as temporary:
            temporary.write_text(json.dumps({"how": how, "steps": trial.config.steps}), encoding="utf-8")


def ending_of(folder: Path, trial: Trial) -> str | None:
    """How a trial has ended: finished or stopped; None: it has not, or was shorter then."""
    try:
        ending = json.loads((folder / ENDING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(ending["how"]) if ending["steps"] == trial.config.steps else None
