"""The columns of a trace file, whatever its container, with errors that say file, line and column."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from aladdin_traces import checks
from aladdin_traces.checks import TOKENS_MAX
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError
from aladdin_traces.prefix import PrefixBlocks

BoolArray = npt.NDArray[np.bool_]

_NANOSECONDS = 1e9
_YEARS = 100


class Table(ABC):
    """Rows of requests with named columns.

    Attributes:
        name: The file, for messages.
        columns: Names of the columns.
        kind: What the container calls a column: "column" or "key".
    """

    name: str
    columns: Sequence[str]
    kind: str = "column"

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def place(self, row: int) -> str:
        """Return where a row stands: ``line 4``."""

    @abstractmethod
    def cell(self, row: int, column: str) -> object:
        """Return one value as it stands in the file."""

    @abstractmethod
    def floats(self, column: str) -> FloatArray:
        """Return a column as numbers, NaN where the value is none."""

    @abstractmethod
    def names(self, column: str) -> pd.Categorical:
        """Return a column as names, missing where the value is empty."""

    @abstractmethod
    def lists(self, column: str) -> Sequence[object]:
        """Return a column of lists."""

    @abstractmethod
    def times(self, column: str) -> "pd.Series[Any]":
        """Return a column of calendar times, or of their text."""

    def elapsed(self, column: str) -> FloatArray:
        """Return a column of calendar times as seconds after its first; a time without a zone is UTC.

        Raises:
            InputError: Names the first line whose value is no time, or is more than a century from the first.
        """
        times = pd.to_datetime(self.times(column), format="ISO8601", utc=True, errors="coerce")
        self.refuse(column, times.isna().to_numpy(), "give a time such as 2023-11-16 18:15:46.6805900")
        years = times.dt.year.to_numpy()
        # int64 nanoseconds reach 292 years
        self.refuse(column, np.abs(years - years[0]) > _YEARS, "give times within one century of the first")
        nanoseconds = (times - times.iloc[0]).dt.as_unit("ns").to_numpy().astype(np.int64)
        elapsed: FloatArray = nanoseconds / _NANOSECONDS
        return elapsed

    def has(self, *aliases: str) -> bool:
        """Say whether the file has one of these columns."""
        return any(alias in self.columns for alias in aliases)

    def called(self, *aliases: str) -> str:
        """Return the first of ``aliases`` that the file has.

        Raises:
            InputError: The file has none of them.
        """
        self.require(aliases)
        return next(alias for alias in aliases if alias in self.columns)

    def require(self, *columns: Sequence[str]) -> None:
        """Check that every column is there, each under one of its aliases.

        Raises:
            InputError: Names all the missing columns and those found.
        """
        missing = [" or ".join(aliases) for aliases in columns if not self.has(*aliases)]
        if missing:
            found = ", ".join(map(str, self.columns))
            raise InputError(f"{self.name} {self.kind}s", found, f"add the missing {', '.join(missing)}")

    def numbers(
        self, *aliases: str, low: float, high: float = np.inf, whole: bool = False, missing: float | None = None
    ) -> FloatArray:
        """Return a column as finite numbers from ``low`` to ``high``.

        Args:
            aliases: Names that the column may have.
            low: Least value.
            high: Greatest value.
            whole: Whether they must be whole numbers.
            missing: Stands for a value that is not there; None refuses it.

        Raises:
            InputError: Names the first line whose value is not such a number.
        """
        if missing is not None and not self.has(*aliases):
            return np.full(len(self), missing)
        column = self.called(*aliases)
        values = self.floats(column)
        good = np.isfinite(values) & (values >= low) & (values <= high)
        if whole:
            good &= values == np.floor(values)
        if missing is not None:
            absent = self.absent(column)
            values = np.where(absent, missing, values)
            good |= absent
        bounds = (f" from {low:g}" if low > -np.inf else "") + (f" up to {high:.0f}" if high < np.inf else "")
        self.refuse(column, ~good, f"give a {'whole number' if whole else 'number'}{bounds}")
        return values

    def tokens(self, *aliases: str, missing: float | None = None) -> FloatArray:
        """Return a column as whole numbers up to the int32 maximum; `Rows` drops and counts those <= 0.

        Raises:
            InputError: Names the first line whose value is not such a number.
        """
        return self.numbers(*aliases, low=-np.inf, high=TOKENS_MAX, whole=True, missing=missing)

    def labels(self, *aliases: str) -> pd.Categorical | None:
        """Return the names in the first of these columns that the file has; None where it has none of them."""
        return self.names(self.called(*aliases)) if self.has(*aliases) else None

    def blocks(self, column: str, block_size: int) -> PrefixBlocks | None:
        """Return the block ids of each row; None where the file has no such column or not one id.

        Raises:
            InputError: Names the first line whose value is no list of ids.
        """
        if not self.has(column):
            return None
        lists: list[Any] = [[] if value is None else value for value in self.lists(column)]
        size = checks.whole("block_size", block_size, low=1, high=TOKENS_MAX)
        ids = _joined_ids(lists)
        if ids is None:
            row = next(row for row, part in enumerate(lists) if _joined_ids([part]) is None)
            raise self.mistake(row, column, "give a list of block ids, whole numbers from 0 to 2**63 - 1")
        offsets = np.concatenate(([0], np.cumsum([len(part) for part in lists], dtype=np.int64)))
        return PrefixBlocks(offsets, ids, size) if len(ids) else None

    def absent(self, column: str) -> BoolArray:
        """Return which rows have no value in the column."""
        return np.array([self.cell(row, column) in (None, "") for row in range(len(self))], dtype=bool)

    def refuse(self, column: str, bad: BoolArray, mend: str) -> None:
        """Raise the error for the first row marked in ``bad``, if there is one.

        Raises:
            InputError: Names file, line, column and value.
        """
        if bad.any():
            raise self.mistake(int(np.argmax(bad)), column, mend)

    def mistake(self, row: int, column: str, mend: str) -> InputError:
        """The error of one value: file, line, column and what stands there."""
        return InputError(f"{self.name} {self.place(row)}, {self.kind} {column}", self.cell(row, column), mend)


def _joined_ids(lists: Sequence[Any]) -> npt.NDArray[np.int64] | None:
    """Return the ids of all lists one after the other; None if something is no list or no id."""
    # type() and not isinstance(): a boolean is no id
    if not all(type(ids) is list and set(map(type, ids)) <= {int} for ids in lists):
        return None
    try:
        joined = np.fromiter(chain.from_iterable(lists), np.int64)
    except OverflowError:
        return None
    return joined if joined.min(initial=0) >= 0 else None
