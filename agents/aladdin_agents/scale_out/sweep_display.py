"""What a terminal shows of a sweep while it runs: read from the trials' folders, wherever they are trained."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aladdin_agents.learned.train.display import Display, display
from aladdin_agents.scale_out.follow import progress_of, validations_of
from aladdin_agents.scale_out.sweep_file import Sweep, Trial
from aladdin_agents.scale_out.trial import ending_of

_LOOK_EVERY_S = 1.0


@contextmanager
def displayed(sweep: Sweep, out: Path) -> Iterator[None]:
    """A bar on stderr while active."""
    ended = threading.Event()
    with display() as shown:

        def look() -> None:
            while not ended.wait(_LOOK_EVERY_S):
                _show(shown, sweep, out)

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            ended.set()
            looking.join()


def _show(shown: Display, sweep: Sweep, out: Path) -> None:
    trained = [_trained(out / trial.name, trial) for trial in sweep.trials]
    told = [f"{sum(part > 0.0 for part in trained)} of {len(trained)} trials begun"]
    scores = [(row["score"], trial.name) for trial in sweep.trials for row in validations_of(out / trial.name)]
    if scores:
        best, name = max(scores)
        told.append(f"best {best:.4f} ({name})")
    shown.show("sweep", sum(trained) / len(trained), " | ".join(told))


def _trained(folder: Path, trial: Trial) -> float:
    """How much of a trial is done, 0 to 1."""
    if ending_of(folder, trial) is not None:
        return 1.0
    progress = progress_of(folder)
    return 0.0 if progress is None else progress.trained
