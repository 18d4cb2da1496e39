"""A trace within a scenario file: its columns as plain lists."""

from collections.abc import Mapping
from typing import Any

from aladdin_traces import checks
from aladdin_traces.errors import InputError
from aladdin_traces.prefix import PrefixBlocks
from aladdin_traces.trace import LABELS, Trace

REQUIRED_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
INLINE_COLUMNS = (*REQUIRED_COLUMNS, "klass", *LABELS, "prefix_blocks", "block_size")
"""Keys of the columns. ``klass``, names and blocks may be left out; ``block_size`` is one number."""


def trace_to_table(trace: Trace) -> dict[str, Any]:
    """Return the columns as lists; ``klass`` only if a request has another class than 0, a missing name as ""."""
    frame = trace.to_frame()
    names = [name for name in frame if name not in LABELS and (name != "klass" or trace.klass.any())]
    table: dict[str, Any] = {str(name): frame[name].tolist() for name in names}
    for name in LABELS:
        if name in frame:
            table[name] = frame[name].astype(object).where(frame[name].notna(), "").tolist()
    if trace.prefix_blocks is not None:
        table["prefix_blocks"] = [ids.tolist() for ids in table["prefix_blocks"]]
        table["block_size"] = trace.prefix_blocks.block_size
    return table


def trace_from_table(table: Mapping[str, Any]) -> Trace:
    """Build the trace of `trace_to_table`.

    Raises:
        InputError: A column is not valid, or there are blocks without their size.
    """
    blocks = None
    if "prefix_blocks" in table:
        lists = checks.items("prefix_blocks", table["prefix_blocks"])
        bad = next((part for part in lists if not isinstance(part, list)), None)
        if bad is not None:
            raise InputError("prefix_blocks", bad, "give a list of block ids for each request")
        blocks = PrefixBlocks.from_lists(lists, table.get("block_size"))  # type: ignore[arg-type]  # it checks
    return Trace.from_arrays(
        table["arrival_s"],
        table["prompt_tokens"],
        table["output_tokens"],
        table.get("klass"),
        prefix_blocks=blocks,
        session=table.get("session"),
        model=table.get("model"),
        request_id=table.get("request_id"),
    )
