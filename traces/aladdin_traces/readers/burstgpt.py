"""BurstGPT 1, 2 and 3 (github.com/HPMLL/BurstGPT): whole seconds, failures as rows of 0 tokens.

The third has ``Session ID`` and ``Elapsed time``; its calls of the interface have no session.
"""

import numpy as np

from aladdin_traces.containers import open_table
from aladdin_traces.errors import InputError
from aladdin_traces.readers.registry import Reader, ReadOptions, needs_column, register_reader
from aladdin_traces.rows import Rows
from aladdin_traces.source import Source
from aladdin_traces.tables import BoolArray, Table
from aladdin_traces.trace import Trace

_NUMBERS = ("Timestamp", "Request tokens", "Response tokens")


def _read(source: Source, options: ReadOptions) -> Trace:
    table = open_table(source, _NUMBERS, ("Model", "Log Type", "Session ID"))
    table.require(*((name,) for name in _NUMBERS))
    rows = Rows(
        table,
        table.tokens("Request tokens"),
        table.tokens("Response tokens"),
        table.numbers("Timestamp", low=-np.inf),
        "Timestamp",
        model=table.labels("Model"),
        session=table.labels("Session ID"),
    )
    wanted = {
        **_chosen(table, "models", "Model", options.models),
        **_chosen(table, "log_types", "Log Type", options.log_types),
    }
    return rows.trace(options.sort, wanted)


def _chosen(table: Table, option: str, column: str, names: tuple[str, ...]) -> dict[str, BoolArray]:
    """Return the mask of the rows whose name is one of ``names``, under the reason for dropping the others."""
    if not names:
        return {}
    labels = table.names(table.called(column))
    unknown = next((name for name in names if name not in labels.categories), None)
    if unknown is not None:
        raise InputError(option, unknown, f"the file has {', '.join(labels.categories)}")
    chosen = np.append(labels.categories.isin(names), False)  # the last stands for the code -1, no name
    return {f"another {column}": chosen[labels.codes]}


register_reader(
    Reader(
        "burstgpt",
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
        needs_column("Request tokens", "Response tokens", "Log Type"),
        _read,
        ("models", "log_types"),
    )
)
