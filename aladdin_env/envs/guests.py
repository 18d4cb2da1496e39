"""The policies inside an environment: they decide what the agent does not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from aladdin_env.errors import InputError
from aladdin_env.policy import Kernel, Placement, Scaler, combine, make_policy, make_scaler
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.answers import HOOKS, bad_slot, carry_out_scaling, slot_answered, tell
from aladdin_env.simulator.core import ASK, BAD_ANSWER, BEAT, sync_all
from aladdin_env.simulator.state import World
from aladdin_env.view import ClusterView, RequestView


def find_placement(spec: str | object | None, scenario: Scenario) -> Placement | None:
    """A placement by name or as an object (of a policy that also scales only the placement is taken)."""
    if spec is None:
        return None
    return (make_policy(spec, scenario) if isinstance(spec, str) else combine(spec)).placement


def find_scaler(spec: str | object | None, scenario: Scenario) -> Scaler | None:
    """A scaler by name or as an object; None where the fleet stays as it is."""
    if spec is None or spec == "static":
        return None
    found = make_scaler(spec, scenario) if isinstance(spec, str) else spec
    if not isinstance(found, Scaler):
        raise InputError("scaler", spec, "give a name, or an object with a name and a method scale(view)")
    return found


@dataclass
class Guests:
    """The policies inside one environment.

    Attributes:
        placement: Decides placements, or None: the agent does.
        scaler: Decides at heartbeats, or None: the agent does, or nobody.
    """

    placement: Placement | None
    scaler: Scaler | None

    @classmethod
    def invite(cls, placement: str | object | None, scaler: str | object | None, scenario: Scenario) -> Guests:
        """Find or copy the policies: every environment has its own, but compiled placements, which hold no state."""
        found, grows = find_placement(placement, scenario), find_scaler(scaler, scenario)
        if not isinstance(found, Kernel) and not isinstance(placement, str):
            found = copy.deepcopy(found)
        return cls(found, grows if isinstance(scaler, str) else copy.deepcopy(grows))

    @property
    def kernel(self) -> Kernel | None:
        """The compiled placement, if it is one."""
        return self.placement if isinstance(self.placement, Kernel) else None

    @property
    def needs_python(self) -> bool:
        """Whether the compiled core must come back for them."""
        return self.scaler is not None or (self.placement is not None and self.kernel is None)

    def hooks(self, name: str) -> list[Callable[..., None]]:
        """Bound hooks of this name, the placement's first."""
        return [hook for part in (self.placement, self.scaler) if callable(hook := getattr(part, name, None))]

    @property
    def listens(self) -> bool:
        """Whether anybody wants to hear of events."""
        return any(self.hooks(name) for name in HOOKS)

    def reset(self, scenario: Scenario) -> None:
        """A new episode begins."""
        for hook in self.hooks("reset"):
            hook(scenario)

    def hear(self, world: World, view: ClusterView) -> None:
        """Tell them what has happened since they were last told, in order."""
        tell({name: self.hooks(name) for name in HOOKS}, world, view)

    def serve(self, reason: int, world: World, view: ClusterView) -> None:
        """Decide what the core has come back for, so that it can go on."""
        if reason == BAD_ANSWER:
            raise bad_slot(self.placement.name if self.placement else "", world, view)
        self.hear(world, view)
        control = world.control[0]
        if reason == ASK and self.placement is not None:
            chosen = self.placement.place(view, RequestView(view.requests, int(control["asked"])))
            control["answer"] = slot_answered(self.placement.name, chosen)
        elif reason == BEAT and self.scaler is not None:
            sync_all(world, view.now_s)
            carry_out_scaling(self.scaler.name, self.scaler.scale(view), world)
