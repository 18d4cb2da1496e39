"""Read a measurement from whatever file holds one; its columns say which kind it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from aladdin_calibration import tables
from aladdin_calibration.measurement import RAW_COLUMNS, Measurement, WorkerFacts
from aladdin_traces.errors import InputError

_UNKNOWN: dict[str, Any] = dict.fromkeys(("model", "gpu", "engine_version", "date"), "unknown") | {"engine": "vLLM"}
_COMPOSED = "steps are composed from kernel timings: CPU and API overhead are not in them"


def read_measurement(
    path: str | Path,
    *,
    clock: str | None = None,
    only: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
) -> Measurement:
    """The measurement in a file.

    Three kinds are known by their columns: Parquet of :meth:`Measurement.save`; CSV of iterations inside a vLLM engine
    (:func:`aladdin_calibration.tables.read_vllm_steps`); CSV of NVIDIA's aiconfigurator
    (:func:`aladdin_calibration.tables.read_aic`). CSV may be compressed.

    Args:
        path: The file.
        clock: Of vLLM iterations, which clock column to take; by default ``step_cpu``, or else the first that is there.
        only: Of a CSV file, which rows to take: those with these values in these columns. Of aiconfigurator's one
            ``model``, ``system`` and ``tp`` must be left.
        known: Facts of the worker that a CSV file does not say (fields of :class:`WorkerFacts`).

    Raises:
        InputError: No such file, a kind that is not known, several workers in it, or values that cannot be steps.
    """
    path = Path(path)
    columns = _columns(path)
    if columns is None:
        if only:
            raise InputError("where", dict(only), "leave it out: a file of 'aladdin calibrate' is of one worker")
        return Measurement.load(path)
    if set(tables.AIC_COLUMNS) <= columns:
        steps, facts = _aic(path, only)
    elif set(tables.VLLM_COLUMNS) <= columns:
        steps, facts = _vllm(path, clock, columns, only)
    else:
        needed = f"{', '.join(tables.VLLM_COLUMNS)} and a clock, or {', '.join(tables.AIC_COLUMNS)}"
        raise InputError("path", str(path), f"give Parquet of 'aladdin calibrate', or CSV with {needed}")
    return Measurement(steps, WorkerFacts.from_dict(facts | dict(known or {})))


def _columns(path: Path) -> set[str] | None:
    """Names in the head of a CSV file, None of a Parquet file."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return None
        return set(pd.read_csv(path, nrows=0).columns)
    except (OSError, ValueError) as error:
        raise InputError("path", str(path), f"give a readable Parquet or CSV file ({error})") from error


def _vllm(
    path: Path, clock: str | None, columns: set[str], only: Mapping[str, Any] | None
) -> tuple[pd.DataFrame, dict[str, Any]]:
    there = [name for name in tables.CLOCKS if name in columns]
    if not there:
        raise InputError("path", str(path), f"give a file with one of the columns {', '.join(tables.CLOCKS)}")
    taken = clock or there[0]
    return tables.read_vllm_steps(path, taken, only), _UNKNOWN | {"clock": taken}


def _aic(path: Path, only: Mapping[str, Any] | None) -> tuple[pd.DataFrame, dict[str, Any]]:
    rows = tables.read_aic(path, only)
    keys = {name: rows[name].iloc[0] for name in ("model", "system", "tp")}
    for name in keys:
        values = sorted(set(rows[name]))
        if len(values) > 1:
            raise InputError(name, None, f"choose one of {', '.join(map(str, values))}")
    steps = tables.select_aic(rows, str(keys["model"]), str(keys["system"]), int(keys["tp"]))
    of_system = rows[rows["system"] == keys["system"]]
    facts = _UNKNOWN | {
        "model": str(keys["model"]),
        "gpu": str(keys["system"]),
        "tensor_parallel": int(keys["tp"]),
        "engine_version": str(of_system["perf_db_version"].iloc[0]),
        "clock": "composed from kernel timings",
        "not_covered": (_COMPOSED,),
    }
    return steps.loc[:, list(RAW_COLUMNS)], facts
