"""From a model of Stable-Baselines3 to a checkpoint: its card, its ``.zip`` with the card inside, its ``.npz``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata

from sb3_contrib import MaskablePPO

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import load_zip, save, write_zip_card
from aladdin_agents.learned.networks import MlpNet, Net, weights_of
from aladdin_env.errors import InputError
from aladdin_env.features import OBSERVATION_VERSION
from aladdin_traces.files import whole_file

_LIBRARIES = ("aladdin-env", "numpy", "torch", "stable-baselines3", "sb3-contrib")


def card_of(
    net: Net,
    *,
    scenarios: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    commit: str,
    command: str,
    results: Mapping[str, float],
    adviser: str = "",
    date: str | None = None,
) -> Card:
    """The card of ``net`` (``policy.net`` of a model), with the versions installed here and, unless given, today."""
    slots = net.slots if isinstance(net, MlpNet) else None
    return Card(
        kind=net.shape.kind,
        network="equivariant" if slots is None else "mlp",
        shape=net.shape,
        hidden=net.hidden,
        adviser=adviser,
        slots=slots,
        observation_version=OBSERVATION_VERSION,
        scenarios=tuple(scenarios),
        seeds=tuple(seeds),
        steps=steps,
        commit=commit,
        versions={name: metadata.version(name) for name in _LIBRARIES},
        command=command,
        results=dict(results),
        date=date or datetime.now(UTC).date().isoformat(),
    )


def export_net(path: str | os.PathLike[str], net: Net, card: Card) -> None:
    """Write the checkpoint (``.npz``) of ``net``."""
    save(path, weights_of(net), card)


def save_model(path: str | os.PathLike[str], model: MaskablePPO, card: Card) -> None:
    """Write the whole model as ``.zip``, to train it further, with the card inside; whole or not at all.

    Raises:
        InputError: another ending, or a place that cannot be written to.
    """
    if not os.fspath(path).endswith(".zip"):
        raise InputError("model", os.fspath(path), "the name must end in .zip")
    with whole_file(path) as temporary:
        model.save(temporary)
        write_zip_card(temporary, card)


def zip_to_npz(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Write the checkpoint of a model that :func:`save_model` has saved."""
    weights, card = load_zip(source)
    save(target, weights, card)
