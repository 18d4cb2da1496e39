"""Azure's LLM inference traces of 2023, 2024 and 2025 (github.com/Azure/AzurePublicDataset).

Times are calendar times with up to 7 decimals, with a zone or without; 2025 has a further column, ``NumImages``.
"""

from aladdin_traces.containers import open_table
from aladdin_traces.readers.registry import Reader, ReadOptions, needs_column, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def _read(source: Source, options: ReadOptions) -> Trace:
    table = open_table(source, _COLUMNS)
    table.require(*((name,) for name in _COLUMNS))
    rows = Rows(
        table,
        table.tokens("ContextTokens"),
        table.tokens("GeneratedTokens"),
        table.elapsed("TIMESTAMP"),
        "TIMESTAMP",
    )
    return rows.trace(options.sort)


register_reader(Reader("azure", ",".join(_COLUMNS), needs_column(*_COLUMNS), _read))
