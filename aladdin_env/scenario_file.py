"""Scenarios as TOML files, in and out without loss.

A file has the names of the dataclasses of :mod:`aladdin_env.scenario`: a table for each of them, ``[[fleet.types]]``
for the worker types. What has a default may be left out. ``"none"`` stands for None where that is not the default. A
worker's ``profile`` is the name of a shipped one, the path of a JSON file, or a table with the whole profile. A
workload is the table of :meth:`aladdin_traces.Workload.to_dict`. Relative paths start at the folder of the TOML file.
"""

from __future__ import annotations

import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import tomli_w

from aladdin_env.errors import InputError, suggest
from aladdin_env.latency import LatencyProfile, load_profile, profile_names
from aladdin_env.scenario import Scenario
from aladdin_traces import Workload, inside
from aladdin_traces.files import whole_file

NONE = "none"


def read_scenario(path: str | Path) -> Scenario:
    """Read a scenario from a TOML file.

    Raises:
        InputError: no such file, no TOML, an unknown key (with the nearest known one), a missing key, a value of the
            wrong type or out of its range. The field is the path of the key, such as ``fleet.types[0].initial``.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("scenario file", str(path), f"give a readable TOML file ({error})") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError("scenario file", str(path), f"mend its TOML: {error}") from error
    return scenario_from_dict(table, Path(path).parent)


def write_scenario(scenario: Scenario, path: str | Path) -> None:
    """Write a scenario to a TOML file, from which :func:`read_scenario` makes an equal one.

    A trace at or below the file's folder is stored relative to it, any other by its absolute path.
    """
    text = tomli_w.dumps(scenario_to_dict(scenario, Path(path).parent), indent=2)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def scenario_to_dict(scenario: Scenario, folder: str | Path = ".") -> dict[str, Any]:
    """The scenario as tables, lists, texts and numbers; ``folder`` is where relative paths start."""
    return _table(scenario, Path(folder).absolute())


def scenario_from_dict(table: Mapping[str, Any], folder: str | Path = ".") -> Scenario:
    """The scenario of such tables; see :func:`read_scenario` for what it refuses."""
    found = _read(Scenario, table, "", Path(folder).absolute())
    assert isinstance(found, Scenario)
    return found


# --- out ---


def _table(part: Any, folder: Path) -> dict[str, Any]:
    """A dataclass as a table: single values first, then the tables, so that TOML reads from top to bottom."""
    found: dict[str, Any] = {}
    for f in fields(part):
        value = getattr(part, f.name)
        if value is not None:
            found[f.name] = _plain(value, folder)
        elif f.default is not None:
            found[f.name] = NONE
    return dict(sorted(found.items(), key=lambda item: _is_table(item[1])))


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _plain(value: Any, folder: Path) -> Any:
    if isinstance(value, Workload):
        return _workload_table(value, folder)
    if isinstance(value, LatencyProfile):
        shipped = value.name in profile_names() and load_profile(value.name) == value
        return value.name if shipped else value.to_dict()
    if is_dataclass(value):
        return _table(value, folder)
    if isinstance(value, tuple):
        return [_plain(item, folder) for item in value]
    if isinstance(value, bool | str):
        return value
    # numpy's numbers print as "np.float64(...)": make plain ones
    return int(value) if isinstance(value, Integral) else float(value)


def _workload_table(workload: Workload, folder: Path) -> dict[str, Any]:
    table = workload.to_dict()
    if "file" in table:
        path = Path(table["file"]).absolute()
        table["file"] = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
    return table


# --- in ---


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read(kind: type, given: object, where: str, folder: Path) -> object:
    """Build the dataclass ``kind`` from its table."""
    if not isinstance(given, Mapping):
        raise InputError(where or "scenario", given, "give a table")
    known: dict[str, Field[Any]] = {f.name: f for f in fields(kind)}
    for key, value in given.items():
        if key not in known:
            raise InputError(_path(where, key), value, f"there is no such key here; {suggest(str(key), known)}")
    for name, f in known.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise InputError(_path(where, name), None, "add this key: it is missing")
    hints = _hints(kind)
    values = {name: _value(hints[name], value, _path(where, name), folder) for name, value in given.items()}
    with _at(where, known):
        return kind(**values)


def _path(where: str, name: str) -> str:
    return f"{where}.{name}" if where else str(name)


@contextmanager
def _at(where: str, known: Mapping[str, object]) -> Iterator[None]:
    """Give the errors of a dataclass's own checks the path of the key in the file."""
    try:
        yield
    except InputError as error:
        name = error.field.split(": ")[-1].split(".")[-1]
        if name not in known:
            raise
        raise InputError(_path(where, name), error.value, error.mend) from None


def _value(hint: Any, given: object, where: str, folder: Path) -> object:
    """One value of the type that ``hint`` says."""
    if hint is Workload:
        return _workload(given, where, folder)
    if LatencyProfile in typing.get_args(hint):
        return _profile(given, where, folder)
    if isinstance(hint, types.UnionType):  # X | None is the only other union of a scenario
        (inner,) = (option for option in typing.get_args(hint) if option is not type(None))
        return None if given == NONE else _value(inner, given, where, folder)
    if typing.get_origin(hint) is tuple:
        if not isinstance(given, list | tuple):
            raise InputError(where, given, "give a list")
        (inner, _) = typing.get_args(hint)
        return tuple(_value(inner, item, f"{where}[{i}]", folder) for i, item in enumerate(given))
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _read(hint, given, where, folder)
    return _single(hint, given, where)


def _single(hint: Any, given: object, where: str) -> object:
    if hint is str:
        if not isinstance(given, str):
            raise InputError(where, given, "give a text in quotes")
        return given
    if hint is bool:
        if not isinstance(given, bool):
            raise InputError(where, given, "give true or false")
        return given
    if isinstance(given, bool) or not isinstance(given, Integral if hint is int else Real):
        raise InputError(where, given, "give a whole number" if hint is int else "give a number")
    return hint(given)


def _profile(given: object, where: str, folder: Path) -> LatencyProfile:
    if isinstance(given, Mapping):
        with inside(where):
            return LatencyProfile.from_dict(given)
    if not isinstance(given, str):
        raise InputError(where, given, "give the name of a shipped profile, the path of a JSON file, or a table")
    if given.endswith(".json"):
        with inside(where):
            return load_profile(folder / given)
    if given not in profile_names():
        raise InputError(where, given, suggest(given, profile_names()))
    return load_profile(given)


def _workload(given: object, where: str, folder: Path) -> Workload:
    if not isinstance(given, Mapping | str):
        raise InputError(where, given, "give a table with arrivals and lengths, or with file, or a workload's name")
    table = {"preset": given} if isinstance(given, str) else dict(given)
    if "file" in table:
        if not isinstance(table["file"], str):
            raise InputError(f"{where}.file", table["file"], "give the path of a trace in quotes")
        table["file"] = (folder / table["file"]).as_posix()
    try:
        return Workload.from_dict(table)
    except InputError as error:
        key = error.field.split(".")[0].split("[")[0]
        if key not in table:  # it is the workload as a whole, or a place in the trace's file
            raise
        raise InputError(f"{where}.{error.field}", error.value, error.mend) from None
