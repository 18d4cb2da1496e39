"""Compiled placements whose parameters have names, and what they need to know of worker types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_env.policy import Kernel, kernel_from
from aladdin_env.scenario import Scenario, WorkerType
from aladdin_env.view import ClusterView, RequestView

Settings = dict[str, float | str]

# The request by which worker types are compared: a conversation, as in the public traces.
_REFERENCE_PROMPT, _REFERENCE_OUTPUT, _REFERENCE_BATCH = 512, 256, 32


@dataclass(frozen=True)
class TunableKernel(Kernel):
    """A compiled placement that can say what it runs with.

    Attributes:
        parameters: Names and values of the parameters, in the order in which they begin the kernel's memory.
    """

    parameters: Mapping[str, float] = field(default_factory=dict)
    _asked: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls, kernel: Kernel, parameters: Mapping[str, float] | None = None, more: NDArray[np.float64] | None = None
    ) -> TunableKernel:
        """``kernel`` with ``parameters`` at the head of its memory and ``more`` behind them."""
        named = dict(parameters or {})
        head = np.array(list(named.values()), dtype=np.float64)
        memory = np.concatenate([head, np.zeros(0) if more is None else more])
        return cls(kernel.name, kernel.function, kernel.needs_progress, memory, named)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_asked", self.memory.copy())

    def __deepcopy__(self, memo: dict[int, Any]) -> TunableKernel:
        """Compiled code is shared; what was remembered when asked from Python is not."""
        return replace(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as a kernel is, with its parameters."""
        _, arguments = super().__reduce__()
        return _tunable_from, (arguments, dict(self.parameters))

    def reset(self, scenario: Scenario) -> None:
        """Forget what was remembered when asked from Python; called at the start of an episode."""
        self._asked[:] = self.memory

    def place(self, view: ClusterView, request: RequestView) -> int:
        """One decision from Python, with a memory of its own.

        That of the view belongs to the policy that runs the episode, which need not be this one: a policy in Python may
        ask several compiled ones.
        """
        return self.place_with(self._asked, view, request)

    def settings(self) -> Settings:
        """The parameters by name."""
        return {"policy": self.name, **self.parameters}


def _tunable_from(arguments: tuple[Any, ...], parameters: dict[str, float]) -> TunableKernel:
    kernel = kernel_from(*arguments)
    return TunableKernel(kernel.name, kernel.function, kernel.needs_progress, kernel.memory, parameters)


def seconds_per_request(kind: WorkerType) -> float:
    """Seconds that a worker of this type spends on one reference request in a full batch (our reconstruction).

    ``prefill(512) + 256 decode(b, b * 640) / b`` with b = 32, or ``max_num_seqs`` if that is less; only the part of its
    role under ``split``. The inverse is what fleets of several types are weighed by.
    """
    profile = kind.latency
    batch = min(_REFERENCE_BATCH, kind.max_num_seqs)
    context = batch * (_REFERENCE_PROMPT + _REFERENCE_OUTPUT / 2)
    prefill = 0.0 if kind.role == "decode" else profile.prefill_s(_REFERENCE_PROMPT)
    decode = 0.0 if kind.role == "prefill" else _REFERENCE_OUTPUT * profile.decode_s(batch, context) / batch
    return prefill + decode


def type_weights(scenario: Scenario) -> NDArray[np.float64]:
    """Cost of a unit of load on each worker type: 1 for the fastest of its role, more for slower ones."""
    seconds = np.array([seconds_per_request(kind) for kind in scenario.fleet.types])
    roles = np.array([kind.role for kind in scenario.fleet.types])
    return np.array([own / seconds[roles == role].min() for own, role in zip(seconds, roles, strict=True)])
