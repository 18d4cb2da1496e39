"""Files of results: CSV that grows row by row, can be gone on with, and is checked when it is read."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aladdin_agents.benchmark.entrants import Entrant
from aladdin_agents.benchmark.rows import COLUMNS, MEASURES, Key, Row, differing
from aladdin_agents.benchmark.scenarios import BENCHMARK, Case
from aladdin_env.errors import InputError
from aladdin_traces.files import whole_file


def read_rows(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
        InputError: it cannot be read, columns are missing, a value is no number, the row is of another version of the
            benchmark or names what that does not have, or comes twice; says where.
    """
    rows, _ = _read(path)
    return rows


def read_files(paths: Sequence[Path]) -> list[Row]:
    """The rows of several files together; equal rows count once.

    Raises:
        InputError: as for :func:`read_rows`; or files that contradict each other.
    """
    found: dict[Key, Row] = {}
    files: dict[tuple[str, str, str], str] = {}
    for path in paths:
        for row in read_rows(path):
            known = found.setdefault(row.key, row)
            if differing(known, row):
                mend = f"another file has other results for it; compare them with: aladdin benchmark verify {path}"
                raise InputError(str(path), "/".join(map(str, row.key)), mend)
            sha256 = files.setdefault((row.split, row.task, row.policy), row.policy_sha256)
            if sha256 != row.policy_sha256:
                raise InputError(str(path), row.policy, "its rows are of several files: give each a name of its own")
    return list(found.values())


class Ledger:
    """A file of rows that grows.

    Attributes:
        rows: What it has, by key.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there; a line that a crash has cut short is removed.

        Raises:
            InputError: as for :func:`read_rows`; or a folder that cannot be written to.
        """
        self._path = path
        self.rows: dict[Key, Row] = {}
        if not path.exists() or path.stat().st_size == 0:
            _check_folder(path)
            self._append([",".join(COLUMNS)])
            return
        rows, is_whole = _read(path)
        self.rows = {row.key: row for row in rows}
        if not is_whole or not _has_our_columns(path):
            with whole_file(path) as temporary:
                temporary.write_text("\n".join([",".join(COLUMNS), *map(_line, rows), ""]), encoding="utf-8")

    def add(self, row: Row) -> None:
        """Write a row; when this returns it is on the disk."""
        self._append([_line(row)])
        self.rows[row.key] = row

    def check_same_files(self, entrants: Iterable[tuple[Case, Entrant]]) -> None:
        """Refuse to mix results of a policy file with those of what the file was before.

        Raises:
            InputError: names the policy.
        """
        now = {(case.split, case.task, one.policy): one.sha256 for case, one in entrants}
        for row in self.rows.values():
            if now.get((row.split, row.task, row.policy), row.policy_sha256) != row.policy_sha256:
                mend = f"{self._path} has results of another file of that name; give another --out"
                raise InputError("--policy", row.policy, mend)

    def _append(self, lines: list[str]) -> None:
        with self._path.open("a", encoding="utf-8", newline="") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _has_our_columns(path: Path) -> bool:
    """Whether a row as we write it can go below; columns are read by their names, in any order."""
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file)) == list(COLUMNS)


def _check_folder(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError("--out", str(path), "give a file in a folder that exists and can be written to")


def _line(row: Row) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(row.texts())
    return out.getvalue()


def _read(path: Path) -> tuple[list[Row], bool]:
    """The rows, and whether the last line is whole; a last line without its end is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("results", str(path), f"give a readable CSV file ({error})") from error
    is_whole = text.endswith("\n")
    try:
        lines = list(csv.reader(io.StringIO(text if is_whole else text[: text.rfind("\n") + 1])))
    except csv.Error as error:
        raise InputError("results", str(path), f"give a readable CSV file ({error})") from error
    if not lines:
        raise InputError(str(path), "an empty file", f"begin it with the columns {', '.join(COLUMNS)}")
    missing = [name for name in COLUMNS if name not in lines[0]]
    if missing:
        raise InputError(str(path), ", ".join(lines[0]), f"add the missing columns: {', '.join(missing)}")
    found: dict[Key, Row] = {}
    for number, values in enumerate(lines[1:], start=2):
        if not values:
            continue
        row = _parsed(f"{path}, line {number}", dict(zip(lines[0], values, strict=False)))
        if row.key in found:
            raise InputError(f"{path}, line {number}", "/".join(map(str, row.key)), "leave out the second row of it")
        found[row.key] = row
    return list(found.values()), is_whole


def _parsed(where: str, values: Mapping[str, str]) -> Row:
    short = [name for name in COLUMNS if name not in values]
    if short:
        raise InputError(where, ", ".join(values.values()), f"give all columns; missing: {', '.join(short)}")
    if values["benchmark"] != BENCHMARK:
        mend = f"this package has the benchmark {BENCHMARK}; use the release that has that version"
        raise InputError(f"{where}: benchmark", values["benchmark"], mend)
    known: dict[str, Any] = {name: _value(where, name, values[name]) for name in COLUMNS}
    row = Row(**known)
    try:
        _ = row.case
    except InputError as error:
        raise InputError(f"{where}: {error.field}", error.value, error.mend) from None
    return row


def _value(where: str, name: str, text: str) -> str | float:
    if name == "seed":
        if not text.isdecimal():
            raise InputError(f"{where}: {name}", text, "give a whole number, 0 or more")
        return int(text)
    if name not in MEASURES:
        return text
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise InputError(f"{where}: {name}", text, "give a finite number, or nothing where it is not known")
    return value
