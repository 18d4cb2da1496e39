"""The trials of a sweep on a Ray cluster, by Ray Tune: it places them, and begins those again whose process dies.

Which trials there are, which of them end early, and from where one goes on is decided as without Ray, by the sweep's
folder alone. So a sweep may begin on one machine and go on on a cluster, and nothing is unpickled to resume it, as Ray
Tune's own way would.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aladdin_agents.scale_out.cluster import RETRIES, Origin, connected, plain_faults
from aladdin_agents.scale_out.follow import Validation
from aladdin_agents.scale_out.shared import SharedFolder, shared
from aladdin_agents.scale_out.sweep_display import displayed
from aladdin_agents.scale_out.sweep_file import Sweep, Trial
from aladdin_agents.scale_out.trial import Trainer, ending_of
from aladdin_env.errors import InputError, OutsideFault

#: Below the sweep's folder: what Ray Tune itself writes.
TUNE = "tune"
_REFUSED = "refused"
_SHOWN = ("score", "attainment", "cost_ratio", "steps")
# The runs have TensorBoard files and tables of their own, the command a bar of its own.
_QUIET = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}


def run_on(address: str, sweep: Sweep, out: Path, jobs: int | None) -> None:
    """Train all trials that have not ended.

    Args:
        address: Of the cluster, see :func:`aladdin_agents.scale_out.cluster.connected`.
        sweep: Which trials.
        out: Folder of the sweep, on a disk that the cluster shares with this machine.
        jobs: Most trials at a time; None: as many as the cluster has CPUs.

    Raises:
        KeyboardInterrupt: it was interrupted.
        InputError: what a training run refuses; a folder that the cluster does not see.
        OutsideFault: trials whose processes have died again and again.
    """
    left = [trial for trial in sweep.trials if ending_of(out / trial.name, trial) is None]
    if not left:
        return
    with connected(address) as ray, shared(out) as folder, plain_faults(ray, f"the sweep in {out}"), _tame():
        from ray import tune

        tuner = tune.Tuner(
            tune.with_resources(_trainable(Trainer.of(sweep, out), left, folder), {"cpu": 1}),
            param_space={"trial": tune.grid_search([trial.name for trial in left])},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=jobs, trial_name_creator=_name_of, trial_dirname_creator=_name_of
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder.path / TUNE),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                stop=_stopper(tune),
                verbose=0,
            ),
        )
        with displayed(sweep, out):
            found = tuner.fit()
    for metrics in (found[i].metrics or {} for i in range(len(found))):
        if _REFUSED in metrics:
            raise InputError(*metrics[_REFUSED])
    if found.errors:
        first = str(found.errors[0]).strip().splitlines()[-1]
        raise OutsideFault(f"{len(found.errors)} of {len(left)} trials have failed {RETRIES + 1} times ({first})")
    if any(ending_of(out / trial.name, trial) is None for trial in left):
        raise KeyboardInterrupt  # Ray Tune answers Ctrl-C by an early end


@contextmanager
def _tame() -> Iterator[None]:
    """Ray Tune says nothing, and answers Ctrl-C only while active."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logger, before = logging.getLogger("ray.tune"), signal.getsignal(signal.SIGINT)
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # else a traceback for each process that dies, of which a line tells already
    try:
        yield
    finally:
        logger.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _name_of(trial: Any) -> str:
    return str(trial.config["trial"])


def _trainable(trainer: Trainer, trials: list[Trial], folder: SharedFolder) -> Any:
    """What Ray Tune calls in the process of a trial."""
    origin, by_name = Origin.here(), {trial.name: trial for trial in trials}

    def trained(config: dict[str, Any]) -> None:
        from ray import tune

        def report(row: Validation) -> None:
            tune.report({name: row[name] for name in _SHOWN})

        try:
            origin.settle()
            folder.check()
            trainer.train(by_name[config["trial"]], report)
        except InputError as error:  # to try again would not help
            tune.report({_REFUSED: [error.field, error.value, error.mend]})

    return trained


def _stopper(tune: Any) -> Any:
    """Ends everything with the first trial that is refused."""

    class Refusal(tune.Stopper):  # type: ignore[misc]
        is_there = False

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            self.is_there |= _REFUSED in result
            return False

        def stop_all(self) -> bool:
            return self.is_there

    return Refusal()
