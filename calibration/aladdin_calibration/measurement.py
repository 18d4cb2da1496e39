"""What a calibration run brings home: observed steps, and the facts of the worker that took them.

Every way of measuring (:mod:`aladdin_calibration.engine` inside the process, :mod:`aladdin_calibration.server` from
outside, files of timings taken elsewhere) ends in one :class:`Measurement`; every profile is made of one. It is kept as
one Parquet file whose metadata holds the facts, written whole or not at all after every configuration, so that an
interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aladdin_calibration.steps import COLUMNS, KINDS, check_durations
from aladdin_traces import checks
from aladdin_traces.errors import InputError
from aladdin_traces.files import whole_file

_METADATA = b"aladdin_measurement"
_GAP_ABOUT = {"kv_capacity_tokens": "KV capacity"}  # how a gap calls a fact; others go by their own names
RAW_COLUMNS = (*COLUMNS, "repeat", "at_s")


@dataclass(frozen=True)
class WorkerFacts:
    """What is known of a worker beside the time of its steps; None is unknown, never 0.

    Attributes:
        model: Name or shape of the model.
        gpu: Device name.
        engine: Serving engine.
        engine_version: Its version.
        clock: Which clock timed the steps, in words: ``engine wall``, ``server's own``, ``client`` ...
        date: Day of the measurement (ISO).
        tensor_parallel: GPUs that the model is split over.
        kv_capacity_tokens: Tokens of KV that the worker holds.
        block_size: Tokens of a KV block.
        max_num_seqs: Most requests running at once.
        max_num_batched_tokens: Token budget of a step.
        max_model_len: Longest prompt and output together.
        prefix_cache: Whether the worker keeps the KV of prompts for later ones.
        kv_bytes_per_token: Memory of one token's keys and values.
        overhead_s: Seconds that the front end adds to a token's way to the client.
        not_covered: What could not be measured, a short sentence each.
    """

    model: str
    gpu: str
    engine: str
    engine_version: str
    clock: str
    date: str
    tensor_parallel: int = 1
    kv_capacity_tokens: int | None = None
    block_size: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_model_len: int | None = None
    prefix_cache: bool | None = None
    kv_bytes_per_token: float | None = None
    overhead_s: float | None = None
    not_covered: tuple[str, ...] = ()

    def with_gap(self, sentence: str) -> WorkerFacts:
        """The same facts with one more thing that is not covered."""
        return replace(self, not_covered=(*self.not_covered, sentence))

    def without(self, name: str, why: str) -> WorkerFacts:
        """The same facts, with ``why`` the fact of this name was not found, or only roughly, as a gap."""
        return self.with_gap(f"{_GAP_ABOUT.get(name, name)}: {why}")

    def knowing(self, **known: Any) -> WorkerFacts:
        """The same with these facts, which are unknown no longer: gaps about them go."""
        about = tuple(f"{_GAP_ABOUT.get(name, name)}: " for name in known)
        return replace(self, **known, not_covered=tuple(g for g in self.not_covered if not g.startswith(about)))

    def taking_over(self, name: str, kept: WorkerFacts) -> WorkerFacts:
        """The same with one fact of ``kept``, and with what its gaps say about that."""
        about = f"{_GAP_ABOUT.get(name, name)}: "
        facts = self.knowing(**{name: getattr(kept, name)})
        return replace(facts, not_covered=(*facts.not_covered, *(g for g in kept.not_covered if g.startswith(about))))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkerFacts:
        """The facts that ``dataclasses.asdict`` wrote; unknown keys are an InputError."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise InputError("facts", unknown[0], "this file is from another version; measure again")
        missing = sorted({"model", "gpu", "engine", "engine_version", "clock", "date"} - set(data))
        if missing:
            raise InputError("facts", missing[0], "this fact is missing; measure again")
        return cls(**{**data, "not_covered": tuple(data.get("not_covered", ()))})


@dataclass(frozen=True)
class Measurement:
    """Observed steps of one worker, and its facts.

    Attributes:
        steps: One row per observed step (or mean of equal steps): the columns of :mod:`aladdin_calibration.steps`, and
            ``repeat`` (which repetition of its configuration, from 0) and ``at_s`` (seconds since the run began).
        facts: The worker.
    """

    steps: pd.DataFrame
    facts: WorkerFacts

    def __post_init__(self) -> None:
        """Check that the steps can be steps."""
        check_steps(self.steps)

    def save(self, path: str | Path) -> None:
        """Write one Parquet file, whole or not at all."""
        table = pa.Table.from_pandas(self.steps.loc[:, list(RAW_COLUMNS)], preserve_index=False)
        facts = json.dumps(asdict(self.facts), allow_nan=False).encode()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _METADATA: facts})
        with whole_file(Path(path)) as file:
            pq.write_table(table, file, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> Measurement:
        """Read what :meth:`save` wrote; InputError for anything else."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError("path", str(path), f"give a Parquet file of measurements ({error})") from error
        written = (table.schema.metadata or {}).get(_METADATA)
        if written is None:
            raise InputError("path", str(path), "give a file that 'aladdin calibrate' wrote; this one has no facts")
        try:
            facts = dict(json.loads(written))
        except (ValueError, TypeError) as error:
            raise InputError("path", str(path), f"its facts are broken: measure again ({error})") from None
        return cls(table.to_pandas(), WorkerFacts.from_dict(facts))


def check_steps(steps: pd.DataFrame) -> None:
    """InputError unless every row can be a step: known kind, counts of 0 or more, a time that a step can take."""
    for column in RAW_COLUMNS:
        if column not in steps.columns:
            raise InputError("steps", column, "this column is missing")
    odd = sorted(set(steps["kind"]) - set(KINDS))
    if odd:
        raise InputError("steps.kind", odd[0], f"give one of {', '.join(KINDS)}")
    for column in ("prefill_tokens", "sum_squares", "batch", "context_tokens"):
        checks.numbers(f"steps.{column}", steps[column].tolist(), low=0.0)
    checks.numbers("steps.seconds", steps["seconds"].tolist(), above=0.0)
    check_durations(steps)
