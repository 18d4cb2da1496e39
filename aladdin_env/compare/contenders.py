"""Who takes part in a comparison: policies by name or by function, and the default list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aladdin_env.errors import InputError
from aladdin_env.policy import Combined, combine, make_policy, placement_names, scaler_names
from aladdin_env.scenario import Scenario

#: The scaler of a bare placement name, and of every placement in the default list, where the fleet scales.
DEFAULT_SCALER = "aladdin"
#: The placement of every scaler in the default list: what most people run.
DEFAULT_PLACEMENT = "least_request"
#: The policy that the others are set against.
REFERENCE = "aladdin"

PolicyMaker = Callable[[Scenario], object]


@dataclass(frozen=True)
class Contender:
    """A policy in a comparison; it travels between processes, so a function must be importable by its name.

    Attributes:
        label: Name in tables and pictures.
        spec: ``placement`` or ``placement+scaler``, or a function that makes a policy for a scenario.
        settings: Settings that its placement and its scaler say they run with, by their names; for people.
    """

    label: str
    spec: str | PolicyMaker
    settings: dict[str, dict[str, Any]] = field(default_factory=dict, compare=False)

    def make(self, scenario: Scenario) -> Combined:
        """A fresh policy for ``scenario``."""
        return make_policy(self.spec, scenario) if isinstance(self.spec, str) else combine(self.spec(scenario))

    @property
    def is_reference(self) -> bool:
        """Whether its placement is Aladdin's, alone or with Aladdin's scaler."""
        return self.label in (REFERENCE, f"{REFERENCE}+{DEFAULT_SCALER}")


def is_scaling(scenario: Scenario) -> bool:
    """Whether the fleet may change."""
    return any(kind.minimum < kind.maximum for kind in scenario.fleet.types)


def settings_of(policy: Combined) -> dict[str, dict[str, Any]]:
    """Settings of both parts by their names, as they tell them (``settings() -> dict``)."""
    found: dict[str, dict[str, Any]] = {}
    for kind, part in (("placement", policy.placement), ("scaler", policy.scaler)):
        if told := settings_of_part(part):
            found[f"{kind} {part.name}"] = told
    return found


def settings_of_part(part: Any) -> dict[str, Any]:
    """Settings that a placement or scaler tells, without its own name."""
    tell = getattr(part, "settings", None)
    told = dict(tell()) if callable(tell) else {}
    return {key: value for key, value in told.items() if value != part.name}


def contenders(scenario: Scenario, specs: Sequence[str | PolicyMaker]) -> list[Contender]:
    """The named policies, each once, made for ``scenario`` to see that they can be.

    Where the fleet scales, a placement that does not scale by itself gets :data:`DEFAULT_SCALER`.

    Raises:
        InputError: an unknown name (with the nearest known one), a scaler for a fixed fleet, a refused scenario.
    """
    found = {made.label: made for made in (_contender(scenario, spec) for spec in specs)}
    if not found:
        raise InputError("policies", "", "name at least one")
    return list(found.values())


def _contender(scenario: Scenario, spec: str | PolicyMaker) -> Contender:
    if not isinstance(spec, str):
        made = combine(spec(scenario))
        return Contender(made.name, spec, settings_of(made))
    placement, plus, scaler = (part.strip() for part in spec.partition("+"))
    name = f"{placement}{plus}{scaler}"
    made = _made(name, scenario)
    if plus and not is_scaling(scenario):
        raise InputError("policy", spec, f"the fleet is fixed: write {placement!r}, or let the fleet scale")
    if not plus and is_scaling(scenario) and not made.scales:
        name = f"{name}+{DEFAULT_SCALER}"
        made = _made(name, scenario)
    return Contender(name, name, settings_of(made))


def _made(name: str, scenario: Scenario) -> Combined:
    try:
        return make_policy(name, scenario)
    except ImportError as error:
        raise InputError("policy", name, f"it cannot be loaded here ({error})") from error


def default_specs(scenario: Scenario) -> list[str]:
    """Every placement once (with the default scaler where the fleet scales) and every scaler once."""
    placements, scalers = placement_names(), scaler_names()
    placements.sort(key=lambda name: name != REFERENCE)
    if not is_scaling(scenario) or not scalers:
        return placements
    usual = DEFAULT_PLACEMENT if DEFAULT_PLACEMENT in placements else REFERENCE
    return placements + [f"{usual}+{name}" for name in scalers if name != DEFAULT_SCALER]


def default_contenders(scenario: Scenario) -> tuple[list[Contender], list[str]]:
    """The default list, and a note for each policy that cannot run here (a missing model or library)."""
    found: dict[str, Contender] = {}
    notes = []
    for spec in default_specs(scenario):
        try:
            made = _contender(scenario, spec)
        except InputError as error:
            notes.append(f"left out {spec}: {error}")
        else:
            found[made.label] = made
    if not found:
        raise InputError("policies", "", "none is installed that fits this scenario")
    return list(found.values()), notes
