"""The action space: what each number means, and a Discrete space that samples allowed actions only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from aladdin_env.features import CLUSTER_FEATURES, LIMIT, REQUEST_FEATURES, TYPE_FEATURES, WORKER_FEATURES
from aladdin_env.scenario import Scenario

Mask = NDArray[np.int8]


@dataclass(frozen=True)
class Task:
    """What the agent decides; what it does not is left to a policy inside, or fixed.

    Attributes:
        places: It chooses a worker for each request.
        scales: It changes the fleet at each heartbeat.
        holds: With ``places``: it may also leave a request in the router's queue (HOLD).
        rejects: With ``places``: it may also turn a request away (REJECT).
        max_change: With ``scales``: most workers of one type to start or stop at a heartbeat.
    """

    places: bool
    scales: bool
    holds: bool = False
    rejects: bool = False
    max_change: int = 2


@dataclass(frozen=True)
class Actions:
    """The numbering of actions: slots, HOLD, REJECT, then changes of the fleet; only the parts that the task has.

    Attributes:
        slots: Worker slots; 0 where the task places nothing.
        holds: Whether HOLD follows the slots.
        rejects: Whether REJECT comes next.
        changes: (n, 2) worker type and workers more or less, the first row "no change"; n = 0 where nothing is scaled.
        type_names: For messages.
    """

    slots: int
    holds: bool
    rejects: bool
    changes: NDArray[np.int64]
    type_names: tuple[str, ...]

    @classmethod
    def of(cls, task: Task, scenario: Scenario) -> Actions:
        """The actions of ``task`` on the fleet of ``scenario``."""
        steps = [d for d in range(-task.max_change, task.max_change + 1) if d != 0]
        names = tuple(kind.name for kind in scenario.fleet.types)
        rows = [(0, 0)] + [(k, d) for k in range(len(names)) for d in steps] if task.scales else []
        changes = np.array(rows, dtype=np.int64).reshape(-1, 2)
        slots = scenario.fleet.slots if task.places else 0
        return cls(slots, task.places and task.holds, task.places and task.rejects, changes, names)

    @property
    def first_change(self) -> int:
        """Number of the action "no change"."""
        return self.slots + int(self.holds) + int(self.rejects)

    @property
    def size(self) -> int:
        """Number of actions."""
        return self.first_change + len(self.changes)

    def name(self, action: int) -> str:
        """What ``action`` does, in words; 0 to ``size`` - 1."""
        if action < self.slots:
            return f"place on slot {action}"
        if self.holds and action == self.slots:
            return "hold"
        if action < self.first_change:
            return "reject"
        kind, more = self.changes[action - self.first_change]
        return f"{more:+d} {self.type_names[kind]}" if more else "no change"


class MaskedDiscrete(spaces.Discrete):
    """``Discrete(n)`` whose ``sample()`` without a mask draws among the actions allowed at this moment.

    So the usual random loop of Gymnasium never names a forbidden action. The first sample after ``seed()`` is one that
    the beginning of an episode allows too: a space is seeded where an episode is to begin, as ``check_env`` does, which
    samples before it resets. A copy or a pickle of the space is a plain ``Discrete(n)``.
    """

    def __init__(self, mask: Mask) -> None:
        """Sample by ``mask`` (n,), which the environment keeps up to date."""
        self._allowed = mask
        self._first = mask.copy()
        self._seeded = False
        super().__init__(len(mask))

    def begin(self) -> None:
        """The mask is that of the first decision of an episode."""
        self._first = self._allowed.copy()
        self._seeded = False

    def seed(self, seed: int | None = None) -> int:
        """Seed the samples (without a seed: as Gymnasium does at the first sample of a space never seeded)."""
        self._seeded = seed is not None
        return super().seed(seed)

    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        """An action allowed now, or by ``mask`` or ``probability`` where one is given."""
        if mask is not None or probability is not None:
            return np.int64(super().sample(mask, probability))
        allowed = self._allowed
        if self._seeded:
            both = self._first & allowed
            allowed = both if both.any() else self._first
            self._seeded = False
        choices = np.flatnonzero(allowed)
        return np.int64(choices[self.np_random.integers(len(choices))])

    def __reduce__(self) -> tuple[Any, ...]:
        return spaces.Discrete, (int(self.n),)


class MaskedMultiDiscrete(spaces.MultiDiscrete):
    """The batched :class:`MaskedDiscrete` of a vector environment; copies and pickles as a plain ``MultiDiscrete``."""

    def __init__(self, masks: Mask) -> None:
        """Sample by ``masks`` (environments, n), which the environment keeps up to date."""
        super().__init__(np.full(masks.shape[0], masks.shape[1]))
        self._allowed = masks

    def sample(self, mask: Any = None, probability: Any = None) -> NDArray[np.int64]:
        """Actions allowed now, or by ``mask`` or ``probability`` where one is given."""
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        drawn: NDArray[np.int64] = np.argmax(self.np_random.random(self._allowed.shape) * self._allowed, axis=1)
        return drawn

    def __reduce__(self) -> tuple[Any, ...]:
        return spaces.MultiDiscrete, (self.nvec,)


def observation_sizes(scenario: Scenario) -> dict[str, int]:
    """Length of each flat array of an observation but the mask."""
    types, slots = len(scenario.fleet.types), scenario.fleet.slots
    return {
        "workers": slots * len(WORKER_FEATURES),
        "request": len(REQUEST_FEATURES),
        "cluster": len(CLUSTER_FEATURES) + len(TYPE_FEATURES) * types,
    }


def observation_space(scenario: Scenario, actions: Actions) -> spaces.Space[dict[str, NDArray[Any]]]:
    """The space of one environment; ``workers`` is the table (slots x features) row after row."""
    boxes: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(-LIMIT, LIMIT, (size,), np.float32) for name, size in observation_sizes(scenario).items()
    }
    return cast(
        "spaces.Space[dict[str, NDArray[Any]]]", spaces.Dict(boxes | {"mask": spaces.MultiBinary(actions.size)})
    )
