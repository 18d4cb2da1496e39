"""CSV files: typed columns by pyarrow where all is in order, text cells with line numbers where something is not.

A quoted cell that contains a line break would shift the line numbers after it; none of the formats has such cells.
"""

import io
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from aladdin_traces.columns import FloatArray, factorized
from aladdin_traces.errors import InputError
from aladdin_traces.source import Source
from aladdin_traces.tables import BoolArray, Table


class ArrowTable(Table):
    """Typed columns, as pyarrow reads them from CSV or Parquet."""

    def __init__(self, name: str, table: pa.Table) -> None:
        """Wrap a table."""
        self.name = name
        self.columns = table.column_names
        self._table = table

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._table.num_rows)

    def place(self, row: int) -> str:
        """Return the number of the row, from 1."""
        return f"row {row + 1}"

    def cell(self, row: int, column: str) -> object:
        """Return the value."""
        return _without_bytes(self._table.column(column)[row].as_py())

    def floats(self, column: str) -> FloatArray:
        """Return the numbers of a numeric column; all NaN for any other."""
        values = self._table.column(column)
        if not _is_numeric(values.type):
            return np.full(len(self), np.nan)
        # a null becomes NaN, and so does no number
        return np.array(values.to_numpy(), dtype=np.float64)

    def names(self, column: str) -> pd.Categorical:
        """Return the names: dictionary codes, without a Python object per row.

        Raises:
            InputError: The column holds something else than text or numbers.
        """
        values = self._table.column(column)
        if pa.types.is_floating(values.type):
            self.refuse(column, ~pc.is_finite(values).fill_null(True).to_numpy(), "give a name or a number")
        coded = None if pa.types.is_boolean(values.type) else _coded_text(values)
        if coded is None:
            raise InputError(f"{self.name} column {column}", str(values.type), "give a column of text")
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        names = coded.dictionary.to_pylist()
        if "" in names:
            return factorized(np.array([*names, None], dtype=np.object_)[codes])
        return pd.Categorical.from_codes(codes, pd.Index(names, dtype=str))

    def lists(self, column: str) -> Sequence[object]:
        """Return lists of a list column, or those written as numbers with spaces between."""
        return [_spaced_ids(value) for value in self._table.column(column).to_pylist()]

    def times(self, column: str) -> "pd.Series[Any]":
        """Return timestamps, or the text of what is none."""
        values = self._table.column(column)
        if pa.types.is_timestamp(values.type):
            stamps: pd.Series[Any] = values.to_pandas(use_threads=False)
            return stamps
        return pd.Series([str(_without_bytes(value)) for value in values.to_pylist()], dtype=object)

    def absent(self, column: str) -> BoolArray:
        """Return which rows are null."""
        return np.array(self._table.column(column).is_null().to_numpy(), dtype=bool)


class CsvTable(Table):
    """A CSV file, parsed by name: as typed columns if all the wanted numbers are numbers, else as text cells."""

    def __init__(self, source: Source, numbers: Sequence[str], labels: Sequence[str] = ()) -> None:
        """Parse the wanted columns; those that the file lacks are passed over here.

        Args:
            source: The file.
            numbers: Columns of numbers or times.
            labels: Columns to keep as text.

        Raises:
            InputError: A row has more cells than the header, a name is there twice, or there is no row.
        """
        self.name = source.name
        self._source = source
        self.columns = source.columns
        twice = next((name for i, name in enumerate(self.columns) if name in self.columns[:i]), None)
        if twice is not None:
            raise InputError(f"{self.name} columns", twice, "the header has this name twice; rename one")
        self._typed = _typed_columns(source, numbers, labels)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._cells) if self._typed is None else len(self._typed)

    def place(self, row: int) -> str:
        """Return the line, from 1."""
        return f"line {self._cells.index[row]}"

    def cell(self, row: int, column: str) -> object:
        """Return the text of the cell."""
        return self._cells[column].iloc[row]

    def floats(self, column: str) -> FloatArray:
        """Return numbers."""
        if self._typed is not None:
            return self._typed.floats(column)
        return np.array(pd.to_numeric(self._cells[column], errors="coerce"), dtype=np.float64)

    def names(self, column: str) -> pd.Categorical:
        """Return names."""
        return factorized(self._cells[column].to_numpy()) if self._typed is None else self._typed.names(column)

    def lists(self, column: str) -> Sequence[object]:
        """Return lists of numbers that stand in a cell with spaces between."""
        return [_spaced_ids(text) for text in self._cells[column]] if self._typed is None else self._typed.lists(column)

    def times(self, column: str) -> "pd.Series[Any]":
        """Return timestamps or text cells."""
        return self._cells[column] if self._typed is None else self._typed.times(column)

    def absent(self, column: str) -> BoolArray:
        """Return which cells are empty; typed columns have none that are."""
        if self._typed is not None:
            return np.zeros(len(self), dtype=bool)
        return np.array(self._cells[column] == "", dtype=bool)

    @cached_property
    def _cells(self) -> pd.DataFrame:
        return _text_cells(self._source)


def _without_bytes(value: object) -> object:
    """Return the text of a binary cell, and any other value as it is."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _coded_text(values: Any) -> Any | None:
    """Return a column as dictionary-coded text, or nothing where that cannot be."""
    try:
        return values.cast(pa.string()).combine_chunks().dictionary_encode()
    except pa.ArrowException:
        return None


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _typed_columns(source: Source, numbers: Sequence[str], labels: Sequence[str]) -> ArrowTable | None:
    """Read the columns with types, or nothing if one of the ``numbers`` is something else: then the cells will tell."""
    raw = dict(zip(source.columns, source.header, strict=True))
    wanted = {name: raw[name] for name in (*numbers, *labels) if name in raw}
    if not wanted:  # which pyarrow would take for all
        return None
    options = pa_csv.ConvertOptions(
        null_values=[],  # an empty cell is no number
        include_columns=list(wanted.values()),
        column_types={raw[name]: pa.string() for name in labels if name in raw},
    )
    try:
        read = pa_csv.ReadOptions(use_threads=source.is_large)
        table = pa_csv.read_csv(pa.BufferReader(source.data), read, convert_options=options)
    except (pa.ArrowException, OSError):
        return None
    typed = table.rename_columns(list(wanted))
    kinds = [typed.schema.field(name).type for name in numbers if name in wanted]
    if typed.num_rows and all(_is_numeric(kind) or pa.types.is_timestamp(kind) for kind in kinds):
        return ArrowTable(source.name, typed)
    return None


def _text_cells(source: Source) -> pd.DataFrame:
    blank = source.text[: source.text.index(source.first_line)].count("\n")
    try:
        # Text cells, so that nothing is guessed; blank lines are kept until the lines are numbered.
        cells = pd.read_csv(io.StringIO(source.text), dtype=str, na_filter=False, skip_blank_lines=False, header=blank)
    except (ValueError, OverflowError) as error:  # pandas' parser errors derive from ValueError
        raise InputError(source.name, source.first_line, f"it is not a CSV table ({error})") from None
    if not isinstance(cells.index, pd.RangeIndex):
        # pandas silently takes the first column as an index when the rows have more cells than the header.
        raise InputError(f"{source.name} columns", source.first_line, "the rows have more cells than the header")
    cells.columns = pd.Index([str(name).strip() for name in cells.columns])
    cells.index = cells.index + blank + 2
    filled = cells[(cells != "").any(axis=1)]
    if filled.empty:
        raise InputError(source.name, "0 rows", "give at least one row under the header")
    return filled


def _spaced_ids(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = value.split()
    return [int(part) for part in parts] if all(p.isdecimal() and len(p) < 20 for p in parts) else value
