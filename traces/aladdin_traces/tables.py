"""Reading columns of a CSV file by name, with errors that say file, line and column."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from aladdin_traces.checks import TOKENS_MAX
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace


class CsvTable:
    """A CSV file as text cells, every row with the number of its line.

    Blank lines are skipped. A quoted cell that contains a line break would shift the line numbers after it; none of the
    formats has such cells.
    """

    def __init__(self, source: Source) -> None:
        """Split ``source`` into cells.

        Raises:
            InputError: A row has more cells than the header, or there is no row.
        """
        self.name = source.name
        self._cells = _split(source)

    def column(self, *aliases: str) -> pd.Series:
        """Return the cells of the first of ``aliases`` that the file has, as text, indexed by line number.

        Raises:
            InputError: The file has none of them.
        """
        for alias in aliases:
            if alias in self._cells:
                return self._cells[alias]
        raise self._missing([" or ".join(aliases)])

    def require(self, *columns: Sequence[str]) -> None:
        """Check that every column is there, each under one of its aliases.

        Raises:
            InputError: Names all the missing columns and those found.
        """
        missing = [" or ".join(aliases) for aliases in columns if not any(a in self._cells for a in aliases)]
        if missing:
            raise self._missing(missing)

    def has(self, name: str) -> bool:
        """Say whether the file has the column."""
        return name in self._cells

    def numbers(self, *aliases: str, low: float, high: float = np.inf, whole: bool = False) -> FloatArray:
        """Return a column as finite numbers from ``low`` to ``high``.

        Raises:
            InputError: Names the first line whose cell is not such a number.
        """
        cells = self.column(*aliases)
        values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
        good = np.isfinite(values) & (values >= low) & (values <= high)
        kind = "whole number" if whole else "number"
        if whole:
            good &= values == np.floor(values)
        bounds = (f" from {low:g}" if low > -np.inf else "") + (f" up to {high:.0f}" if high < np.inf else "")
        self.refuse(cells, ~good, f"give a {kind}{bounds}")
        return values

    def tokens(self, *aliases: str, low: float) -> FloatArray:
        """Return a column as whole numbers from ``low`` up to the int32 maximum.

        Raises:
            InputError: Names the first line whose cell is not such a number.
        """
        return self.numbers(*aliases, low=low, high=TOKENS_MAX, whole=True)

    def refuse(self, cells: pd.Series, bad: npt.NDArray[np.bool_], mend: str) -> None:
        """Raise the error for the first cell marked in ``bad``, if there is one.

        Raises:
            InputError: Names file, line, column and text of the cell.
        """
        if bad.any():
            row = int(np.argmax(bad))
            where = f"{self.name} line {cells.index[row]}, column {cells.name}"
            raise InputError(where, cells.iloc[row], mend)

    def _missing(self, missing: Sequence[str]) -> InputError:
        found = ", ".join(map(str, self._cells.columns))
        return InputError(f"{self.name} columns", found, f"add the missing {', '.join(missing)}")


def trace_from_columns(
    table: CsvTable,
    arrival: pd.Series,
    arrival_s: FloatArray,
    tokens: Mapping[str, FloatArray],
    klass: FloatArray | None = None,
) -> Trace:
    """Check the order of the rows, drop those without tokens and count them, and start the clock at the first row.

    Args:
        table: Where the rows come from, for messages.
        arrival: The cells of the arrival column.
        arrival_s: The same as seconds, from any origin.
        tokens: ``prompt_tokens`` and ``output_tokens``; a row with one of them <= 0 is dropped (a failed request).
        klass: SLO class per row.

    Raises:
        InputError: A time goes back, or no row is left.
    """
    goes_back = np.concatenate(([False], arrival_s[1:] < arrival_s[:-1]))
    table.refuse(arrival, goes_back, "it is before the row above it; sort the rows by arrival")
    prompt, output = tokens["prompt_tokens"], tokens["output_tokens"]
    no_prompt, no_output = prompt <= 0, (output <= 0) & (prompt > 0)
    keep = ~(no_prompt | no_output)
    if not keep.any():
        raise InputError(table.name, f"{len(keep)} rows", "every row has 0 tokens; give requests that were served")
    counts = {"prompt_tokens <= 0": int(no_prompt.sum()), "output_tokens <= 0": int(no_output.sum())}
    return Trace.from_arrays(
        arrival_s[keep] - arrival_s[0],
        prompt[keep],
        output[keep],
        None if klass is None else klass[keep],
        dropped={reason: count for reason, count in counts.items() if count},
    )


def _split(source: Source) -> pd.DataFrame:
    try:
        # Text cells, so that nothing is guessed; blank lines are kept until the lines are numbered.
        cells = pd.read_csv(
            io.StringIO(source.text), dtype=str, na_filter=False, skip_blank_lines=False, encoding_errors="strict"
        )
    except ValueError as error:  # pandas' parser errors derive from it
        raise InputError(source.name, source.header, f"it is not a CSV table ({error})") from None
    if not isinstance(cells.index, pd.RangeIndex):
        # pandas silently takes the first column as an index when the rows have more cells than the header.
        raise InputError(f"{source.name} columns", source.header, "the rows have more cells than the header")
    cells.columns = pd.Index([str(name).strip() for name in cells.columns])
    cells.index = cells.index + 2
    filled = cells[(cells != "").any(axis=1)]
    if filled.empty:
        raise InputError(source.name, "0 rows", "give at least one row under the header")
    return filled
