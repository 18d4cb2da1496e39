"""ServeGen's lists of requests (github.com/alibaba/ServeGen), without times."""

from aladdin_traces.containers import open_table
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace


def _read(source: Source, options: ReadOptions) -> Trace:
    table = open_table(source, ("input_length", "output_length"), ("request_id",))
    table.require(("input_length",), ("output_length",))
    rows = Rows(
        table,
        table.tokens("input_length"),
        table.tokens("output_length"),
        request_id=table.labels("request_id"),
    )
    return rows.trace()


def _refusal(source: Source) -> str | None:
    if {"request_id", "input_length", "duration"} <= set(source.first):
        return None
    return "no keys request_id, input_length and duration"


register_reader(
    Reader(
        "servegen",
        '{"request_id": 0, "type": "multimodal", "input_length": 1207, "output_length": 495, "duration": 13254}',
        _refusal,
        _read,
    )
)
