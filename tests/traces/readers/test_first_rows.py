"""Which format a file is taken for where several would do, by its first rows and not by the very first alone."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from aladdin_traces import Trace, read_trace
from aladdin_traces.errors import InputError
from aladdin_traces.readers.registry import choose_reader
from aladdin_traces.source import open_source
from aladdin_traces.writers import write_trace


def lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def request(**more: object) -> dict[str, object]:
    return {"input_length": 256, "output_length": 128, **more}


CASES = {
    "whole milliseconds": ([request(timestamp=0), request(timestamp=1500)], "aiperf", [0.0, 1.5]),
    "seconds, the first one whole": ([request(timestamp=0), request(timestamp=1.5)], "guidellm", [0.0, 1.5]),
    "seconds with blocks": (
        [request(timestamp=0.5, hash_ids=[0]), request(timestamp=1.5, hash_ids=[1])],
        "guidellm",
        [0.0, 1.0],
    ),
    "a session in a later row": (
        [request(timestamp=0, hash_ids=[0]), request(timestamp=2000, hash_ids=[0], session_id="a")],
        "aiperf",
        [0.0, 2.0],
    ),
    "a delay in a later row": (
        [request(timestamp=0, hash_ids=[0], session_id="a"), request(delay=500, hash_ids=[0], session_id="a")],
        "aiperf",
        [0.0, 0.5],
    ),
    "no output length": ([{"timestamp": 0, "input_length": 655, "hash_ids": [46, 47]}], "aiperf", [0.0]),
    "lengths alone": ([request()], "aiperf", [0.0]),
    "mooncake": ([request(timestamp=0, hash_ids=[0]), request(timestamp=27000, hash_ids=[1])], "mooncake", [0.0, 27.0]),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_tell_the_format(tmp_path: Path, case: str) -> None:
    rows, name, arrivals = CASES[case]
    path = lines(tmp_path / "trace.jsonl", *rows)
    assert choose_reader(open_source(path)).name == name
    assert read_trace(path, name).arrival_s.tolist() == pytest.approx(arrivals, abs=3.0 if name == "mooncake" else 1e-9)


def test_parts_of_prompts_in_parquet_are_ragpulses(tmp_path: Path) -> None:
    rows = [request(timestamp=27, session_id="a", hash_ids={"sys_prompt": [1], "history": [2, 3]})]
    pd.DataFrame(rows).to_parquet(tmp_path / "rag.parquet")
    assert choose_reader(open_source(tmp_path / "rag.parquet")).name == "ragpulse"
    assert len(read_trace(tmp_path / "rag.parquet")) == 1


def test_damaged_names_in_parquet_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"arrival_s": [0.0], "prompt_tokens": [5], "output_tokens": [5]}).to_parquet(path)
    path.write_bytes(path.read_bytes().replace(b"arrival_s", b"arri\x9dal_s"))
    with pytest.raises(InputError, match="damaged"):
        read_trace(path)


def test_sessions_survive_aiperf(tmp_path: Path) -> None:
    trace = Trace.from_arrays([0.0, 1.0, 2.0], [5, 6, 7], [1, 2, 3], session=["a", None, "b"])
    write_trace(trace, tmp_path / "t.jsonl", "aiperf")
    assert read_trace(tmp_path / "t.jsonl", "aiperf") == trace
