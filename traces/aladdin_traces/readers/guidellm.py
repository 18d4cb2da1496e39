"""GuideLLM's ``trace_synthetic`` and ``mooncake`` kinds: JSON lines, JSON, CSV or Parquet; times in seconds.

Its columns may have other names, given as options. Files with whole-number times and no other sign are taken for
AIPerf's milliseconds: name this format for them.
"""

import numpy as np

from aladdin_traces.containers import open_table
from aladdin_traces.errors import InputError, suggest
from aladdin_traces.readers.mooncake import MOONCAKE_BLOCK
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace

_COLUMNS = ("timestamp", "input_length", "output_length", "hash_ids")


def _read(source: Source, options: ReadOptions) -> Trace:
    unknown = next((name for name in options.columns if name not in _COLUMNS), None)
    if unknown is not None:
        raise InputError("columns", unknown, suggest(unknown, _COLUMNS))
    time, prompt, output, blocks = (options.columns.get(name, name) for name in _COLUMNS)
    table = open_table(source, (time, prompt, output), (), (blocks,))
    table.require((time,), (prompt,), (output,))
    rows = Rows(
        table,
        table.tokens(prompt),
        table.tokens(output),
        table.numbers(time, low=-np.inf),
        time,
        prefix_blocks=table.blocks(blocks, options.block_size or MOONCAKE_BLOCK),
    )
    return rows.trace(options.sort)


def _refusal(source: Source) -> str | None:
    names = set(source.first if source.is_json else source.columns)
    return None if {"timestamp", "input_length"} <= names else "no timestamp and input_length"


register_reader(
    Reader(
        "guidellm",
        '{"timestamp": 1234500.0, "input_length": 256, "output_length": 128}',
        _refusal,
        _read,
        ("block_size", "columns"),
    )
)
