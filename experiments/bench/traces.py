"""Rows read and seconds for each sample of a trace format: ``python -m experiments.bench.traces FOLDER``.

The folder holds public traces; without one only a million Azure rows made here are read.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from aladdin_traces import READERS, InputError, Trace, read_trace
from aladdin_traces.readers.registry import choose_reader
from aladdin_traces.source import open_source

_SUFFIXES = (".csv", ".csv.gz", ".json", ".jsonl", ".jsonl.gz", ".parquet")
_AZURE_ROWS = 1_000_000


def _azure_file(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    times = pd.Timestamp("2024-05-10") + pd.to_timedelta(np.cumsum(rng.exponential(40_000, _AZURE_ROWS)), unit="us")
    table = pd.DataFrame(
        {
            "TIMESTAMP": times.strftime("%Y-%m-%d %H:%M:%S.%f+00:00"),
            "ContextTokens": rng.integers(1, 8000, _AZURE_ROWS),
            "GeneratedTokens": rng.integers(1, 800, _AZURE_ROWS),
        }
    )
    path = folder / "azure_1m_rows.csv"
    table.to_csv(path, index=False)
    return path


def _report(path: Path) -> str:
    try:
        name = choose_reader(open_source(path)).name
        start = time.perf_counter()
        trace = read_trace(path)
        seconds = time.perf_counter() - start
    except InputError as error:
        return f"{'refused':16} {path.name:48} {error.mend[:90]}"
    return f"{name:16} {path.name:48} {len(trace):9,} rows {seconds:8.3f} s  {_extras(trace)}"


def _extras(trace: Trace) -> str:
    names = [name for name in trace.columns() if name not in ("arrival_s", "prompt_tokens", "output_tokens", "klass")]
    counts = [f"{count} {reason}" for reason, count in {**trace.dropped, **trace.notes}.items()]
    return ", ".join([*names, *counts])


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.name.endswith(_SUFFIXES))


if __name__ == "__main__":
    print(f"formats: {', '.join(READERS)}")
    for given in sys.argv[1:]:
        for path in _files(Path(given)):
            print(_report(path))
    with tempfile.TemporaryDirectory() as scratch:
        print(_report(_azure_file(Path(scratch))))
