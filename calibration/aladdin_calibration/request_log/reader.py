"""Reading served request logs from CSV, Parquet or JSON lines, and the decision logs of Aladdin's bridge.

A log has one row per request and these columns, each under any of its names; further columns are passed over.

==================  ==============================================================================
``arrival_s``       ``arrived_at_s``, ``arrival_time_s``: the request reaches the server, seconds
``first_token_s``   ``first_token_time_s``: its first token, seconds on the same clock
``last_token_s``    ``finish_s``, ``last_token_time_s``: its last token
``prompt_tokens``   ``input_toks``, ``input_tokens``: prompt length in tokens
``output_tokens``   ``output_toks``, ``completion_tokens``: tokens generated
==================  ==============================================================================

Of a decision log the requests that were streamed to their end are read; each reaches its server when it is sent there,
and a column ``worker`` tells the servers apart.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from aladdin_calibration.request_log.log import RequestLog
from aladdin_traces.checks import TOKENS_MAX
from aladdin_traces.containers import open_table
from aladdin_traces.errors import InputError, suggest
from aladdin_traces.readers.aladdin_log import DecisionLog, is_log
from aladdin_traces.source import Source, open_source
from aladdin_traces.tables import BoolArray, Table

ARRIVAL = ("arrival_s", "arrived_at_s", "arrival_time_s")
FIRST_TOKEN = ("first_token_s", "first_token_time_s")
LAST_TOKEN = ("last_token_s", "finish_s", "last_token_time_s")
PROMPT = ("prompt_tokens", "input_toks", "input_tokens")
OUTPUT = ("output_tokens", "output_toks", "completion_tokens")
RUN = ("run", "worker", "hardware", "gpu", "model", "tp", "dp", "vllm", "max_num_seqs", "max_num_batched_tokens")
"""Columns that tell runs apart: a log must have one value in each of them; `RequestLog.told` keeps these."""
_NOTHING = ("", "nan", "None")


def read_request_log(path: str | os.PathLike[str], where: Mapping[str, str] | None = None) -> RequestLog:
    """Read the log of one run.

    Args:
        path: the file, gzipped or not.
        where: keep the rows that have these values (as text) in these columns: one run of a file with several.

    Raises:
        InputError: a column is missing, a value is none (names file and line), the rows are of several runs, none is
            left, or what `RequestLog.from_arrays` refuses.
    """
    source, where = open_source(path), dict(where or {})
    table = _table(source, where)
    table.require(ARRIVAL, FIRST_TOKEN, LAST_TOKEN, PROMPT, OUTPUT)
    kept = _chosen(table, where)
    told = _told(table, kept)
    times = [table.numbers(*names, low=-np.inf) for names in (ARRIVAL, FIRST_TOKEN, LAST_TOKEN)]
    arrival, first, last = times
    table.refuse(
        table.called(*FIRST_TOKEN),
        kept & (first < arrival),
        "it is before the request's arrival; use one clock for all",
    )
    table.refuse(
        table.called(*LAST_TOKEN),
        kept & (last < first),
        "it is before the request's first token; use one clock for all",
    )
    lengths = [table.numbers(*names, low=1, high=TOKENS_MAX, whole=True) for names in (PROMPT, OUTPUT)]
    return replace(RequestLog.from_arrays(*(values[kept] for values in (*times, *lengths))), told=told)


def _table(source: Source, where: Mapping[str, str]) -> Table:
    """Columns of numbers; and to compare as text those of ``where``, and those that tell runs apart."""
    if is_log(source):
        return DecisionLog(source).served()
    numbers = (*ARRIVAL, *FIRST_TOKEN, *LAST_TOKEN, *PROMPT, *OUTPUT)
    return open_table(source, numbers, [*where, *(name for name in RUN if name not in where)])


def _chosen(table: Table, where: Mapping[str, str]) -> BoolArray:
    """The rows that ``where`` chooses."""
    kept = np.ones(len(table), dtype=bool)
    for column, value in where.items():
        if not table.has(column):
            raise InputError(f"where {column}", value, f"no such column; {suggest(column, table.columns)}")
        texts = np.array(table.names(column).astype(str))
        if not (texts == str(value)).any():
            raise InputError(f"where {column}", value, suggest(str(value), sorted(set(texts))))
        kept &= texts == str(value)
    if not kept.any():
        raise InputError("where", dict(where), "no row has all these values; choose fewer")
    return kept


def _told(table: Table, kept: BoolArray) -> dict[str, str]:
    """What the kept rows say of their run, which must be one."""
    told = {}
    for column in filter(table.has, RUN):
        values = sorted(set(map(str, np.array(table.names(column))[kept])))
        if len(values) > 1:
            mend = f"these are several runs: choose one with --where {column}=..."
            raise InputError(f"{table.name} column {column}", values, mend)
        if values and values[0] not in _NOTHING:
            told[column] = values[0]
    return told
