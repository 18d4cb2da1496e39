"""Readers of measurement files into the common form of step observations (see :mod:`aladdin_calibration.steps`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from aladdin_calibration.steps import COLUMNS, check_durations
from aladdin_traces.errors import InputError, suggest

_AIC_KEYS = ["model", "system", "perf_db_version", "tp", "kind"]
_AIC_SIZES = ["batch", "context_tokens", "prefill_tokens_in_step"]
AIC_COLUMNS = (*_AIC_KEYS, *_AIC_SIZES, "decode_seqs_in_step", "latency_ms")
VLLM_COLUMNS = ("config", "n_prefill", "sum_prefill", "sum_sq", "n_decode", "sum_ctx")
CLOCKS = ("step_cpu", "step_wall", "exec_cpu", "exec_wall")
_MS = 1e3  # milliseconds per second


def _read(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError("path", str(path), f"give a readable CSV file ({error})") from error
    for column in needed:
        if column not in table.columns:
            raise InputError("path", str(path), f"give a file with the column {column!r}")
    return table


def read_aic(path: str | Path) -> pd.DataFrame:
    """Step estimates of NVIDIA's aiconfigurator in the common columns, plus what they are for.

    That is ``model``, ``system``, ``tp`` and ``perf_db_version`` (the vLLM whose kernels were timed). There every
    prompt is fresh and the prompt tokens of a mixed step are one chunk; ``context_tokens`` is per request. Each row is
    a configuration of its own.
    """
    table = _read(Path(path), AIC_COLUMNS)
    prefill, tokens = table["kind"] == "prefill", table["prefill_tokens_in_step"]
    steps = table[_AIC_KEYS].copy()
    steps["config"] = table["kind"].str.cat(table[_AIC_SIZES].astype(str), sep="-")
    steps["prefill_tokens"] = tokens
    steps["sum_squares"] = np.where(prefill, table["batch"] * table["context_tokens"] ** 2, tokens**2).astype(float)
    steps["batch"] = table["decode_seqs_in_step"]
    steps["context_tokens"] = table["decode_seqs_in_step"] * table["context_tokens"]
    steps["seconds"] = table["latency_ms"] / _MS
    check_durations(steps, "latency_ms", _MS)
    return steps


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


def read_vllm_steps(path: str | Path, clock: str = "step_cpu") -> pd.DataFrame:
    """Iterations recorded inside a real vLLM engine, in the common columns, with ``repeat`` and ``at_s``.

    Args:
        path: file with columns ``config, n_prefill, sum_prefill, sum_sq, n_decode, sum_ctx``, clocks in ms, and
            optionally ``rep``; rows in the order in which they were measured, one after the other.
        clock: ``step_cpu`` (whole engine step, uncontended time), ``step_wall`` (the same on the wall clock: take it
            on a GPU), ``exec_cpu`` or ``exec_wall`` (model execution alone, without the scheduler's work).
    """
    table = _read(Path(path), (*VLLM_COLUMNS, clock))
    kinds = [(table["n_prefill"] > 0) & (table["n_decode"] > 0), table["n_prefill"] > 0]
    passing = table["step_wall"] if "step_wall" in table else table[clock]
    steps = pd.DataFrame(
        {
            "kind": np.select(kinds, ["mixed", "prefill"], "decode"),
            "config": table["config"],
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
    return steps
