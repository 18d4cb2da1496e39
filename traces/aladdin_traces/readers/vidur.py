"""Vidur, Sarathi and etalon: CSV of lengths, with arrival times or without."""

import numpy as np

from aladdin_traces.containers import open_table
from aladdin_traces.readers.registry import Reader, ReadOptions, needs_column, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace

_LENGTHS = ("num_prefill_tokens", "num_decode_tokens")


def _read(source: Source, options: ReadOptions) -> Trace:
    table = open_table(source, ("arrived_at", *_LENGTHS))
    table.require(*((name,) for name in _LENGTHS))
    times = table.numbers("arrived_at", low=-np.inf) if table.has("arrived_at") else None
    prompt, output = (table.tokens(name) for name in _LENGTHS)
    return Rows(table, prompt, output, times, "arrived_at").trace(options.sort)


register_reader(Reader("vidur", "[arrived_at,]num_prefill_tokens,num_decode_tokens", needs_column(*_LENGTHS), _read))
