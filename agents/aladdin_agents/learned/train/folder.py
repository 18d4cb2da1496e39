"""The folder of a run: begun, or gone on with where it is the same run."""

from __future__ import annotations

from pathlib import Path

from aladdin_agents.learned.train.config import Config, difference, flat, read_config
from aladdin_env.errors import InputError

CHECKPOINT, CONFIG = "checkpoint.zip", "config.toml"
# What may differ when a run is resumed: how long it goes on and with how many processes, not what it is.
_FREE = ("steps", "checkpoint_every", "validation.patience", "validation.pictures", "search.processes")


def opened(config: Config, out: Path, resume: bool) -> bool:
    """Prepare the folder; whether there is a checkpoint to go on from.

    Raises:
        InputError: there is a run already and it is not to be resumed, or it is another one.
    """
    kept, checkpoint = out / CONFIG, out / CHECKPOINT
    there = checkpoint.exists()
    if there and not resume:
        raise InputError("--out", str(out), "there is a run in it: give --resume, or another folder")
    if there:
        differs = difference(read_config(kept), config, _FREE)
        if differs is not None:
            raise InputError(differs, flat(config)[differs], f"the run in {out} has another value there")
    return there
