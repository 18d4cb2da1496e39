"""Qwen-Bailian (github.com/alibaba-edu/qwen-bailian-usagetraces-anon): JSON lines, seconds, blocks of 16 tokens.

A chat names its parent, -1 for none; a session is the tree under one root, and goes by the root's id. Where the parent
is not in the file (it began before it, or was cut off), its id stands for the root. Prompts include the history.
"""

import numpy as np
import pandas as pd

from aladdin_traces.columns import factorized
from aladdin_traces.containers import open_table
from aladdin_traces.readers.registry import Reader, ReadOptions, needs_key, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.tables import Table
from aladdin_traces.trace import Trace

BAILIAN_BLOCK = 16
_NUMBERS = ("timestamp", "input_length", "output_length", "parent_chat_id")
_NO_PARENT = "-1"


def _read(source: Source, options: ReadOptions) -> Trace:
    table = open_table(source, _NUMBERS, ("chat_id",), ("hash_ids",))
    table.require(("timestamp",), ("input_length",), ("output_length",), ("chat_id",))
    rows = Rows(
        table,
        table.tokens("input_length"),
        table.tokens("output_length"),
        table.numbers("timestamp", low=-np.inf),
        "timestamp",
        session=factorized(_roots(table)),
        request_id=table.names("chat_id"),
        prefix_blocks=table.blocks("hash_ids", options.block_size or BAILIAN_BLOCK),
    )
    return rows.trace(options.sort)


def _roots(table: Table) -> list[str | None]:
    """Return the root of each chat, in one pass: a parent stands above its children."""
    chats = _texts(table.names("chat_id"))
    parents = _texts(table.names("parent_chat_id")) if table.has("parent_chat_id") else [None] * len(chats)
    roots: dict[str | None, str | None] = {}
    for chat, parent in zip(chats, parents, strict=True):
        roots[chat] = chat if parent in (None, _NO_PARENT) else roots.get(parent, parent)
    return [roots[chat] for chat in chats]


def _texts(labels: pd.Categorical) -> list[str | None]:
    names = [*labels.categories, None]  # a missing one has the code -1
    return [names[code] for code in labels.codes.tolist()]


register_reader(
    Reader(
        "qwen-bailian",
        '{"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.1, "input_length": 521, "output_length": 132, ...}',
        needs_key("chat_id", "parent_chat_id"),
        _read,
        ("block_size",),
    )
)
