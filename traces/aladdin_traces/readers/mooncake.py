"""Mooncake's JSON lines (github.com/kvcache-ai/Mooncake) and its relatives; all have the same four keys.

``mooncake`` counts milliseconds and has blocks of 512 tokens, as SGLang's and Dynamo's files do. ``timed_trace`` is
vLLM's reading of the same keys: seconds and blocks of 16 tokens unless its options say otherwise. Nothing in a file
tells the two apart, so ``timed_trace`` must be named.
"""

import numpy as np

from aladdin_traces.columns import FloatArray
from aladdin_traces.containers import open_table
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.tables import Table
from aladdin_traces.trace import Trace
from aladdin_traces.transforms import jitter

MOONCAKE_BLOCK = 512
TIMED_TRACE_BLOCK = 16
_COARSE_TICK_MS = 3000
_TICK_TOLERANCE_MS = 5
_MS = 1000.0


def _read_mooncake(source: Source, options: ReadOptions) -> Trace:
    table = _open(source)
    milliseconds = table.numbers("timestamp", low=-np.inf)
    trace = _rows(table, milliseconds / _MS, options.block_size or MOONCAKE_BLOCK).trace(options.sort)
    if not options.jitter or not _is_coarse(milliseconds):
        return trace
    return jitter(trace, _COARSE_TICK_MS / _MS, options.seed)


def _read_timed_trace(source: Source, options: ReadOptions) -> Trace:
    table = _open(source)
    seconds = table.numbers("timestamp", low=-np.inf)
    return _rows(table, seconds, options.block_size or TIMED_TRACE_BLOCK).trace(options.sort)


def _open(source: Source) -> Table:
    table = open_table(source, ("timestamp", "input_length", "output_length"), (), ("hash_ids",))
    table.require(("timestamp",), ("input_length",), ("output_length",))
    return table


def _rows(table: Table, seconds: FloatArray, block_size: int) -> Rows:
    return Rows(
        table,
        table.tokens("input_length"),
        table.tokens("output_length"),
        seconds,
        "timestamp",
        prefix_blocks=table.blocks("hash_ids", block_size),
    )


def _is_coarse(milliseconds: FloatArray) -> bool:
    """Say whether the times are ticks of three seconds, give or take a few milliseconds, and more than one of them."""
    since_first = milliseconds - milliseconds.min()
    ticks = np.rint(since_first / _COARSE_TICK_MS)
    return bool(ticks.max() > 0 and np.abs(since_first - ticks * _COARSE_TICK_MS).max() <= _TICK_TOLERANCE_MS)


def _refusal(source: Source) -> str | None:
    if not source.is_json:
        if not {"timestamp", "hash_ids"} <= set(source.columns):
            return "no columns timestamp and hash_ids"
        return "hash_ids is no list" if source.holds_parts("hash_ids") else None
    if not {"input_length", "output_length", "hash_ids"} <= set(source.first):
        return "no keys input_length, output_length and hash_ids"
    if not isinstance(source.first["hash_ids"], list):
        return "hash_ids is no list"
    if source.head_values("session_id") or source.head_values("delay"):
        return "session_id and delay are aiperf's"
    if any(isinstance(time, float) and not time.is_integer() for time in source.head_values("timestamp")):
        return "times with fractions are guidellm's seconds"
    return None


def _must_be_named(source: Source) -> str | None:
    return "it looks like mooncake, and is only read when named"


register_reader(
    Reader(
        "mooncake",
        '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}',
        _refusal,
        _read_mooncake,
        ("block_size", "jitter"),
    )
)
register_reader(
    Reader(
        "timed_trace",
        '{"timestamp": 0.0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}',
        _must_be_named,
        _read_timed_trace,
        ("block_size",),
    )
)
