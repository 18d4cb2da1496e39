"""The two networks, in torch: one for a fleet of any size, and an MLP for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.layout import (
    GLOBAL,
    KIND,
    KINDS_OF_TYPE,
    REQUEST,
    STATUS,
    TYPE,
    WORKER,
    Layers,
    check_weights,
    equivariant_layers,
    layers_of,
    mlp_layers,
    trusts,
    weight_sizes,
)
from aladdin_agents.learned.shape import Shape
from aladdin_env.errors import InputError
from aladdin_env.features import W

# Gains of the orthogonal weights that a network begins with; sqrt(2) before a ReLU. A policy begins undecided.
_LOGITS = ("score2", "others", "keep", "type2", "policy3", "trust_place", "trust_scale")
_GAINS = dict.fromkeys(_LOGITS, 0.01)


class _Layered(nn.Module):
    """A network whose layers are linear ones with names."""

    def __init__(self, shape: Shape, hidden: int, layers: Layers) -> None:
        super().__init__()
        self.shape = shape
        self.hidden = hidden
        for name, (outputs, inputs) in layers.items():
            layer = nn.Linear(inputs, outputs)
            nn.init.orthogonal_(layer.weight, _GAINS.get(name, float(np.sqrt(2.0))))
            nn.init.zeros_(layer.bias)
            self.add_module(name, layer)

    def _layer(self, name: str) -> tuple[Tensor, Tensor]:
        layer: Any = self._modules[name]
        return layer.weight, layer.bias

    def _relu(self, name: str, inputs: Tensor) -> Tensor:
        return torch.relu(functional.linear(inputs, *self._layer(name)))

    def _linear(self, name: str, inputs: Tensor) -> Tensor:
        return functional.linear(inputs, *self._layer(name))


class EquivariantNet(_Layered):
    """The same small network for each worker, and pools over the workers for what concerns all of them.

    With g = [request, the first 24 features of the cluster]::

        h_w     = relu(worker2(relu(worker1([x_w, g]))))                           each worker w
        c       = relu(context([mean, max over candidates, mean, max over all not OFF of h_w, g]))
        logit_w = score2(relu(score1([h_w, c])))                                   a slot
        logits  = others(c)                                                        HOLD, REJECT
        logits  = keep(c), type2(relu(type1([type features, kind of type, c])))    "no change", changes of each type
        value   = value2(relu(value1(c)))

    Candidates are the slots that may take the request (zeros where there is none). The kind of a type is the mean, over
    its slots, of the features that tell types apart: roles, GPUs, price. So to exchange two slots exchanges two logits
    and changes nothing else, and the number of slots and of worker types is free.

    One that is advised has the adviser's signals in g, too, and adds ``trust(c)`` to the logit of what is advised, with
    one trust for placements and another for changes of the fleet.
    """

    def __init__(self, shape: Shape, hidden: int = 32) -> None:
        super().__init__(shape, hidden, equivariant_layers(shape, hidden))

    def set_trust(self, trust: float) -> None:
        """Begin with this much trust in the adviser: a logit so much higher than the others."""
        with torch.no_grad():
            for name in trusts(self.shape):
                self._layer(name)[1].fill_(trust)

    def forward(
        self, workers: Tensor, request: Tensor, cluster: Tensor, advice: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (n, actions) and values (n,) of n observations.

        Args:
            workers: (n, slots, 24) float32.
            request: (n, 10).
            cluster: (n, 24 + 5 x types).
            advice: (n, 11), of a network that is advised: number of the action, or -1; signals.
        """
        n, slots, _ = workers.shape
        given = [request, cluster[:, : GLOBAL - REQUEST]]
        if self.shape.advised:
            assert advice is not None, "a network that is advised needs the advice"
            given.append(advice[:, 1:])
        own = torch.cat(given, dim=1)
        encoded = self._encode(workers, own)
        weight, bias = self._layer("context")
        pools = self._pools(workers, encoded.view(n, slots, self.hidden))
        context = torch.relu(functional.linear(torch.cat((pools, own), dim=1), weight, bias))
        parts = []
        if self.shape.places:
            parts.append(self._scores(encoded, context, slots))
        if self.shape.others:
            parts.append(self._linear("others", context))
        if self.shape.scales:
            parts += [self._linear("keep", context), self._changes(workers, cluster, context)]
        value = self._linear("value2", self._relu("value1", context))
        logits = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if advice is not None and self.shape.advised:
            first_change = slots * self.shape.places + self.shape.others
            logits = self._trusting(logits, advice[:, :1].long(), context, first_change)
        return logits, value[:, 0]

    def _trusting(self, logits: Tensor, action: Tensor, context: Tensor, first_change: int) -> Tensor:
        """The logits with the trust added to those of the advised actions, (n, 1); -1: none."""
        trust = torch.cat([self._linear(name, context) for name in trusts(self.shape)], dim=1)
        which = (action >= first_change).long() if trust.shape[1] == 2 else torch.zeros_like(action)
        added = trust.gather(1, which) * (action >= 0)
        return logits.scatter_add(1, action.clamp_min(0), added)

    def _encode(self, workers: Tensor, own: Tensor) -> Tensor:
        """The h of all workers, (n x slots, hidden): the part of ``own`` is computed once for all slots."""
        n, slots, features = workers.shape
        weight, bias = self._layer("worker1")
        shared = functional.linear(own, weight[:, WORKER:], bias)
        first = functional.linear(workers.reshape(n * slots, features), weight[:, :WORKER])
        first = (first.view(n, slots, self.hidden) + shared[:, None, :]).relu_()
        return functional.linear(first.view(n * slots, self.hidden), *self._layer("worker2")).relu_()

    def _pools(self, workers: Tensor, encoded: Tensor) -> Tensor:
        """Means and maxima over the candidates and over all that are not OFF, (n, 4 x hidden).

        ``encoded`` is never negative, so that a maximum over what the mask leaves is that of the product with it.
        """
        found = []
        for member in (workers[:, :, W.can_place], workers[:, :, STATUS].sum(dim=2)):
            share = member / member.sum(dim=1, keepdim=True).clamp_min(1.0)
            found.append(torch.bmm(share[:, None, :], encoded)[:, 0])
            found.append((encoded * member[:, :, None]).amax(dim=1))
        return torch.cat(found, dim=1)

    def _scores(self, encoded: Tensor, context: Tensor, slots: int) -> Tensor:
        """A logit for each slot, (n, slots)."""
        weight, bias = self._layer("score1")
        own = functional.linear(encoded, weight[:, : self.hidden]).view(-1, slots, self.hidden)
        shared = functional.linear(context, weight[:, self.hidden :], bias)
        return self._linear("score2", (own + shared[:, None, :]).relu_()).view(-1, slots)

    def _changes(self, workers: Tensor, cluster: Tensor, context: Tensor) -> Tensor:
        """Logits of the changes of each type, (n, types x 2 x max_change)."""
        n = len(cluster)
        of_types = cluster[:, GLOBAL - REQUEST :].reshape(n, -1, TYPE)
        types = of_types.shape[1]
        kinds = _kinds_of_types(workers, types)
        weight, bias = self._layer("type1")
        known = TYPE + len(KINDS_OF_TYPE)
        own = functional.linear(torch.cat((of_types, kinds), dim=2), weight[:, :known])
        shared = functional.linear(context, weight[:, known:], bias)
        return self._linear("type2", (own + shared[:, None, :]).relu_()).reshape(n, -1)


def _kinds_of_types(workers: Tensor, types: int) -> Tensor:
    """Mean of :data:`KIND` over the slots of each type, (n, types, 4); a slot's features say its type."""
    index = torch.round(workers[:, :, W.type, None] * types) - 1.0
    member = (index == torch.arange(types, dtype=workers.dtype, device=workers.device)).to(workers.dtype)
    share = member / member.sum(dim=1, keepdim=True).clamp_min(1.0)
    return torch.bmm(share.transpose(1, 2), workers[:, :, KIND])


class MlpNet(_Layered):
    """Two layers over the whole observation for the policy, two for the value; the number of slots is fixed."""

    def __init__(self, shape: Shape, slots: int, hidden: int = 64) -> None:
        super().__init__(shape, hidden, mlp_layers(shape, slots, hidden))
        self.slots = slots

    def forward(
        self, workers: Tensor, request: Tensor, cluster: Tensor, advice: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (n, actions) and values (n,); arguments as those of the equivariant network. It is never advised."""
        whole = torch.cat((workers.flatten(1), request, cluster), dim=1)
        logits = self._linear("policy3", self._relu("policy2", self._relu("policy1", whole)))
        value = self._linear("value3", self._relu("value2", self._relu("value1", whole)))
        return logits, value[:, 0]


Net = EquivariantNet | MlpNet


def make_net(network: str, shape: Shape, hidden: int, slots: int | None = None) -> Net:
    """A fresh network, "equivariant" or "mlp"; torch's generator draws its weights."""
    if network == "equivariant":
        return EquivariantNet(shape, hidden)
    if network != "mlp":
        raise InputError("network", network, "choose equivariant or mlp")
    if slots is None:
        raise InputError("slots", None, "an MLP needs the number of worker slots")
    return MlpNet(shape, slots, hidden)


def net_of(card: Card, weights: Mapping[str, NDArray[np.float32]]) -> Net:
    """The network of a checkpoint, to train it further."""
    net = make_net(card.network, card.shape, card.hidden, card.slots)
    load_weights(net, weights)
    return net


def weights_of(net: nn.Module) -> dict[str, NDArray[np.float32]]:
    """A copy of the weights by name, as checkpoints hold them."""
    return {name: tensor.detach().cpu().numpy().astype(np.float32) for name, tensor in net.state_dict().items()}


def sharpen(net: Net, factor: float) -> None:
    """Multiply all logits by ``factor`` > 0: the best action stays the best, and is taken more often (above 1)."""
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.partition(".")[0] in _LOGITS:
                parameter.mul_(factor)


def load_weights(net: Net, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Put ``weights`` into ``net``.

    Raises:
        InputError: an array is missing, too many, or of another size.
    """
    slots = net.slots if isinstance(net, MlpNet) else None
    network = "equivariant" if slots is None else "mlp"
    sizes = weight_sizes(layers_of(network, net.shape, net.hidden, slots))
    check_weights("weights", weights, sizes)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            tensor.copy_(torch.from_numpy(np.array(weights[name], dtype=np.float32)))
