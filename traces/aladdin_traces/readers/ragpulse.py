"""RAGPulse (github.com/flashserve/RAGPulse): JSON lines, seconds as text, a session id, some rows out of order.

``hash_ids`` name the parts of a prompt (system prompt, passages, ...), of lengths that stand in other files, not blocks
of one size: what they would give a prefix cache cannot be told from the trace alone, so there are no prefix blocks.
"""

import numpy as np

from aladdin_traces.containers import open_table
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace


def _read(source: Source, options: ReadOptions) -> Trace:
    table = open_table(source, ("timestamp", "input_length", "output_length"), ("session_id",))
    table.require(("timestamp",), ("input_length",), ("output_length",))
    rows = Rows(
        table,
        table.tokens("input_length"),
        table.tokens("output_length"),
        table.numbers("timestamp", low=-np.inf),
        "timestamp",
        session=table.labels("session_id"),
    )
    return rows.trace(sort=True)


def _refusal(source: Source) -> str | None:
    if source.holds_parts("hash_ids"):
        return None
    return None if isinstance(source.first.get("hash_ids"), dict) else "no key hash_ids with an object of parts"


register_reader(
    Reader(
        "ragpulse",
        '{"timestamp": "27", "input_length": 3861, "output_length": 127, "hash_ids": {"sys_prompt": [...], ...}, ...}',
        _refusal,
        _read,
    )
)
