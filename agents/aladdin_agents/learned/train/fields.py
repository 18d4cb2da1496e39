"""Frozen dataclasses from tables, each value checked: what a configuration file is read by."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any

from aladdin_env.errors import InputError, suggest
from aladdin_traces import checks


def number(default: float, low: float, high: float = float("inf")) -> Any:
    """A field for a number from ``low`` to ``high``."""
    return field(default=default, metadata={"low": low, "high": high})


def choice(default: str, known: tuple[str, ...]) -> Any:
    """A field for one of the known texts."""
    return field(default=default, metadata={"known": known})


def by_path(table: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Values by their paths, such as ``learner.clip``."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= by_path(value, f"{where}{name}.") if isinstance(value, dict) else {f"{where}{name}": value}
    return found


def plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """The same with lists for tuples, as TOML has them."""
    whole = {name: list(value) if isinstance(value, tuple) else value for name, value in table.items()}
    return {name: plain(value) if isinstance(value, dict) else value for name, value in whole.items()}


def laid_over(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` laid over ``defaults``, table by table."""
    merged = {**defaults, **given}
    for name, value in defaults.items():
        if isinstance(value, Mapping) and isinstance(given.get(name), Mapping):
            merged[name] = {**value, **given[name]}
    return merged


def read(kind: type, given: object, where: str) -> object:
    """Build the dataclass ``kind`` from its table; ``where`` is the path of the table, with a dot behind.

    Raises:
        InputError: no table, an unknown field (with the nearest known one), a value that the field cannot have.
    """
    if not isinstance(given, Mapping):
        raise InputError(where.rstrip("."), given, "give a table")
    known = {f.name: f for f in fields(kind)}
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{where}{name}", value, f"there is no such field here; {suggest(str(name), known)}")
        values[name] = _value(hints[name], value, f"{where}{name}", known[name].metadata)
    return kind(**values)


def _value(hint: Any, given: object, where: str, limits: Mapping[str, Any]) -> object:
    """One value of the type that ``hint`` says, within its limits."""
    if is_dataclass(hint):
        return read(typing.cast("type", hint), given, f"{where}.")
    if hint is bool:
        if not isinstance(given, bool):
            raise InputError(where, given, "give true or false")
        return given
    if hint is int:
        return checks.whole(where, given, low=int(limits["low"]), high=int(limits["high"]))
    if hint is float:
        return checks.number(where, given, low=limits["low"], high=limits["high"])
    if hint is str:
        return _text(where, given, limits.get("known", ()))
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple):
        raise InputError(where, given, "give a name, or a list of names")
    return tuple(_text(f"{where}[{i}]", name, ()) for i, name in enumerate(names))


def _text(where: str, given: object, known: tuple[str, ...]) -> str:
    if not isinstance(given, str):
        raise InputError(where, given, "give a text in quotes")
    if known and given not in known:
        raise InputError(where, given, suggest(given, known))
    return given
