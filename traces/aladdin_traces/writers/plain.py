"""The project's own table: nothing of a trace is lost."""

from pathlib import Path

import pandas as pd

from aladdin_traces.trace import LABELS, Trace
from aladdin_traces.writers.packing import text_file
from aladdin_traces.writers.registry import Writer, register_writer


def plain_frame(trace: Trace) -> pd.DataFrame:
    """Return the columns to write: ``klass`` only if a request has another class than 0, and what else there is."""
    frame = trace.to_frame()
    if not trace.klass.any():
        frame = frame.drop(columns="klass")
    if trace.prefix_blocks is not None:
        frame["block_size"] = trace.prefix_blocks.block_size
    return frame


def _write_csv(trace: Trace, path: Path, packed: bool) -> None:
    frame = plain_frame(trace)
    if trace.prefix_blocks is not None:
        frame["prefix_blocks"] = [" ".join(map(str, ids.tolist())) for ids in frame["prefix_blocks"]]
    with text_file(path, packed) as text:
        frame.to_csv(text, index=False, lineterminator="\n")


def _write_parquet(trace: Trace, path: Path, packed: bool) -> None:
    frame = plain_frame(trace)
    for name in LABELS:
        if name in frame:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    frame.to_parquet(path, index=False)


register_writer(Writer("csv", "the plain table as CSV", _write_csv))
register_writer(Writer("parquet", "the plain table as Parquet", _write_parquet))
