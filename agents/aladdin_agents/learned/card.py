"""The card of a checkpoint: what it is, where it comes from, and what it has reached."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from aladdin_agents.learned.advice import check_adviser
from aladdin_agents.learned.shape import Shape
from aladdin_env.errors import InputError
from aladdin_env.features import OBSERVATION_VERSION

KINDS = ("placement", "scaling", "joint")
#: What decides: a network, or Aladdin itself as :mod:`aladdin_agents.learned.steered` has it.
NETWORKS = ("equivariant", "mlp", "steered")
_MOST_HIDDEN, _MOST_SLOTS = 4096, 65536


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself.

    Attributes:
        kind: "placement", "scaling" or "joint", as its shape says.
        network: "equivariant" or "steered" (any number of workers and worker types), or "mlp" (as many as it was
            trained on).
        shape: Which outputs it has.
        hidden: Width of its layers, 1 to 4096; 0 of a steered one, which has none.
        adviser: The policy that it is advised by, of registered names; "": by none.
        slots: Worker slots of an MLP; None for an equivariant network.
        observation_version: ``aladdin_env.features.OBSERVATION_VERSION`` of its training.
        scenarios: Names of the scenarios that it was trained on.
        seeds: Seeds of the training.
        steps: Decisions that it was trained on.
        commit: Of the code that trained it.
        versions: Versions of the libraries that did, by name.
        command: The command that makes it again.
        results: What it reached, by name; finite numbers.
        date: Day of the training, as in 2025-01-31.
    """

    kind: str
    network: str
    shape: Shape
    hidden: int
    adviser: str
    slots: int | None
    observation_version: int
    scenarios: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    commit: str
    versions: dict[str, str]
    command: str
    results: dict[str, float]
    date: str

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise InputError("card.network", self.network, f"choose one of {', '.join(NETWORKS)}")
        if self.kind not in KINDS:
            raise InputError("card.kind", self.kind, f"choose one of {', '.join(KINDS)}")
        if self.kind != self.shape.kind:
            raise InputError("card.kind", self.kind, f"its shape is that of {self.shape.kind!r}")
        if self.network == "steered":
            self._check_steered()
        elif not 1 <= self.hidden <= _MOST_HIDDEN:
            raise InputError("card.hidden", self.hidden, f"give 1 to {_MOST_HIDDEN}")
        if (self.slots is None) == (self.network == "mlp"):
            raise InputError("card.slots", self.slots, "give the slots of an MLP, and none for any other")
        if self.slots is not None and not 1 <= self.slots <= _MOST_SLOTS:
            raise InputError("card.slots", self.slots, f"give 1 to {_MOST_SLOTS}")
        if bool(self.adviser) != self.shape.advised:
            raise InputError("card.adviser", self.adviser, "give one if, and only if, its shape is advised")
        if self.adviser:
            check_adviser("card.adviser", self.adviser)
        if self.network == "mlp" and self.adviser:
            raise InputError("card.adviser", self.adviser, "an MLP takes no advice")
        if self.steps < 0:
            raise InputError("card.steps", self.steps, "give 0 or more")
        for name, value in self.results.items():
            if not math.isfinite(value):
                raise InputError(f"card.results.{name}", value, "give a finite number, or leave it out")

    def _check_steered(self) -> None:
        if self.hidden != 0:
            raise InputError("card.hidden", self.hidden, "a steered policy has no layers: give 0")
        if self.shape.holds or self.shape.rejects or self.shape.advised:
            raise InputError("card.shape", self.shape, "a steered policy has no actions of its own, nor an adviser")

    def told(self) -> dict[str, float | str]:
        """How it was made and what it reached, in short: what tables of settings show."""
        return {
            "network": f"{self.network} {self.hidden}" if self.hidden else self.network,
            "scenarios": len(self.scenarios),
            "steps": self.steps,
            "commit": self.commit[:12],
            **{name: value for name, value in self.results.items() if not name.startswith("expert_")},
        }

    def check_version(self, path: object) -> None:
        """Refuse a checkpoint whose observations are not those of this code.

        Raises:
            InputError: names the file and both versions.
        """
        if self.observation_version != OBSERVATION_VERSION:
            raise InputError(
                str(path),
                f"observation version {self.observation_version}",
                f"this version of aladdin-env observes by version {OBSERVATION_VERSION}: train it again"
                + (f" ({self.command})" if self.command else "")
                + ", or install the version that it was trained with"
                + (f" (commit {self.commit})" if self.commit else ""),
            )

    def to_json(self) -> str:
        """The card as JSON text, which :meth:`from_json` reads."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """The card that :meth:`to_json` wrote.

        Raises:
            InputError: no JSON, a field that is missing, unknown, of the wrong type or out of range.
        """
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("card", text, f"give JSON ({error})") from None
        table = _table("card", given, {each.name for each in fields(cls)})
        read = {name: _READERS[name](f"card.{name}", value) for name, value in table.items()}
        return cls(**read)


def _table(field: str, value: Any, names: set[str]) -> dict[str, Any]:
    """A JSON object with exactly these fields."""
    if not isinstance(value, dict):
        raise InputError(field, value, "give a JSON object")
    if missing := sorted(names - value.keys()):
        raise InputError(field, f"no {missing[0]!r}", f"give the fields {', '.join(sorted(names))}")
    if unknown := sorted(value.keys() - names):
        raise InputError(field, unknown[0], f"there is no such field; known are {', '.join(sorted(names))}")
    return value


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(field, value, "give a text")
    return value


def _whole(field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(field, value, "give a whole number")
    return value


def _number(field: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e300:
        raise InputError(field, value, "give a number")
    return float(value)


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(field, value, "give true or false")
    return value


def _slots(field: str, value: Any) -> int | None:
    return None if value is None else _whole(field, value)


def _shape(field: str, value: Any) -> Shape:
    names = {each.name for each in fields(Shape)}
    table = _table(field, value, names)
    read = {
        name: (_whole if name in ("types", "max_change") else _flag)(f"{field}.{name}", table[name]) for name in names
    }
    return Shape(**read)  # type: ignore[arg-type]


def _list(read: Callable[[str, Any], Any]) -> Callable[[str, Any], tuple[Any, ...]]:
    def reader(field: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InputError(field, value, "give a list")
        return tuple(read(field, item) for item in value)

    return reader


def _mapping(read: Callable[[str, Any], Any]) -> Callable[[str, Any], dict[str, Any]]:
    def reader(field: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InputError(field, value, "give a JSON object")
        return {name: read(f"{field}.{name}", item) for name, item in value.items()}

    return reader


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "kind": _text,
    "network": _text,
    "shape": _shape,
    "hidden": _whole,
    "adviser": _text,
    "slots": _slots,
    "observation_version": _whole,
    "scenarios": _list(_text),
    "seeds": _list(_whole),
    "steps": _whole,
    "commit": _text,
    "versions": _mapping(_text),
    "command": _text,
    "results": _mapping(_number),
    "date": _text,
}
