"""The card of what a run has trained."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from importlib import metadata

from aladdin_agents.benchmark.provenance import commit
from aladdin_agents.learned.card import Card
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train.config import Config
from aladdin_agents.learned.train.pool import Frame
from aladdin_env.features import OBSERVATION_VERSION

_LIBRARIES = ("aladdin-env", "gymnasium", "numba", "numpy", "sb3-contrib", "stable-baselines3", "torch")


def make_card(
    config: Config,
    whole: Frame,
    scenarios: Sequence[str],
    steps: int,
    command: str,
    results: Mapping[str, float] | None = None,
) -> Card:
    """A card for ``steps`` decisions of a run.

    Args:
        config: The run.
        whole: The largest fleet that it trains on.
        scenarios: Names of what it trains on.
        steps: Decisions so far.
        command: What was typed.
        results: What it has reached.
    """
    steers = config.network.kind == "steered"
    shape = Shape.of(config.decides, whole.types, bool(config.network.adviser))
    is_mlp = config.network.kind == "mlp"
    return Card(
        kind=shape.kind,
        network=config.network.kind,
        shape=shape,
        hidden=0 if steers else config.network.hidden,
        adviser=config.network.adviser,
        slots=whole.slots if is_mlp else None,
        observation_version=OBSERVATION_VERSION,
        scenarios=tuple(scenarios),
        seeds=(config.seed,),
        steps=steps,
        commit=commit(),
        versions={name: metadata.version(name) for name in _LIBRARIES},
        command=command,
        results=dict(results or {}),
        date=datetime.date.today().isoformat(),
    )
