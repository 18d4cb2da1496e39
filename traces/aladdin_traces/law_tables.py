"""Laws as plain tables (for TOML and JSON) and back, without loss."""

import dataclasses
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.arrivals import ARRIVALS
from aladdin_traces.clients import Clients
from aladdin_traces.errors import InputError, inside, suggest
from aladdin_traces.lengths import LENGTH_LAWS, LengthLaw
from aladdin_traces.presets import LENGTHS
from aladdin_traces.request_law import RequestLaw
from aladdin_traces.sessions import Sessions
from aladdin_traces.token_laws import TOKEN_LAWS, TokenLaw

Law = TypeVar("Law", bound=ArrivalProcess | LengthLaw | TokenLaw | RequestLaw)

REQUEST_LAWS: dict[str, type[RequestLaw]] = {law.kind: law for law in (Clients, Sessions)}
"""Laws of whole requests by their name in a workload's table."""

_FAMILIES: dict[type[Any], Mapping[str, type[Any]]] = {
    ArrivalProcess: ARRIVALS,
    LengthLaw: LENGTH_LAWS,
    TokenLaw: TOKEN_LAWS,
    RequestLaw: REQUEST_LAWS,
}
_DISPERSION = "dispersion"


def law_to_table(law: ArrivalProcess | LengthLaw | TokenLaw | RequestLaw) -> dict[str, Any]:
    """Return the kind and all parameters of a law, as numbers, text, lists and tables only."""
    # Every law is a dataclass, which an abstract base class cannot say to the type checker.
    parameters = {f.name: _plain(getattr(law, f.name)) for f in dataclasses.fields(law)}  # type: ignore[arg-type]
    return {"kind": law.kind, **parameters}


def law_from_table(table: object, laws: Mapping[str, type[Law]]) -> Law:
    """Build one of ``laws`` from its table.

    Args:
        table: ``kind`` and the parameters; those with a default may be left out. An arrival law may also have
            ``dispersion``, a table of ``index`` and ``window_s``: see `ArrivalProcess.with_dispersion`.
        laws: The laws allowed here, by kind.

    Raises:
        InputError: No table, an unknown kind or parameter, a missing or a bad one.
    """
    if not isinstance(table, Mapping):
        raise InputError("table", table, f"give a table with a kind ({', '.join(laws)})")
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in laws:
        raise InputError("kind", kind, suggest(str(kind), laws))
    law = laws[kind]
    has_target = issubclass(law, ArrivalProcess) and _DISPERSION in table
    parameters = {name: table[name] for name in table if name != "kind" and not (has_target and name == _DISPERSION)}
    _check_names(parameters, law)
    families = _families_of(law)  # type: ignore[arg-type]  # a type variable is hashable all the same
    built = law(**{name: _law_or_value(name, value, families.get(name)) for name, value in parameters.items()})
    return _with_dispersion(built, table[_DISPERSION]) if has_target else built


def lengths_to_entry(lengths: LengthLaw) -> str | dict[str, Any]:
    """Return the preset's name if the law is one, else its table."""
    name = next((name for name, law in LENGTHS.items() if law == lengths), None)
    return law_to_table(lengths) if name is None else name


def lengths_from_entry(entry: object) -> LengthLaw:
    """Build a joint law of lengths from its table or the name of a preset.

    Raises:
        InputError: No such name, or a bad table.
    """
    if not isinstance(entry, str):
        return law_from_table(entry, LENGTH_LAWS)
    if entry not in LENGTHS:
        raise InputError("name", entry, suggest(entry, LENGTHS))
    return LENGTHS[entry]


def check_known(names: Mapping[str, object], known: list[str]) -> None:
    """Refuse the first key that is not in ``known``.

    Raises:
        InputError: Names the key, its value and the nearest known one.
    """
    for name, value in names.items():
        if name not in known:
            raise InputError(str(name), value, f"there is no such key here; {suggest(str(name), known)}")


def _with_dispersion(law: Any, target: object) -> Any:
    with inside(_DISPERSION):
        if not isinstance(target, Mapping):
            raise InputError("table", target, "give a table with index and window_s")
        check_known(target, ["index", "window_s"])
        if len(target) < 2:
            raise InputError("table", dict(target), "give both index and window_s")
        return law.with_dispersion(target["index"], target["window_s"])


def _check_names(parameters: Mapping[str, object], law: type[Any]) -> None:
    fields = dataclasses.fields(law)
    check_known(parameters, [f.name for f in fields])
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in parameters]
    if missing:
        raise InputError("parameters", ", ".join(parameters) or "none", f"add the missing {', '.join(missing)}")


def _plain(value: object) -> object:
    if isinstance(value, ArrivalProcess | LengthLaw | TokenLaw):
        return law_to_table(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _families_of(law: type[Any]) -> dict[str, type[Any]]:
    """Return which parameters of a law are laws themselves, or tuples of them, and of which family."""
    hints = typing.get_type_hints(law)
    found = {}
    for name in (f.name for f in dataclasses.fields(law)):
        for part in (hints[name], *typing.get_args(hints[name])):
            if part in _FAMILIES:
                found[name] = part
    return found


def _law_or_value(name: str, value: object, family: type[Any] | None) -> object:
    """Turn tables inside a table into laws."""
    if isinstance(value, list):
        return [_law_or_value(f"{name}[{i}]", item, family) for i, item in enumerate(value)]
    if family is not None and (isinstance(value, Mapping) or (family is LengthLaw and isinstance(value, str))):
        with inside(name):
            return lengths_from_entry(value) if family is LengthLaw else law_from_table(value, _FAMILIES[family])
    return value
