"""The joint agent in stages: its placement and its scaling trained apart, put into one network, then trained on.

From scratch it would learn to scale from one decision in hundreds. The placement learns in ``aladdin/Placement-v0``,
the scaling in ``aladdin/Scaling-v0`` with a compiled placement inside, each with its own discount, and
:mod:`aladdin_agents.learned.train.merge` makes one checkpoint of both.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aladdin_agents.learned.checkpoint import load, save
from aladdin_agents.learned.train.config import Config, Stages, read_config
from aladdin_agents.learned.train.keeper import Outcome
from aladdin_agents.learned.train.lock import make_folder
from aladdin_agents.learned.train.merge import merge
from aladdin_agents.learned.train.run import begun_with, train
from aladdin_env.errors import InputError

_MERGED = "merged.npz"


def train_in_stages(config: Config, out: Path, resume: bool, command: str) -> Outcome:
    """Train both halves below ``out`` (or take finished ones), merge them, train on for ``config.steps`` decisions.

    Raises:
        InputError: halves of the wrong kinds, or with other actions than the joint run.
    """
    make_folder(out)
    placement = _half(config, config.stages.placement, "placement", out, resume, command)
    scaling = _half(config, config.stages.scaling, "scaling", out, resume, command)
    weights, card = merge(load(placement), load(scaling), command)
    save(out / _MERGED, weights, card)
    joint = begun_with(replace(config, stages=Stages()), out / _MERGED, card.hidden)
    return train(joint, out, resume=resume, command=command)


def _half(config: Config, name: str, kind: str, out: Path, resume: bool, command: str) -> Path:
    """The checkpoint of one half."""
    if name.endswith(".npz"):
        return Path(name)
    own = replace(read_config(name), seed=config.seed)
    if own.task != kind:
        raise InputError(f"stages.{kind}", name, f"its task is {own.task!r}: give a configuration for {kind}")
    try:
        return train(own, out / kind, resume=resume or (out / kind).exists(), command=command).best
    except KeyboardInterrupt as stop:  # the half goes on with the whole
        raise KeyboardInterrupt(str(stop).replace(str(out / kind), str(out))) from None
