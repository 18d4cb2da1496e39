"""Two networks side by side in one: the placement of one checkpoint and the scaling of another as a joint checkpoint.

Every layer of the joint network has the units of the first half above those of the second; where a unit would read the
other half's, its weight is 0. Its logits of slots, HOLD and REJECT are those of the first half, the ones of the fleet's
changes those of the second, to the last bit but for the order of sums. The value is the second half's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import Weights, sizes_of
from aladdin_agents.learned.layout import KINDS_OF_TYPE, TYPE, trusts
from aladdin_agents.learned.shape import Shape
from aladdin_env.errors import InputError

_POOLS = 4


def merge(placement: tuple[Weights, Card], scaling: tuple[Weights, Card], command: str) -> tuple[Weights, Card]:
    """The joint checkpoint of two halves, with the steps and the scenarios of both, and no results.

    Raises:
        InputError: a half of another kind, or one that is an MLP.
    """
    network = scaling[1].network
    for half, kind in ((placement, "placement"), (scaling, "scaling")):
        if half[1].kind != kind or half[1].network == "mlp":
            raise _refused(half[1], kind)
    if placement[1].network != network:
        raise _refused(placement[1], "placement")
    card = _card(placement[1], scaling[1], command)
    if network == "steered":
        return {**placement[0], **scaling[0]}, card
    weights: Weights = {name: np.zeros(size, dtype=np.float32) for name, size in sizes_of(card).items()}
    at = placement[1].hidden
    _put(weights, placement[0], slice(0, at), card.hidden)
    _put(weights, scaling[0], slice(at, card.hidden), card.hidden)
    for name in ("score2.bias", "others.bias"):
        if name in weights:
            weights[name][:] = placement[0][name]
    for name in ("keep.bias", "type2.bias", "value2.bias"):
        weights[name][:] = scaling[0][name]
    for half in (placement, scaling):
        for name in trusts(half[1].shape):
            weights[f"{name}.bias"][:] = half[0][f"{name}.bias"]
    weights["value2.weight"][:, :at] = 0.0
    return weights, card


def _refused(half: Card, kind: str) -> InputError:
    mend = f"give an equivariant checkpoint for {kind}, or steered ones for both"
    return InputError(f"stages.{kind}", f"{half.network} for {half.kind}", mend)


def _card(placement: Card, scaling: Card, command: str) -> Card:
    one, other = placement.shape, scaling.shape
    if placement.adviser != scaling.adviser:
        raise InputError("stages.scaling", scaling.adviser or "no adviser", f"the placement has {placement.adviser!r}")
    types = max(one.types, other.types)
    shape = Shape(types, True, True, one.holds, one.rejects, other.max_change, one.advised)
    return replace(
        placement,
        kind="joint",
        shape=shape,
        hidden=placement.hidden + scaling.hidden,
        scenarios=tuple(dict.fromkeys(placement.scenarios + scaling.scenarios)),
        seeds=tuple(dict.fromkeys(placement.seeds + scaling.seeds)),
        steps=placement.steps + scaling.steps,
        command=command,
        results={},
    )


def _put(weights: Weights, half: Weights, units: slice, hidden: int) -> None:
    """The layers of a half, at its ``units`` among the ``hidden`` of each layer."""
    own = units.stop - units.start
    for name in ("trust_place", "trust_scale"):
        if f"{name}.weight" in half:
            weights[f"{name}.weight"][:, units] = half[f"{name}.weight"]
    for name in ("worker1", "worker2", "context", "value1", "score1", "type1"):
        if f"{name}.bias" in half:
            weights[f"{name}.bias"][units] = half[f"{name}.bias"]
    weights["worker1.weight"][units] = half["worker1.weight"]
    weights["worker2.weight"][units, units] = half["worker2.weight"]
    weights["value1.weight"][units, units] = half["value1.weight"]
    weights["value2.weight"][:, units] = half["value2.weight"]
    context = half["context.weight"]
    for k in range(_POOLS):
        columns = slice(k * hidden + units.start, k * hidden + units.stop)
        weights["context.weight"][units, columns] = context[:, k * own : (k + 1) * own]
    weights["context.weight"][units, _POOLS * hidden :] = context[:, _POOLS * own :]
    if "score1.weight" in half:
        _put_placement(weights, half, units, hidden)
    if "type1.weight" in half:
        known = TYPE + len(KINDS_OF_TYPE)
        weights["type1.weight"][units, :known] = half["type1.weight"][:, :known]
        weights["type1.weight"][units, known:][:, units] = half["type1.weight"][:, known:]
        weights["type2.weight"][:, units] = half["type2.weight"]
        weights["keep.weight"][:, units] = half["keep.weight"]


def _put_placement(weights: Weights, half: Weights, units: slice, hidden: int) -> None:
    own = units.stop - units.start
    for part in range(2):  # a worker's encoding, then the context
        columns = slice(part * hidden + units.start, part * hidden + units.stop)
        weights["score1.weight"][units, columns] = half["score1.weight"][:, part * own : (part + 1) * own]
    weights["score2.weight"][:, units] = half["score2.weight"]
    if "others.weight" in half:
        weights["others.weight"][:, units] = half["others.weight"]
