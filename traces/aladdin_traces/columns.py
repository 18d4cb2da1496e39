"""Checks of whole columns of numbers, and the types of a trace's columns."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from aladdin_traces import checks
from aladdin_traces.errors import InputError

FloatArray = npt.NDArray[np.float64]
TokenArray = npt.NDArray[np.int32]
ClassArray = npt.NDArray[np.int8]
Labels = pd.Categorical | Sequence[str | None]


def arrival_column(values: npt.ArrayLike) -> FloatArray:
    """Return arrival times, seconds, as a new float64 array.

    Raises:
        InputError: Names the first that is no number, not finite, negative, or before the one above it.
    """
    arrivals = _flat_numbers("arrival_s", values).astype(np.float64)
    _refuse("arrival_s", arrivals, ~np.isfinite(arrivals) | (arrivals < 0), "give finite seconds >= 0")
    goes_back = np.concatenate(([False], arrivals[1:] < arrivals[:-1]))
    _refuse("arrival_s", arrivals, goes_back, "it is before the request above it; sort the requests by arrival")
    return arrivals


def whole_column(name: str, values: npt.ArrayLike, low: int, high: int) -> FloatArray:
    """Return whole numbers from ``low`` to ``high`` (at most 2**53) as a new float64 array.

    Raises:
        InputError: Names the first that is no such number.
    """
    column = _flat_numbers(name, values)
    # float64 holds every int32 exactly, and integers too large for it still compare as too large.
    as_float = column.astype(np.float64)
    in_range = (as_float >= low) & (as_float <= high) & (as_float == np.floor(as_float))
    _refuse(name, column, ~in_range, f"give whole numbers from {low} to {high}")
    return as_float


def label_column(name: str, values: Labels, count: int) -> pd.Categorical:
    """Return names of ``count`` requests, with None and "" as missing; categories go by first appearance.

    Raises:
        InputError: Not ``count`` of them, or one that is no text.
    """
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray | pd.Categorical | pd.Series):
        raise InputError(name, values, "give a flat list of text")
    if len(values) != count:
        raise InputError(name, f"{len(values)} values", f"give as many as arrival_s has ({count})")
    if isinstance(values, pd.Categorical):
        return values
    for index, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise InputError(f"{name}[{index}]", value, "give text, or None where there is no name")
    return factorized(values)


def factorized(values: Iterable[object]) -> pd.Categorical:
    """Return values as names, in the order of their first appearance; None and "" are missing."""
    objects = np.array([None if value in (None, "") else str(value) for value in values], dtype=np.object_)
    codes, names = pd.factorize(objects)
    return pd.Categorical.from_codes(codes, pd.Index(names, dtype=str))


def same_labels(one: pd.Categorical | None, other: pd.Categorical | None) -> bool:
    """Say whether two columns of names hold the same names, however they are coded."""
    if one is None or other is None:
        return one is other
    return bool(np.array_equal(_coded(one), _coded(other)) and np.array_equal(_used(one), _used(other)))


def _coded(labels: pd.Categorical) -> npt.NDArray[np.int64]:
    return np.asarray(pd.factorize(labels.codes)[0])


def _used(labels: pd.Categorical) -> npt.NDArray[np.object_]:
    names = [*map(str, labels.categories), None]  # a missing name has the code -1
    return np.array([names[code] for code in pd.unique(labels.codes).tolist()], dtype=np.object_)


def _flat_numbers(name: str, values: npt.ArrayLike) -> npt.NDArray[np.generic]:
    try:
        column = np.asarray(values)
    except (ValueError, TypeError):
        raise InputError(name, "a nested or ragged list", "give one flat list of numbers") from None
    if column.ndim != 1:
        raise InputError(name, f"array of shape {column.shape}", "give one flat list of numbers")
    if len(column) == 0:
        raise InputError(name, "0 values", "give at least one request")
    return column if column.dtype.kind in "iuf" else _numeric_objects(name, column)


def _numeric_objects(name: str, column: npt.NDArray[np.generic]) -> FloatArray:
    """Convert integers beyond 64 bits, which NumPy keeps as objects; anything else that is no number is refused."""
    for index, value in enumerate(column.tolist()):
        checks.number(f"{name}[{index}]", value)
    return column.astype(np.float64)


def _refuse(name: str, column: npt.NDArray[np.generic], bad: npt.NDArray[np.bool_], mend: str) -> None:
    if bad.any():
        index = int(np.argmax(bad))
        raise InputError(f"{name}[{index}]", column[index], mend)
