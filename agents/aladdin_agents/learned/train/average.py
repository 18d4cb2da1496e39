"""The weights that are kept: an average over the last updates, steadier than any of them (Polyak averaging)."""

from __future__ import annotations

import base64
from typing import cast

import numpy as np
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from aladdin_agents.learned.checkpoint import Weights
from aladdin_agents.learned.networks import Net, load_weights, weights_of


class Average:
    """An exponential average of a network's weights.

    Args:
        net: The network that learns.
        decay: Share of the average that an update leaves; 0: the weights themselves.
    """

    def __init__(self, net: Net, decay: float) -> None:
        self._net, self._decay = net, decay
        self.begin()

    def begin(self) -> None:
        """Forget what was: the average is what the network is now."""
        average = get_ema_multi_avg_fn(self._decay)  # type: ignore[no-untyped-call]
        self._kept = AveragedModel(self._net, multi_avg_fn=average)
        self.update()

    def update(self) -> None:
        """Take in the weights after an update."""
        self._kept.update_parameters(self._net)

    def weights(self) -> Weights:
        """The average, as checkpoints hold it."""
        return weights_of(self._kept.module)

    def state(self) -> dict[str, str]:
        """What :meth:`restore` takes, for JSON."""
        return {name: base64.b64encode(array.tobytes()).decode() for name, array in self.weights().items()}

    def restore(self, state: dict[str, str]) -> None:
        """Go on from there."""
        sizes = {name: array.shape for name, array in self.weights().items()}
        given = {name: np.frombuffer(base64.b64decode(text), dtype=np.float32) for name, text in state.items()}
        load_weights(
            cast("Net", self._kept.module), {name: array.reshape(sizes[name]) for name, array in given.items()}
        )
