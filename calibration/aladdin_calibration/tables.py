"""Readers of measurement files into the common form of step observations (see :mod:`aladdin_calibration.steps`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aladdin_calibration.steps import COLUMNS, check_durations
from aladdin_traces.errors import InputError, suggest

_AIC_KEYS = ["model", "system", "perf_db_version", "tp", "kind"]
_AIC_SIZES = ["batch", "context_tokens", "prefill_tokens_in_step"]
AIC_COLUMNS = (*_AIC_KEYS, *_AIC_SIZES, "decode_seqs_in_step", "latency_ms")
_AIC_NUMBERS = ("tp", *_AIC_SIZES, "decode_seqs_in_step", "latency_ms")
VLLM_COLUMNS = ("config", "n_prefill", "sum_prefill", "sum_sq", "n_decode", "sum_ctx")
CLOCKS = ("step_cpu", "step_wall", "exec_cpu", "exec_wall")
_MS = 1e3  # milliseconds per second
_LISTED = 24  # values of a column that a message lists at most
Only = Mapping[str, Any]


def _read(path: Path, needed: tuple[str, ...], only: Only | None) -> pd.DataFrame:
    """The rows of a CSV file that ``only`` chooses; its index counts the rows of the file from 0."""
    try:
        table = pd.read_csv(path, low_memory=False)
    except (OSError, ValueError) as error:
        raise InputError("path", str(path), f"give a readable CSV file ({error})") from error
    for column in needed:
        if column not in table.columns:
            raise InputError("path", str(path), f"give a file with the column {column!r}")
    if table.empty:
        raise InputError("path", str(path), "give a file with measured steps: it has a head and no rows")
    return _chosen(table, only or {})


def _chosen(table: pd.DataFrame, only: Only) -> pd.DataFrame:
    """The rows that have these values, as numbers or as text, in these columns."""
    for column, value in only.items():
        if column not in table.columns:
            raise InputError(f"where {column}", value, f"no such column; {suggest(column, table.columns)}")
        rows = table[_equal(table[column], value)]
        if rows.empty:
            known = sorted(set(table[column].astype(str)))
            mend = suggest(str(value), known) if len(known) <= _LISTED else "no row has it"
            raise InputError(f"where {column}", value, mend)
        table = rows
    return table


def _equal(values: pd.Series[Any], wanted: object) -> pd.Series[bool]:
    if pd.api.types.is_numeric_dtype(values):
        return values.eq(pd.to_numeric(pd.Series([wanted]), errors="coerce").iloc[0])
    return values.astype(str).eq(str(wanted))


def _with_numbers(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """The table with these columns as numbers; InputError that names the first cell that holds none."""
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce")
        bad = numbers.index[numbers.isna()]
        if len(bad):
            mend = f"give a number in column {column}, row {bad[0]} (the first below the head is row 0)"
            raise InputError(f"{column}[{bad[0]}]", table.loc[bad[0], column], mend)
        table = table.assign(**{column: numbers})
    return table


def read_aic(path: str | Path, only: Only | None = None) -> pd.DataFrame:
    """Step estimates of NVIDIA's aiconfigurator in the common columns, plus what they are for.

    That is ``model``, ``system``, ``tp`` and ``perf_db_version`` (the vLLM whose kernels were timed). There every
    prompt is fresh and the prompt tokens of a mixed step are one chunk; ``context_tokens`` is per request. Each row is
    a configuration of its own. ``only`` chooses the rows that have these values in these columns.
    """
    table = _with_numbers(_read(Path(path), AIC_COLUMNS, only), _AIC_NUMBERS)
    prefill, tokens = table["kind"] == "prefill", table["prefill_tokens_in_step"]
    steps = table[_AIC_KEYS].copy()
    steps["config"] = table["kind"].str.cat(table[_AIC_SIZES].astype(str), sep="-")
    steps["prefill_tokens"] = tokens
    steps["sum_squares"] = np.where(prefill, table["batch"] * table["context_tokens"] ** 2, tokens**2).astype(float)
    steps["batch"] = table["decode_seqs_in_step"]
    steps["context_tokens"] = table["decode_seqs_in_step"] * table["context_tokens"]
    steps["seconds"] = table["latency_ms"] / _MS
    check_durations(steps, "latency_ms", _MS)
    return steps.reset_index(drop=True)


def select_aic(steps: pd.DataFrame, model: str, system: str, tp: int) -> pd.DataFrame:
    """The steps of one model on one system at one tensor-parallel degree, none repeated; common columns."""
    for column, value in (("model", model), ("system", system)):
        known = sorted(set(steps[column]))
        if value not in known:
            raise InputError(column, value, suggest(value, known))
    chosen = steps[(steps["model"] == model) & (steps["system"] == system) & (steps["tp"] == tp)]
    if chosen.empty:
        raise InputError("tp", tp, f"choose one of {sorted(set(steps['tp']))}")
    return chosen[list(COLUMNS)].reset_index(drop=True).assign(repeat=0, at_s=0.0)


def read_vllm_steps(path: str | Path, clock: str = "step_cpu", only: Only | None = None) -> pd.DataFrame:
    """Iterations recorded inside a real vLLM engine, in the common columns, with ``repeat`` and ``at_s``.

    Args:
        path: file with columns ``config, n_prefill, sum_prefill, sum_sq, n_decode, sum_ctx``, clocks in ms, and
            optionally ``rep``; rows in the order in which they were measured, one after the other.
        clock: ``step_cpu`` (whole engine step, uncontended time), ``step_wall`` (the same on the wall clock: take it
            on a GPU), ``exec_cpu`` or ``exec_wall`` (model execution alone, without the scheduler's work).
        only: the rows that have these values in these columns: one run of a file with several.
    """
    table = _read(Path(path), (*VLLM_COLUMNS, clock), only)
    beside = (name for name in ("rep", "step_wall") if name in table and name != clock)
    table = _with_numbers(table, (*VLLM_COLUMNS[1:], clock, *beside))
    kinds = [(table["n_prefill"] > 0) & (table["n_decode"] > 0), table["n_prefill"] > 0]
    passing = table["step_wall"] if "step_wall" in table else table[clock]
    steps = pd.DataFrame(
        {
            "kind": np.select(kinds, ["mixed", "prefill"], "decode"),
            "config": table["config"].astype(str),
            "prefill_tokens": table["sum_prefill"],
            "sum_squares": table["sum_sq"].astype(float),
            "batch": table["n_decode"],
            "context_tokens": table["sum_ctx"],
            "seconds": table[clock] / _MS,
            "repeat": table.get("rep", 0),
            "at_s": (passing.cumsum() - passing) / _MS,
        }
    )
    check_durations(steps, clock, _MS)
    return steps.reset_index(drop=True)
