"""JSON objects as columns."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aladdin_traces.columns import FloatArray, factorized
from aladdin_traces.errors import InputError
from aladdin_traces.tables import Table

NAME_WANTED = "give a name or a number"


class JsonTable(Table):
    """The wanted values of JSON objects, one row per object; an object may lack some.

    Only these values are kept while the objects pass by.
    """

    kind = "key"

    def __init__(self, name: str, objects: Iterable[tuple[str, dict[str, Any]]], keys: Sequence[str]) -> None:
        """Collect the values under ``keys``; a column exists if an object has a value for it.

        Raises:
            InputError: There is no object.
        """
        self.name = name
        columns: dict[str, list[Any]] = {key: [] for key in keys}
        self._places: list[str] = []
        for place, fields in objects:
            self._places.append(place)
            for key, column in columns.items():
                column.append(fields.get(key))
        if not self._places:
            raise InputError(name, "0 rows", "give at least one request")
        self._columns = {key: column for key, column in columns.items() if any(v is not None for v in column)}
        self.columns = list(self._columns)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._places)

    def place(self, row: int) -> str:
        """Return where the object stands."""
        return self._places[row]

    def cell(self, row: int, column: str) -> object:
        """Return the value."""
        return self._columns[column][row]

    def floats(self, column: str) -> FloatArray:
        """Return numbers, also those written as text."""
        values = self._columns[column]
        if set(map(type, values)) <= {int, float}:
            try:
                return np.array(values, dtype=np.float64)
            except OverflowError:  # an integer beyond the range of float64
                pass
        return np.array([_as_float(value) for value in values], dtype=np.float64)

    def names(self, column: str) -> pd.Categorical:
        """Return names.

        Raises:
            InputError: One is no text and no number, or a text that cannot be written.
        """
        values = self._columns[column]
        self.refuse(column, np.array([not is_name(v) for v in values]), NAME_WANTED)
        return factorized(values)

    def lists(self, column: str) -> Sequence[object]:
        """Return the values as they are."""
        return self._columns[column]

    def times(self, column: str) -> "pd.Series[Any]":
        """Return the values as text."""
        return pd.Series([str(value) for value in self._columns[column]])


def is_name(value: object) -> bool:
    """Say whether a JSON value can name something; null is no name, which is allowed.

    Half of a surrogate pair, which JSON lets pass, is no text: nobody could write it.
    """
    if isinstance(value, str):
        return _can_be_written(value)
    return value is None or (not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < math.inf)


def _can_be_written(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan
