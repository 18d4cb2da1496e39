"""The forward pass of both networks in NumPy alone: one observation, buffers kept, tens of microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.learned.advice import SIZE
from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import sizes_of
from aladdin_agents.learned.layout import (
    GLOBAL,
    KIND,
    KINDS_OF_TYPE,
    REQUEST,
    STATUS,
    TYPE,
    WORKER,
    check_weights,
    known,
    trusts,
)
from aladdin_agents.learned.shape import Shape
from aladdin_env.errors import InputError
from aladdin_env.features import W, cluster_size

Array = NDArray[np.float32]
_OWN_CLUSTER = GLOBAL - REQUEST
_FLEET = slice(W.type, KIND.stop)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


class Forward:
    """Logits of a checkpoint's network for one observation at a time.

    The same numbers as torch's up to rounding. Not for several threads at once: the buffers are its own.

    Args:
        weights: As :func:`aladdin_agents.learned.checkpoint.load` gives them.
        card: Their card.

    Raises:
        InputError: weights that are not those of the card.
    """

    def __init__(self, weights: Mapping[str, Array], card: Card) -> None:
        if card.network == "steered":
            raise InputError("card.network", "steered", "it has no logits, but a policy (load_policy)")
        check_weights("weights", weights, sizes_of(card))
        self.card = card
        self._weights = dict(weights)
        self._net: _Computed = _Mlp(weights, card) if card.network == "mlp" else _Equivariant(weights, card.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has buffers of its own."""
        return Forward, (self._weights, self.card)

    def logits(self, workers: Array, request: Array, cluster: Array, advice: Array | None = None) -> Array:
        """A logit for each action, (actions,) float32, in a buffer that the next call overwrites.

        Args:
            workers: (slots, 24) float32.
            request: (10,).
            cluster: (24 + 5 x types,).
            advice: (11,), of a network that is advised, see :mod:`aladdin_agents.learned.advice`.

        Raises:
            InputError: sizes that this network cannot take.
        """
        return self._net.logits(workers, request, cluster, advice)


class _Computed(Protocol):
    def logits(self, workers: Array, request: Array, cluster: Array, advice: Array | None) -> Array: ...


class _Mlp:
    """Three layers over the whole observation."""

    def __init__(self, weights: Mapping[str, Array], card: Card) -> None:
        self._layers = [(weights[f"policy{i}.weight"], weights[f"policy{i}.bias"]) for i in (1, 2, 3)]
        self._sizes = ((card.slots, WORKER), (REQUEST,), (cluster_size(card.shape.types),))
        self._input = np.zeros(self._layers[0][0].shape[1], dtype=np.float32)
        self._outputs = [np.zeros(len(bias), dtype=np.float32) for _, bias in self._layers]

    def logits(self, workers: Array, request: Array, cluster: Array, advice: Array | None) -> Array:
        sizes = (workers.shape, request.shape, cluster.shape)
        if sizes != self._sizes:
            mend = f"this MLP takes {self._sizes}: take an equivariant network, or train one for this fleet"
            raise InputError("observation", f"arrays of {sizes}", mend)
        np.concatenate((workers.ravel(), request, cluster), out=self._input)
        values = self._input
        for (weight, bias), out in zip(self._layers, self._outputs, strict=True):
            np.dot(weight, values, out=out)
            out += bias
            if out is not self._outputs[-1]:
                np.maximum(out, _ZERO, out=out)
            values = out
        return values


class _Equivariant:
    """The equations of :class:`aladdin_agents.learned.networks.EquivariantNet`.

    A call into NumPy costs about as much as its arithmetic here, so there are few: layers over the same input are one
    product, their biases a column more for an input that is always 1, and the two pools are taken together.
    """

    def __init__(self, weights: Mapping[str, Array], shape: Shape) -> None:
        self._shape = shape
        h = self._hidden = len(weights["worker1.bias"])
        worker1, context = weights["worker1.weight"], weights["context.weight"]
        self._own = _with_bias(worker1[:, WORKER:], weights["worker1.bias"])
        self._worker1 = _turned(worker1[:, :WORKER])
        self._worker2, self._worker2_bias = _turned(weights["worker2.weight"]), weights["worker2.bias"]
        # the pools in the order of their computation: both means, both maxima
        pools = context[:, : 4 * h].reshape(h, 2, 2, h).transpose(0, 2, 1, 3).reshape(h, 4 * h)
        self._context = _with_bias(np.concatenate((pools, context[:, 4 * h :]), axis=1), weights["context.bias"])
        self._members = np.zeros((WORKER, 2), dtype=np.float32)
        self._members[W.can_place, 0] = self._members[STATUS, 1] = 1.0
        self._heads, self._heads_at = self._stacked(weights)
        if shape.places:
            self._score1 = _turned(weights["score1.weight"][:, :h])
            self._score2, self._score2_bias = weights["score2.weight"][0], weights["score2.bias"][0]
        if shape.scales:
            type1 = weights["type1.weight"]
            self._type1 = _turned(type1[:, :TYPE])
            self._kind1 = _turned(type1[:, TYPE : TYPE + len(KINDS_OF_TYPE)])
            self._type2, self._type2_bias = _turned(weights["type2.weight"]), weights["type2.bias"]
        self._prepare(1, 1)

    def _stacked(self, weights: Mapping[str, Array]) -> tuple[Array, dict[str, slice]]:
        """All layers over the context as one, and which of its outputs are whose."""
        rows, at, first = [], {}, 0
        for name in ("others", "keep", "score1", "type1", *trusts(self._shape)):
            if f"{name}.bias" in weights:
                weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
                rows.append(_with_bias(weight[:, -self._hidden :], bias))
                at[name] = slice(first, first + len(bias))
                first += len(bias)
        return np.concatenate(rows), at

    def _prepare(self, slots: int, types: int) -> None:
        """Buffers for a fleet of this size, and the views of them that a call uses."""
        h, shape = self._hidden, self._shape
        self._slots, self._types = slots, types
        self._known = np.ones(4 * h + known(shape) + 1, dtype=np.float32)  # pools, request, cluster, and 1 for the bias
        self._given = self._known[4 * h :]
        self._mean, self._most = self._known[: 4 * h].reshape(2, 2, h)
        self._shared = np.zeros(h, dtype=np.float32)
        self._first, self._encoded, self._scored = np.zeros((3, slots, h), dtype=np.float32)
        self._member = np.zeros((slots, 2), dtype=np.float32)
        self._masked = np.zeros((slots, 2, h), dtype=np.float32)
        self._count = np.zeros(2, dtype=np.float32)
        self._ones = np.ones(slots, dtype=np.float32)
        self._inner = np.ones(h + 1, dtype=np.float32)  # the context, and 1 for the bias
        self._head = np.zeros(len(self._heads), dtype=np.float32)
        self._of_head = {name: self._head[where] for name, where in self._heads_at.items()}
        self._fleet, self._kinds = b"", np.zeros((types, h), dtype=np.float32)
        single = shape.others + int(shape.scales)  # HOLD, REJECT, "no change": they stand first among the heads too
        last = (slots if shape.places else 0) + single
        self._logits = np.zeros(last - single + shape.others + shape.changes_for(types), dtype=np.float32)
        self._of_slots, self._of_changes = self._logits[: last - single], self._logits[last:].reshape(types, -1)
        self._single, self._of_single = self._head[:single], self._logits[last - single : last]

    def logits(self, workers: Array, request: Array, cluster: Array, advice: Array | None) -> Array:
        if workers.shape[0] != self._slots or cluster.shape[0] != cluster_size(self._types):
            self._fit(workers, request, cluster)
        self._given[:REQUEST] = request
        self._given[REQUEST:GLOBAL] = cluster[:_OWN_CLUSTER]
        if self._shape.advised:
            self._given[GLOBAL:-1] = self._signals(advice)
        self._encode(workers)
        self._pool(workers)
        context = self._inner[:-1]
        np.dot(self._context, self._known, out=context)
        np.maximum(context, _ZERO, out=context)
        np.dot(self._heads, self._inner, out=self._head)
        if self._shape.places:
            self._score()
        self._of_single[:] = self._single
        if self._shape.scales:
            self._change(workers, cluster)
        if self._shape.advised and advice is not None:
            self._trust(int(advice[0]))
        return self._logits

    @staticmethod
    def _signals(advice: Array | None) -> Array:
        if advice is None or advice.shape != (SIZE,):
            raise InputError("advice", advice, f"this network is advised: give ({SIZE},)")
        return advice[1:]

    def _trust(self, action: int) -> None:
        """Add to the logit of the advised action how much the adviser is trusted."""
        if action >= 0:
            scales = not self._shape.places or action >= len(self._of_slots) + self._shape.others
            self._logits[action] += self._of_head["trust_scale" if scales else "trust_place"][0]

    def _fit(self, workers: Array, request: Array, cluster: Array) -> None:
        types = (len(cluster) - _OWN_CLUSTER) // TYPE
        sizes = (workers.shape, request.shape, cluster.shape)
        if types < 1 or not len(workers) or sizes != ((len(workers), WORKER), (REQUEST,), (cluster_size(types),)):
            mend = f"give (slots, {WORKER}), ({REQUEST},) and ({_OWN_CLUSTER} + {TYPE} x types,)"
            raise InputError("observation", f"arrays of {sizes}", mend)
        self._prepare(len(workers), types)

    def _encode(self, workers: Array) -> None:
        """The h of every worker."""
        first, encoded = self._first, self._encoded
        np.dot(self._own, self._given, out=self._shared)
        np.dot(workers, self._worker1, out=first)
        np.add(first, self._shared, out=first)
        np.maximum(first, _ZERO, out=first)
        np.dot(first, self._worker2, out=encoded)
        np.add(encoded, self._worker2_bias, out=encoded)
        np.maximum(encoded, _ZERO, out=encoded)

    def _pool(self, workers: Array) -> None:
        """Means and maxima over the candidates and over all that are not OFF; h is never negative."""
        member, mean = self._member, self._mean
        np.dot(workers, self._members, out=member)
        np.dot(self._ones, member, out=self._count)
        np.maximum(self._count, _ONE, out=self._count)
        np.dot(member.T, self._encoded, out=mean)
        np.divide(mean, self._count[:, None], out=mean)
        np.multiply(self._encoded[:, None, :], member[:, :, None], out=self._masked)
        np.maximum.reduce(self._masked, axis=0, out=self._most)

    def _score(self) -> None:
        """The logits of the slots."""
        scored, out = self._scored, self._of_slots
        np.dot(self._encoded, self._score1, out=scored)
        np.add(scored, self._of_head["score1"], out=scored)
        np.maximum(scored, _ZERO, out=scored)
        np.dot(scored, self._score2, out=out)
        np.add(out, self._score2_bias, out=out)

    def _change(self, workers: Array, cluster: Array) -> None:
        """The logits of the changes of each type."""
        out = self._of_changes
        inner = np.dot(cluster[_OWN_CLUSTER:].reshape(self._types, TYPE), self._type1)
        inner += self._of_kinds(workers)
        inner += self._of_head["type1"]
        np.maximum(inner, _ZERO, out=inner)
        np.dot(inner, self._type2, out=out)
        np.add(out, self._type2_bias, out=out)

    def _of_kinds(self, workers: Array) -> Array:
        """What the kinds of the types add to their layer, (types, hidden); the same as long as the fleet is."""
        fleet = workers[:, _FLEET].tobytes()
        if fleet != self._fleet:
            index = np.rint(workers[:, W.type] * np.float32(self._types)) - _ONE
            member = (np.arange(self._types)[:, None] == index).astype(np.float32)
            share = member / np.maximum(member.sum(axis=1, keepdims=True), _ONE)
            self._kinds = np.dot(np.dot(share, workers[:, KIND]), self._kind1)
            self._fleet = fleet
        return self._kinds


def _with_bias(weight: Array, bias: Array) -> Array:
    """The layer over its inputs and a last one that is always 1."""
    return np.ascontiguousarray(np.concatenate((weight, bias[:, None]), axis=1))


def _turned(weight: Array) -> Array:
    """For inputs as rows."""
    return np.ascontiguousarray(weight.T)
