"""Laws as plain tables (for TOML and JSON) and back, without loss."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.errors import InputError, inside, suggest
from aladdin_traces.lengths import LengthLaw
from aladdin_traces.token_laws import TOKEN_LAWS, TokenLaw

Law = TypeVar("Law", bound=ArrivalProcess | LengthLaw | TokenLaw)


def law_to_table(law: ArrivalProcess | LengthLaw | TokenLaw) -> dict[str, Any]:
    """Return the kind and all parameters of a law, as numbers, text, lists and tables only."""
    # Every law is a dataclass, which an abstract base class cannot say to the type checker.
    parameters = {f.name: _plain(getattr(law, f.name)) for f in dataclasses.fields(law)}  # type: ignore[arg-type]
    return {"kind": law.kind, **parameters}


def law_from_table(table: object, laws: Mapping[str, type[Law]]) -> Law:
    """Build one of ``laws`` from its table.

    Args:
        table: ``kind`` and the parameters; those with a default may be left out.
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
    parameters = {name: value for name, value in table.items() if name != "kind"}
    _check_names(parameters, law)
    return law(**{name: _law_or_value(name, value) for name, value in parameters.items()})


def check_known(names: Mapping[str, object], known: list[str]) -> None:
    """Refuse the first key that is not in ``known``.

    Raises:
        InputError: Names the key, its value and the nearest known one.
    """
    for name, value in names.items():
        if name not in known:
            raise InputError(str(name), value, f"there is no such key here; {suggest(str(name), known)}")


def _check_names(parameters: Mapping[str, object], law: type[Any]) -> None:
    fields = dataclasses.fields(law)
    check_known(parameters, [f.name for f in fields])
    missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in parameters]
    if missing:
        raise InputError("parameters", ", ".join(parameters) or "none", f"add the missing {', '.join(missing)}")


def _plain(value: object) -> object:
    if isinstance(value, TokenLaw):
        return law_to_table(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _law_or_value(name: str, value: object) -> object:
    """Turn tables inside a table into laws; only laws of one length stand inside other laws."""
    if isinstance(value, Mapping):
        with inside(name):
            return law_from_table(value, TOKEN_LAWS)
    if isinstance(value, list):
        return [_law_or_value(f"{name}[{i}]", item) for i, item in enumerate(value)]
    return value
