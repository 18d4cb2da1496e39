"""ServeGen (github.com/alibaba/ServeGen): its lists of requests; its client files are described, not replayed.

A client's ``chunk-N-trace.csv`` holds arrival rates and its ``chunk-N-dataset.json`` laws of lengths: the makings of
generated requests, not requests.
"""

from typing import NoReturn

from aladdin_traces.containers import open_table
from aladdin_traces.errors import InputError
from aladdin_traces.readers.registry import Reader, ReadOptions, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.trace import Trace

_RATE_CELLS = 6
_LAWS = ("Gamma", "Weibull", "Poisson", "Exponential")


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


def _read_client(source: Source, options: ReadOptions) -> NoReturn:
    what = "laws of lengths" if source.is_json else "a curve of arrival rates"
    mend = f"this ServeGen client file holds {what}, no requests: generate some, with the arrival law clients"
    raise InputError(source.name, source.first_line, mend)


def _client_refusal(source: Source) -> str | None:
    if source.is_json:
        windows = [value for value in source.first.values() if isinstance(value, dict)]
        described = bool(windows) and isinstance(windows[0].get("input_tokens"), str)
        return None if described else "no windows with laws of input_tokens"
    if len(source.columns) == _RATE_CELLS and source.columns[3] in _LAWS:
        return None
    return "no rates and laws in 6 columns"


register_reader(
    Reader(
        "servegen",
        '{"request_id": 0, "type": "multimodal", "input_length": 1207, "output_length": 495, "duration": 13254}',
        _refusal,
        _read,
    )
)
register_reader(Reader("servegen-client", "0,0.357,1.176,Gamma,0.723,3.878", _client_refusal, _read_client))
