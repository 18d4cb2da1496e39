"""ServeGen's clients (github.com/alibaba/ServeGen), whose requests are drawn here: the files hold laws, not requests.

``chunk-N-trace.csv`` has a line per window of time (600 s), without a header: its first second, requests per second,
CV, law of the gaps, shape, scale. ``chunk-N-dataset.json`` beside it has the probabilities of the lengths, as text, by
the first second of longer windows (21,600 s).

As in ServeGen, each window gets the number of requests that its rate says: it was counted, so a law that varied the
count once more would be too bursty. The law gives the shape of the gaps, which then fill the window; so the scale, in
seconds, which only says the rate once more, and the CV are passed over. Prompt and output are drawn independently.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError, suggest
from aladdin_traces.json_table import JsonTable
from aladdin_traces.point_processes import check_size
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.readers.servegen_lengths import drawn_lengths, read_length_laws
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source, open_source
from aladdin_traces.trace import Trace

_Gaps = Callable[[np.random.Generator, float, int], FloatArray]
"""Draws gaps of any mean: randomness, shape, how many."""

_TRACE, _DATASET = "-trace.csv", "-dataset.json"
_COLUMNS = ("t", "rate", "cv", "law", "shape", "scale")
_SILENT = ""  # the law of a window without requests
_LAWS: dict[str, _Gaps] = {
    "Gamma": lambda rng, shape, count: rng.standard_gamma(max(shape, 1e-4), count),
    # Of a smaller shape, gaps overflow.
    "Weibull": lambda rng, shape, count: rng.weibull(max(shape, 0.01), count),
    "Exponential": lambda rng, shape, count: rng.standard_exponential(count),
    "Poisson": lambda rng, shape, count: rng.standard_exponential(count),
}
_SHAPED = ("Gamma", "Weibull")
_T_MAX, _RATE_MAX = 1e10, 1e9
_ONLY_WINDOW_S = 600.0


class _Lines(JsonTable):
    """The lines of a client's trace; without a header, so the columns go by their place."""

    kind = "column"


@dataclass(frozen=True)
class _Window:
    """A span of time at one rate.

    Attributes:
        start_s: First second.
        end_s: First second of the next one.
        requests: Mean number of requests, >= 0.
        gaps: Draws gaps of any mean.
        shape: Of their law.
    """

    start_s: float
    end_s: float
    requests: float
    gaps: _Gaps
    shape: float

    def arrivals(self, rng: np.random.Generator) -> FloatArray:
        """Draw the times of its requests, seconds, ascending."""
        # A mean that is no whole number is rounded up or down by chance.
        count = int(self.requests + rng.random())
        if count == 0:
            return np.empty(0)
        gaps = self.gaps(rng, self.shape, count + 1)
        gaps += np.finfo(np.float64).tiny  # those of a small shape may all be 0
        ends = np.cumsum(gaps)
        times: FloatArray = self.start_s + (self.end_s - self.start_s) * (ends[:-1] / ends[-1])
        return np.minimum(times, self.end_s, out=times)  # which rounding may pass


def _windows(table: _Lines) -> list[_Window]:
    """Check all lines.

    Raises:
        InputError: Names the first line whose time, law, rate or shape is none.
    """
    starts = table.numbers("t", low=0.0, high=_T_MAX)
    table.refuse("t", np.diff(starts, prepend=-np.inf) <= 0, "give windows in the order of their times")
    laws = [str(law) for law in table.lists("law")]
    for row, law in enumerate(laws):
        if law not in (_SILENT, *_LAWS):
            raise table.mistake(row, "law", suggest(law, _LAWS))
    silent = np.array([law == _SILENT for law in laws])
    rates = np.where(silent, 0.0, table.floats("rate"))
    table.refuse("rate", ~((rates >= 0) & (rates <= _RATE_MAX)), f"give a number from 0 to {_RATE_MAX:.0e}")
    shapes = np.where([law in _SHAPED for law in laws] & (rates > 0), table.floats("shape"), 1.0)
    table.refuse("shape", ~((shapes > 0) & (shapes < np.inf)), "give a number > 0")
    # The last window is as long as the one before it.
    ends = np.append(starts[1:], starts[-1] + (starts[-1] - starts[-2] if len(starts) > 1 else _ONLY_WINDOW_S))
    columns = (starts, ends, rates * (ends - starts), shapes)
    rows = zip(*(column.tolist() for column in columns), laws, strict=True)
    return [_Window(start, end, mean, _LAWS[law], shape) for start, end, mean, shape, law in rows if mean > 0]


def _cells(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(source.text.split("\n"), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(_COLUMNS):
            raise InputError(f"{source.name} line {number}", line, f"give 6 cells: {', '.join(_COLUMNS)}")
        yield f"line {number}", dict(zip(_COLUMNS, cells, strict=True))


def _read(source: Source, options: ReadOptions) -> Trace:
    if source.is_json or source.is_parquet:
        raise InputError(
            "path", source.name, f"give the client's chunk-N{_TRACE}; its chunk-N{_DATASET} is found by it"
        )
    table = _Lines(source.name, _cells(source), _COLUMNS)
    windows = _windows(table)
    laws = read_length_laws(_dataset_of(source))
    check_size(sum(window.requests for window in windows), sum(w.end_s - w.start_s for w in windows), source.name)
    # With the content in the seed, clients of one seed are independent of each other.
    rng = np.random.default_rng([options.seed, zlib.crc32(source.data)])
    arrivals = np.concatenate([np.empty(0), *(window.arrivals(rng) for window in windows)])
    if len(arrivals) == 0:
        raise InputError(source.name, "0 requests", "its rates are too low for one; give a client that sends some")
    prompt, output = drawn_lengths(laws, rng, arrivals)
    note = {f"requests drawn from ServeGen's laws with seed {options.seed}": len(arrivals)}
    # The clock of the file, and not the first request, is what the clients of a pool have in common.
    return Rows(table, prompt, output, arrivals).trace(notes=note, origin_s=float(table.numbers("t", low=0.0)[0]))


def _dataset_of(source: Source) -> Source:
    """Open the file of the client's lengths.

    Raises:
        InputError: The name of the trace does not lead to it, it is not there, or cannot be read.
    """
    folder, name = os.path.split(source.name)
    stem, found, end = name.rpartition(_TRACE)
    if not found:
        mend = f"call it chunk-N{_TRACE}, so that its lengths are found in the chunk-N{_DATASET} beside it"
        raise InputError("path", source.name, mend)
    path = os.path.join(folder, stem + _DATASET + end)
    if not os.path.exists(path):
        raise InputError("path", path, f"there is no such file: put the lengths of {name} there")
    return open_source(path)


def _refusal(source: Source) -> str | None:
    if source.is_json:
        windows = [value for value in source.first.values() if isinstance(value, dict)]
        described = bool(windows) and isinstance(windows[0].get("input_tokens"), str)
        return None if described else "no windows with laws of input_tokens"
    if len(source.columns) != len(_COLUMNS):
        return "no 6 columns"
    cells = dict(zip(_COLUMNS, source.columns, strict=True))
    law_is_number = _is_number(cells.pop("law"))
    is_client = not law_is_number and all(_is_number(cell or "0") for cell in cells.values())
    return None if is_client else "no rates and laws in 6 columns"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


register_reader(Reader("servegen-client", "0,0.357,1.176,Gamma,0.723,3.878", _refusal, _read))
