"""Names and sizes of the weights of both networks: what torch trains, what files hold, what NumPy computes with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.learned.advice import SIGNALS
from aladdin_agents.learned.shape import Shape
from aladdin_agents.steering import LEARNED, OBJECTIVES, Situation, Steering
from aladdin_env.errors import InputError
from aladdin_env.features import (
    CLUSTER_FEATURES,
    REQUEST_FEATURES,
    TYPE_FEATURES,
    WORKER_FEATURES,
    W,
    cluster_size,
)

WORKER, REQUEST, CLUSTER, TYPE = map(len, (WORKER_FEATURES, REQUEST_FEATURES, CLUSTER_FEATURES, TYPE_FEATURES))
#: The request and the cluster without its worker types: what every part of the equivariant network knows.
GLOBAL = REQUEST + CLUSTER
#: Features of a slot that tell worker types apart, OFF or not; with ``W.type`` before them nothing else is constant.
KINDS_OF_TYPE = range(W.prefill_role, W.price + 1)
KIND = slice(KINDS_OF_TYPE.start, KINDS_OF_TYPE.stop)

#: Flags of a worker's status: all 0 on an OFF slot.
STATUS = slice(W.starting, W.failed + 1)

#: (outputs, inputs) of each layer of a network, by its name; every layer has a weight and a bias.
Layers = dict[str, tuple[int, int]]


def known(shape: Shape) -> int:
    """What every part of an equivariant network of this shape knows: :data:`GLOBAL`, and the signals of its adviser."""
    return GLOBAL + (len(SIGNALS) if shape.advised else 0)


def equivariant_layers(shape: Shape, hidden: int) -> Layers:
    """Layers of the equivariant network; see :class:`aladdin_agents.learned.networks.EquivariantNet`."""
    layers = {
        "worker1": (hidden, WORKER + known(shape)),
        "worker2": (hidden, hidden),
        "context": (hidden, 4 * hidden + known(shape)),
        "value1": (hidden, hidden),
        "value2": (1, hidden),
    }
    if shape.places:
        layers |= {"score1": (hidden, 2 * hidden), "score2": (1, hidden)}
    if shape.others:
        layers["others"] = (shape.others, hidden)
    if shape.scales:
        type_inputs = TYPE + len(KINDS_OF_TYPE) + hidden
        layers |= {"keep": (1, hidden), "type1": (hidden, type_inputs), "type2": (2 * shape.max_change, hidden)}
    if shape.advised:
        layers |= {name: (1, hidden) for name in trusts(shape)}
    return layers


def trusts(shape: Shape) -> tuple[str, ...]:
    """Layers that say how much the adviser is trusted, for placements and for changes of the fleet."""
    found = (("trust_place", shape.places), ("trust_scale", shape.scales))
    return tuple(name for name, there in found if there and shape.advised)


def mlp_layers(shape: Shape, slots: int, hidden: int) -> Layers:
    """Layers of the MLP: two of ``hidden`` for the policy, two for the value."""
    inputs = slots * WORKER + REQUEST + cluster_size(shape.types)
    return {
        "policy1": (hidden, inputs),
        "policy2": (hidden, hidden),
        "policy3": (shape.actions(slots), hidden),
        "value1": (hidden, inputs),
        "value2": (hidden, hidden),
        "value3": (1, hidden),
    }


def steered_layers(shape: Shape) -> Layers:
    """The linear maps of a steered policy; see :mod:`aladdin_agents.learned.steered`."""
    layers: Layers = {"steer": (len(Steering._fields), len(Situation._fields))} if shape.scales else {}
    return layers | ({"settings": (len(LEARNED), OBJECTIVES)} if shape.places else {})


def layers_of(network: str, shape: Shape, hidden: int, slots: int | None) -> Layers:
    """Layers of a network by its name, "equivariant", "mlp" or "steered"; only the second asks for the slots.

    Raises:
        InputError: an MLP without slots.
    """
    if network == "equivariant":
        return equivariant_layers(shape, hidden)
    if network == "steered":
        return steered_layers(shape)
    if slots is None:
        raise InputError("slots", None, "an MLP needs the number of worker slots")
    return mlp_layers(shape, slots, hidden)


def weight_sizes(layers: Layers) -> dict[str, tuple[int, ...]]:
    """Size of every array of weights by its name, ``LAYER.weight`` and ``LAYER.bias``."""
    sizes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs) in layers.items():
        sizes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    return sizes


def check_weights(field: str, weights: Mapping[str, NDArray[np.float32]], sizes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse weights that are not exactly the arrays of ``sizes``, of finite numbers.

    Raises:
        InputError: an array is missing, unknown, of another size or type, or not finite.
    """
    for name, size in sizes.items():
        if name not in weights:
            raise InputError(field, f"no array {name!r}", "give all weights of the network that the card describes")
        found = weights[name]
        if found.shape != size:
            raise InputError(f"{field}: {name}", f"an array of {found.shape}", f"the card's network has {size} there")
        if found.dtype != np.float32:
            raise InputError(f"{field}: {name}", str(found.dtype), "give float32")
        if not np.isfinite(found).all():
            raise InputError(f"{field}: {name}", "NaN or infinity", "give finite weights")
    if unknown := sorted(set(weights) - set(sizes)):
        raise InputError(field, unknown[0], "the network that the card describes has no such array")
