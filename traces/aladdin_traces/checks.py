"""Checks of single values: each returns the value in its plain Python type or raises `InputError`."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

from aladdin_traces.errors import InputError

TOKENS_MAX = 2**31 - 1
"""Largest token count that fits the int32 arrays."""

REQUESTS_MAX = 1_000_000_000
"""Most requests that one draw may hold (8 GB of arrival times)."""


def number(
    field: str, value: object, *, above: float = -math.inf, low: float = -math.inf, high: float = math.inf
) -> float:
    """Return ``value`` as a finite float with ``value > above`` and ``low <= value <= high``.

    Raises:
        InputError: Not a number (booleans and text are not), not finite, or out of the range.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise InputError(field, value, f"give a number{_range_text(above, low, high)}")
    as_float = _finite_float(value)
    if as_float is None or not (as_float > above and low <= as_float <= high):
        raise InputError(field, value, f"give a finite number{_range_text(above, low, high)}")
    return as_float


def whole(field: str, value: object, *, low: int, high: int) -> int:
    """Return ``value`` as an int with ``low <= value <= high``; a float such as 4.0 is not a whole number here.

    Raises:
        InputError: Not an integer, or out of the range.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise InputError(field, value, f"give a whole number from {low} to {high}")
    return int(value)


def items(field: str, value: object) -> list[object]:
    """Return the elements of a list, tuple or flat array.

    Raises:
        InputError: Anything else, text included, or no element at all.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) == 0:
        raise InputError(field, value, "give a list with at least one element")
    return list(value)


def numbers(field: str, value: object, *, above: float = -math.inf, low: float = -math.inf) -> tuple[float, ...]:
    """Return a list of finite numbers as a tuple; every element is checked as `number` does.

    Raises:
        InputError: Not a list, an empty one, or an element out of the range.
    """
    return tuple(number(f"{field}[{i}]", item, above=above, low=low) for i, item in enumerate(items(field, value)))


def wholes(field: str, value: object, *, low: int, high: int) -> tuple[int, ...]:
    """Return a list of whole numbers as a tuple; every element is checked as `whole` does.

    Raises:
        InputError: Not a list, an empty one, or an element out of the range.
    """
    return tuple(whole(f"{field}[{i}]", item, low=low, high=high) for i, item in enumerate(items(field, value)))


def same_length(field: str, value: Sequence[object], other_field: str, other: Sequence[object]) -> None:
    """Check that two lists have one length.

    Raises:
        InputError: They differ.
    """
    if len(value) != len(other):
        raise InputError(field, f"{len(value)} elements", f"give as many as {other_field} has ({len(other)})")


def _finite_float(value: Real) -> float | None:
    try:
        as_float = float(value)
    except OverflowError:  # an int beyond the range of float64
        return None
    return as_float if math.isfinite(as_float) else None


def _range_text(above: float, low: float, high: float) -> str:
    bounds = []
    if above > -math.inf:
        bounds.append(f"> {above:g}")
    if low > -math.inf:
        bounds.append(f">= {low:g}")
    if high < math.inf:
        bounds.append(f"<= {high:g}")
    return " " + " and ".join(bounds) if bounds else ""
