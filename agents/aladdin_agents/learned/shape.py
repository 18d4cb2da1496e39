"""What a network decides: which kinds of actions it has an output for. How many workers there are is no part of it."""

from __future__ import annotations

from dataclasses import dataclass

from aladdin_env.envs.spaces import Task
from aladdin_env.errors import InputError

_MOST_TYPES, _MOST_CHANGE = 256, 64


@dataclass(frozen=True)
class Shape:
    """The outputs of a network, in the order of the environments' actions: slots, HOLD, REJECT, changes of the fleet.

    Attributes:
        types: Worker types of the fleet it was made for, 1 to 256.
        places: It has an output for each worker slot.
        scales: It has outputs for "no change" and for the changes of each worker type.
        holds: With ``places``: it has one for HOLD.
        rejects: With ``places``: it has one for REJECT.
        max_change: Most workers of a type that one change starts or stops, 1 to 64.
        advised: It knows what another policy would do (:mod:`aladdin_agents.learned.advice`).
    """

    types: int
    places: bool
    scales: bool
    holds: bool = False
    rejects: bool = False
    max_change: int = 2
    advised: bool = False

    def __post_init__(self) -> None:
        if not self.places and not self.scales:
            raise InputError("shape", "neither places nor scales", "let it decide something")
        if not self.places and (self.holds or self.rejects):
            raise InputError("shape", "HOLD or REJECT without placements", "only what places can hold or reject")
        if not 1 <= self.types <= _MOST_TYPES:
            raise InputError("shape.types", self.types, f"give 1 to {_MOST_TYPES} worker types")
        if not 1 <= self.max_change <= _MOST_CHANGE:
            raise InputError("shape.max_change", self.max_change, f"give 1 to {_MOST_CHANGE} workers")

    @classmethod
    def of(cls, task: Task, types: int, advised: bool = False) -> Shape:
        """The shape for ``task`` on a fleet of ``types`` worker types."""
        holds, rejects = task.places and task.holds, task.places and task.rejects
        return cls(types, task.places, task.scales, holds, rejects, task.max_change, advised)

    @property
    def task(self) -> Task:
        """The task it was made for; ``Actions.of(shape.task, scenario)`` numbers its outputs."""
        return Task(self.places, self.scales, self.holds, self.rejects, self.max_change)

    @property
    def kind(self) -> str:
        """``placement``, ``scaling`` or ``joint``."""
        if self.places:
            return "joint" if self.scales else "placement"
        return "scaling"

    @property
    def others(self) -> int:
        """Outputs between the slots and the changes: HOLD and REJECT."""
        return int(self.holds) + int(self.rejects)

    @property
    def changes(self) -> int:
        """Outputs for the fleet, "no change" included; 0 where nothing is scaled."""
        return self.changes_for(self.types)

    def changes_for(self, types: int) -> int:
        """The same on a fleet of ``types`` worker types."""
        return 1 + types * 2 * self.max_change if self.scales else 0

    def actions(self, slots: int) -> int:
        """Outputs in all on a fleet of ``slots`` worker slots."""
        return (slots if self.places else 0) + self.others + self.changes
