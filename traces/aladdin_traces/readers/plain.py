"""The project's own table, as CSV or Parquet; `write_trace` writes it."""

from aladdin_traces import checks
from aladdin_traces.containers import open_table
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.readers.registry import Reader, ReadOptions, needs_column, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.tables import Table
from aladdin_traces.trace import LABELS, SLO_CLASSES, Trace

_ARRIVAL = ("arrived_at_s", "arrival_s")
_LENGTHS = ("prompt_tokens", "output_tokens")
_EXTRAS = ("klass", "block_size", *LABELS, "prefix_blocks")


def _read(source: Source, options: ReadOptions) -> Trace:
    table = open_table(source, (*_ARRIVAL, *_LENGTHS, "klass", "block_size"), LABELS, ("prefix_blocks",))
    # Without times it must hold nothing but lengths: a column of times under another name shall not be passed over.
    timed = not set(source.columns) <= {*_LENGTHS, *_EXTRAS}
    if timed:
        table.require(_ARRIVAL, *((name,) for name in _LENGTHS))
    else:
        table.require(*((name,) for name in _LENGTHS))
    prompt, output = (table.tokens(name) for name in _LENGTHS)
    rows = Rows(
        table,
        prompt,
        output,
        table.numbers(*_ARRIVAL, low=0.0) if timed else None,
        table.called(*_ARRIVAL) if timed else "arrival_s",
        klass=table.numbers("klass", low=0, high=SLO_CLASSES - 1, whole=True) if table.has("klass") else None,
        session=table.labels("session"),
        model=table.labels("model"),
        request_id=table.labels("request_id"),
        prefix_blocks=_prefix_blocks(table),
    )
    return rows.trace(options.sort)


def _prefix_blocks(table: Table) -> PrefixBlocks | None:
    if not table.has("prefix_blocks"):
        return None
    sizes = table.numbers("block_size", low=1, high=checks.TOKENS_MAX, whole=True)
    table.refuse("block_size", sizes != sizes[0], "give one block size in all rows")
    return table.blocks("prefix_blocks", int(sizes[0]))


register_reader(
    Reader(
        "csv",
        "arrival_s,prompt_tokens,output_tokens[,klass][,session][,model][,request_id][,prefix_blocks,block_size]",
        needs_column(*_ARRIVAL, *_LENGTHS),
        _read,
    )
)
