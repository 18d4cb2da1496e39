"""Sweeps that are over in seconds, and a policy that waits to be killed once."""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from functools import partial
from pathlib import Path

from aladdin_agents.learned.train.config import Config, write_config
from aladdin_agents.learned.train.state import STATE_MEMBER
from aladdin_env.errors import InputError
from aladdin_env.policy import make_policy
from tests.agents.learned.train.toys import elastic, small, written

ROOT = Path(__file__).parents[3]
SWEEP = """
config = "run.toml"
seeds = [3, 4]
{more}
[parameters]
"learner.epochs" = {epochs}
"""


def a_run(folder: Path, **more: object) -> Config:
    """A training run of some seconds, also written to ``run.toml``."""
    more.setdefault("environment", {"envs": 4, "horizon_s": 0.0, "randomise": 0.0})
    config = small("scaling", written(elastic(horizon_s=8.0), folder), **more)
    write_config(config, folder / "run.toml")
    return config


def a_sweep(folder: Path, more: str = "", epochs: tuple[int, ...] = (1, 2), **config: object) -> Path:
    """The file of a sweep of two trials for each of ``epochs``."""
    a_run(folder, **config)
    (folder / "sweep.toml").write_text(SWEEP.format(more=more, epochs=list(epochs)), encoding="utf-8")
    return folder / "sweep.toml"


def steps_of(run: Path) -> int:
    """Decisions that the checkpoint of a run has learned from."""
    with zipfile.ZipFile(run / "checkpoint.zip") as file:
        return int(json.loads(file.read(STATE_MEMBER))["steps"])


def wait_for(what, seconds=90):
    """The first true answer of ``what``."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def is_alive(process_id):
    """Whether there is such a process."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def dies(scenario):
    """No policy: the end of the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuses(scenario):
    """No policy: a mistake of the user."""
    raise InputError("policy", "refuses", "give another")


def waits_once(marker: Path):
    """Makes ``least_request``; the first process that does leaves its id in ``marker`` and waits to be killed."""
    return partial(_waits_once, str(marker))


def _waits_once(marker, scenario):
    if not Path(marker).exists():
        Path(marker).write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(120)
    return make_policy("least_request", scenario)
