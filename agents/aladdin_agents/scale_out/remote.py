"""``aladdin train --ray``: one training run on a Ray cluster."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

from aladdin_agents.learned.train.config import Config
from aladdin_agents.learned.train.display import Display, Interruption, display
from aladdin_agents.learned.train.folder import CHECKPOINT
from aladdin_agents.learned.train.keeper import Outcome
from aladdin_agents.scale_out.cluster import RETRIES, Origin, connected, plain_faults
from aladdin_agents.scale_out.follow import PROGRESS, follow, progress_of
from aladdin_agents.scale_out.shared import SharedFolder, shared
from aladdin_env.errors import InputError

_LOOK_EVERY_S = 0.5


def train_on(address: str, config: Config, out: Path, *, resume: bool = False, command: str = "") -> Outcome:
    """Train on a cluster; where the process dies, another one goes on from the checkpoint.

    Args:
        address: Of the cluster, see :func:`aladdin_agents.scale_out.cluster.connected`.
        config: What to train.
        out: Folder of the run, on a disk that the cluster shares with this machine.
        resume: Go on with the run that is there.
        command: What was typed, for the cards.

    Raises:
        KeyboardInterrupt: it was interrupted; the run has saved and stopped.
        InputError: as for training here; a folder that the cluster does not see.
        OutsideFault: the process has died again and again.
    """
    if not resume and (out / CHECKPOINT).exists():
        raise InputError("--out", str(out), "there is a run in it: give --resume, or another folder")
    with connected(address) as ray, shared(out) as folder:
        (out / PROGRESS).unlink(missing_ok=True)  # of an earlier run
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_train_there)
        with plain_faults(ray, f"the run in {out}"):
            running = task.remote(Origin.here(), config, folder, command)
            return _awaited(ray, running, out)


def _train_there(origin: Origin, config: Config, folder: SharedFolder, command: str) -> Outcome:
    """In a process of the cluster."""
    origin.settle()
    folder.check()
    _heed_interruptions()
    return follow(config, folder.path, command)


def _heed_interruptions() -> None:
    """Ray cancels by SIGINT, which processes ignore whose cluster was started from a background shell."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _awaited(ray: Any, running: Any, out: Path) -> Outcome:
    """The outcome; Ctrl-C and SIGTERM are passed on to the run."""
    is_told = False
    with Interruption() as stop, display() as shown:
        while not ray.wait([running], timeout=_LOOK_EVERY_S)[0]:
            if stop.asked and not is_told:
                ray.cancel(running)  # in the run it is as Ctrl-C there
                is_told = True
            _show(shown, out, is_told)
    try:
        outcome: Outcome = ray.get(running)
    except ray.exceptions.TaskCancelledError:
        raise KeyboardInterrupt(f": go on with --resume --out {out}") from None
    return outcome


def _show(shown: Display, out: Path, is_stopping: bool) -> None:
    told = progress_of(out)
    if is_stopping:
        shown.show("stopping", 0.0)
    elif told is None:
        shown.show("waiting for a free CPU of the cluster", 0.0)
    else:
        shown.show(f"{told.what} on {told.host}", told.part, told.told)
