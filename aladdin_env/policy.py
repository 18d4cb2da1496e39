"""The Policy protocol, compiled placement kernels, and the registry of policies by entry point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numba
import numpy as np
from numpy.typing import NDArray

from aladdin_env.compiled import fingerprinted_cache
from aladdin_env.errors import InputError, suggest
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.core import KERNEL_SIGNATURE
from aladdin_env.simulator.state import HOLD, REJECT
from aladdin_env.view import ClusterView, RequestView

__all__ = [
    "HOLD", "REJECT", "Kernel", "Placement", "Policy", "Scaler", "combine", "make_policy", "make_scaler",
    "placement_kernel", "placement_names", "scaler_names",
]  # fmt: skip

#: Wanted workers per type, in the fleet's order; None leaves the fleet as it is.
ScaleDecision = Sequence[int] | None


@runtime_checkable
class Placement(Protocol):
    """Decides where a request goes.

    Optional hooks, called in the order of events and before the next decision where they exist:
    ``reset(scenario)``, ``on_first_token(view, request, time_s)``, ``on_finish(view, request, time_s)``,
    ``on_worker_lost(view, slot, time_s)``.
    """

    name: str

    def place(self, view: ClusterView, request: RequestView) -> int:
        """A slot among ``view.candidates(request)``, HOLD (-1) or REJECT (-2)."""
        ...


@runtime_checkable
class Scaler(Protocol):
    """Decides how many workers of each type should run. The same optional hooks as :class:`Placement`."""

    name: str

    def scale(self, view: ClusterView) -> ScaleDecision:
        """Called at every heartbeat."""
        ...


class Policy(Placement, Scaler, Protocol):
    """Both decisions. What the simulator, the environments and the bridge run."""


@dataclass(frozen=True)
class Kernel:
    """A compiled placement: a ``numba.cfunc`` over the public arrays and the settings it runs with.

    Attributes:
        name: Name of the policy.
        function: The compiled function; see :func:`placement_kernel`.
        needs_progress: Whether the core must bring steps, context and KV of all workers up to date before each call
            (costs about 20 ns per worker).
        memory: Initial content of the kernel's own float64 memory: parameters first, then what it wants to remember.
    """

    name: str
    function: Any
    needs_progress: bool = False
    memory: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __deepcopy__(self, memo: dict[int, Any]) -> Kernel:
        """Compiled code is shared; nothing else of a kernel changes."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by the place of its function, which must be at the top of a module."""
        plain = self.function.__wrapped__
        return kernel_from, (plain.__module__, plain.__qualname__, self.name, self.needs_progress, self.memory)

    def with_memory(self, *values: float, name: str | None = None) -> Kernel:
        """The same kernel with other parameters."""
        return Kernel(name or self.name, self.function, self.needs_progress, np.array(values, dtype=np.float64))

    def place(self, view: ClusterView, request: RequestView) -> int:
        """One decision from Python, with the same compiled code (its memory is the view's)."""
        return self.place_with(view._world.memory, view, request)

    def place_with(self, memory: NDArray[np.float64], view: ClusterView, request: RequestView) -> int:
        """The same with a memory of the caller's, as long as the kernel's own."""
        return int(self.bound_to(memory, view)(request.index))

    def bound_to(self, memory: NDArray[np.float64], view: ClusterView) -> Callable[[int], int]:
        """The compiled code over the arrays of a view, given a request's index: for whoever asks often."""
        w = view._world
        entry = _entry(self.function)
        return partial(entry, w.workers, w.requests, w.cluster, w.types, w.laws, w.slo, w.lengths, memory)


def kernel_from(module: str, qualname: str, name: str, needs_progress: bool, memory: NDArray[np.float64]) -> Kernel:
    """The kernel that was pickled, with the function that its module has compiled."""
    found = getattr(import_module(module), qualname)
    return Kernel(name, found.function, needs_progress, memory)


@cache
def _entry(function: Any) -> Any:
    """The way from Python into a kernel, which is a constant of it: as an argument it would cost ten times as much."""

    @numba.njit  # type: ignore[untyped-decorator]
    def entry(
        workers: Any, requests: Any, cluster: Any, types: Any, laws: Any, slo: Any, lengths: Any, memory: Any, r: int
    ) -> int:
        return function(workers, requests, cluster, types, laws, slo, lengths, memory, r)  # type: ignore[no-any-return]

    return entry


def placement_kernel(
    name: str, *, needs_progress: bool = False, memory: Sequence[float] = ()
) -> Callable[[Callable[..., int]], Kernel]:
    """Make a compiled placement policy of a function that numba can compile.

    The function takes ``(workers, requests, cluster, types, laws, slo, lengths, memory, r)``: the public arrays of
    :mod:`aladdin_env.simulator.state`, its own ``memory`` (float64, kept between calls) and the index of the request;
    it returns a slot for which ``can_place(workers, requests, slot, r)`` holds, HOLD or REJECT. It must not write to
    anything but ``memory``. Random numbers: ``requests[r].coin``.
    """

    def make(function: Callable[..., int]) -> Kernel:
        on_disk = Path(function.__code__.co_filename).exists()  # not so in a shell or a notebook
        with fingerprinted_cache(function):
            make_function = numba.cfunc(KERNEL_SIGNATURE, cache=on_disk, error_model="numpy", _nrt=False)
            compiled_function = make_function(function)
        return Kernel(name, compiled_function, needs_progress, np.array(memory, dtype=np.float64))

    return make


class _Keep:
    """The scaler that never changes anything."""

    name = "static"

    def scale(self, view: ClusterView) -> ScaleDecision:
        return None


@dataclass
class Combined:
    """A placement and a scaler as one policy; hooks reach both."""

    placement: Placement
    scaler: Scaler = field(default_factory=_Keep)

    @property
    def name(self) -> str:
        """``placement`` or ``placement+scaler``."""
        alone = isinstance(self.scaler, _Keep) or id(self.scaler) == id(self.placement)  # one object does both
        return self.placement.name if alone else f"{self.placement.name}+{self.scaler.name}"

    @property
    def kernel(self) -> Kernel | None:
        """The compiled placement, if it is one."""
        return self.placement if isinstance(self.placement, Kernel) else None

    @property
    def scales(self) -> bool:
        """Whether heartbeats need a call."""
        return not isinstance(self.scaler, _Keep)

    def place(self, view: ClusterView, request: RequestView) -> int:
        """The placement's answer."""
        return self.placement.place(view, request)

    def scale(self, view: ClusterView) -> ScaleDecision:
        """The scaler's answer."""
        return self.scaler.scale(view)

    def hooks(self, name: str) -> list[Callable[..., None]]:
        """The bound hooks of this name, placement first."""
        parts = (self.placement, self.scaler)
        return [getattr(part, name) for part in parts if callable(getattr(part, name, None))]


def combine(policy: object) -> Combined:
    """Anything that places, or places and scales, as a :class:`Combined`."""
    if isinstance(policy, Combined):
        return policy
    if isinstance(policy, Placement):
        return Combined(policy, policy) if isinstance(policy, Scaler) else Combined(policy)
    raise InputError("policy", policy, "give a name, or an object with a name and a method place(view, request)")


@cache
def _registry(group: str) -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=group)}


def placement_names() -> list[str]:
    """Registered placements (entry-point group ``aladdin.policies``)."""
    return sorted(_registry("aladdin.policies"))


def scaler_names() -> list[str]:
    """Registered scalers (entry-point group ``aladdin.scalers``)."""
    return sorted(_registry("aladdin.scalers"))


def _make(group: str, kind: str, name: str, scenario: Scenario) -> Any:
    """By name, or from a file whose ending has an entry point in ``aladdin.checkpoints``."""
    known = _registry(group)
    if name in known:
        factory = known[name].load()
        return factory(scenario)
    reader = _registry("aladdin.checkpoints").get(Path(name).suffix.removeprefix("."))
    if reader is None:
        raise InputError(kind, name, suggest(name, sorted(known)))
    return reader.load()(name, scenario)


def make_scaler(name: str, scenario: Scenario) -> Scaler:
    """A scaler by name, or the path of a checkpoint, made for ``scenario``.

    Raises:
        InputError: an unknown name, a file that cannot be used, or that only places.
    """
    made: Scaler = _make("aladdin.scalers", "scaler", name, scenario)
    if isinstance(made, Combined):
        return made.scaler
    if isinstance(made, Placement) and not isinstance(made, Scaler):
        raise InputError("scaler", name, "it only places: give one that scales")
    return made


def make_policy(spec: str, scenario: Scenario) -> Combined:
    """A policy by name: ``placement`` or ``placement+scaler``, made for ``scenario``.

    Either part may be the path of a checkpoint (without a ``+`` in it). An entry point of ``aladdin.policies`` or
    ``aladdin.scalers`` is a callable that takes the scenario and returns a :class:`Placement` or a :class:`Scaler`; one
    of ``aladdin.checkpoints``, named after the ending of its files, takes a path and the scenario.

    Raises:
        InputError: unknown name, with the nearest known one; a file that cannot be used, or that does not place.
    """
    placement, plus, scaler = (part.strip() for part in spec.partition("+"))
    made = _make("aladdin.policies", "placement policy", placement, scenario)
    if isinstance(made, Scaler) and not isinstance(made, Placement):
        raise InputError("placement policy", placement, f"it only scales: write PLACEMENT+{placement}")
    both = combine(made)
    return Combined(both.placement, make_scaler(scaler, scenario)) if plus else both
