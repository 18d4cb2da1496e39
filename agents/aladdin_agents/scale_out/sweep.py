"""A sweep in its folder: a training run for each trial, on this machine or on a Ray cluster; begun or resumed."""

from __future__ import annotations

from functools import partial
from multiprocessing import parent_process
from pathlib import Path

from aladdin_agents.learned.train.config import difference, flat, read_config
from aladdin_agents.learned.train.folder import CHECKPOINT, CONFIG
from aladdin_agents.learned.train.lock import make_folder
from aladdin_agents.scale_out.engine import LocalProcesses
from aladdin_agents.scale_out.sweep_display import displayed
from aladdin_agents.scale_out.sweep_file import Sweep, Trial
from aladdin_agents.scale_out.trial import Trainer, ending_of
from aladdin_env.compare.work import usable_cpus
from aladdin_env.errors import InputError, OutsideFault


def run_sweep(
    sweep: Sweep, out: Path, *, ray: str | None = None, jobs: int | None = None, resume: bool = False
) -> None:
    """Train all trials that have not ended.

    Args:
        sweep: Which trials.
        out: Folder of the sweep; with ``ray`` on a disk that the cluster shares with this machine.
        ray: Address of a cluster; None: processes of this machine.
        jobs: Trials at a time; None: as many as there are CPUs.
        resume: Go on with the sweep that is in the folder.

    Raises:
        KeyboardInterrupt: it was interrupted.
        InputError: there is a sweep in the folder and it is not to be resumed, or it is another one; what a training
            run refuses.
        OutsideFault: processes died.
    """
    _check(sweep, out, resume)
    make_folder(out)
    again = f"go on with --resume --out {out}"
    try:
        if ray is None:
            _run_here(sweep, out, usable_cpus() if jobs is None else jobs)
        else:
            from aladdin_agents.scale_out.tuning import run_on

            run_on(ray, sweep, out, jobs)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f": {again}") from None
    except OutsideFault as fault:
        raise OutsideFault(f"{fault}; {again}") from fault


def _check(sweep: Sweep, out: Path, resume: bool) -> None:
    begun = [trial for trial in sweep.trials if (out / trial.name / CHECKPOINT).exists()]
    if begun and not resume:
        raise InputError("--out", str(out), "there is a sweep in it: give --resume, or another folder")
    for trial in begun:
        differs = difference(read_config(out / trial.name / CONFIG), trial.config, ("steps",))
        if differs is not None:
            mend = f"trial {trial.name} in {out} has another value there: give another folder"
            raise InputError(differs, flat(trial.config)[differs], mend)


def _run_here(sweep: Sweep, out: Path, jobs: int) -> None:
    left = [trial for trial in sweep.trials if ending_of(out / trial.name, trial) is None]
    work = partial(_train_here, Trainer.of(sweep, out))
    with displayed(sweep, out):  # what has been done, and how far the rest is, lies in the folder
        LocalProcesses(jobs).do(work, left, progress=lambda done: None, keep=lambda trial, nothing: None)


_is_interrupted = False  # a child process


def _train_here(trainer: Trainer, trial: Trial, progress: object) -> None:
    """In this process, or in a child of it."""
    global _is_interrupted
    if _is_interrupted:  # the pool had handed over one more trial already
        raise KeyboardInterrupt
    try:
        trainer.train(trial)
    except KeyboardInterrupt:
        _is_interrupted = parent_process() is not None
        raise
