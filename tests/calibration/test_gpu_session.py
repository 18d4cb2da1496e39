"""The list of measurements for a GPU machine, and what is made of its files: one bad file spoils none of the others."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pandas as pd
import pytest

from experiments.calibration import gpu_results, gpu_session
from tests.calibration.test_fits import observed

FACTS = {"model": "m", "gpu": "g", "engine": "vllm", "engine_version": "0", "kv_capacity_tokens": 40_000}
FACTS |= {"block_size": 16, "max_num_seqs": 16, "max_num_batched_tokens": 512}


def record(path: Path, steps: pd.DataFrame, facts: dict[str, object] = FACTS) -> None:
    lines: list[dict[str, object]] = [{"format": 1, "began": 0, "facts": facts}]
    for row in steps.drop(columns="kind").rename(columns={"seconds": "wall_s"}).to_dict("records"):
        lines.append({**row, "repeat": 0, "at_s": 0.0, "cpu_s": row["wall_s"]})
    lines.append({"done": "all", "repeat": 0})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def serve(path: Path, complete: bool = True) -> None:
    head = {"clock": "wall", "complete": complete, "preemptions": 0, "facts": FACTS}
    rows = [
        {"arrival_s": 1.0 * i, "prompt_tokens": 64, "output_tokens": 4, "first_token_s": i + 0.1, "finish_s": i + 0.2}
        for i in range(30)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [head, *rows]))


def test_what_is_thin_or_broken_is_named_and_the_rest_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = observed(noise=0.01)
    record(tmp_path / "good.jsonl", steps)
    record(tmp_path / "thin.jsonl", steps[(steps["kind"] != "decode") | (steps["config"] == "d1x64")])
    (tmp_path / "broken.jsonl").write_text("{")
    serve(tmp_path / "good-replay-10.jsonl")
    serve(tmp_path / "good-replay-25.jsonl", complete=False)
    (tmp_path / "good-replay-30.jsonl").write_text('{"clock"')
    (tmp_path / "good-replay-40.trace.jsonl").write_text("")  # never begun
    serve(tmp_path / "thin-replay-10.jsonl")
    gpu_results.main(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    for name, why in (
        ("thin", "1 configurations of decode steps"),
        ("broken", "recorder wrote"),
        ("good-replay-25", "it was stopped with 30 of 30 served"),
        ("good-replay-30", "replayer wrote"),
        ("good-replay-40", "No such file"),
        ("thin-replay-10", "there is no profile"),
    ):
        assert any(line.startswith(f"{name} left out: ") and why in line for line in lines), (name, lines)
    assert not any("wall clock" in line for line in lines)
    assert {path.stem for path in tmp_path.glob("*.json")} == {"good"}
    results = (tmp_path / "replays.csv").read_text()
    assert set(pd.read_csv(tmp_path / "replays.csv")["case"]) == {"good-replay-10"}
    for path in (*tmp_path.glob("*.jsonl"), tmp_path / "replays.csv"):
        path.unlink()
    gpu_results.main(tmp_path, tmp_path / "again")  # from what it made of them alone
    assert (tmp_path / "again" / "replays.csv").read_text() == results and not (tmp_path / "replays.csv").exists()


def test_the_wall_clock_of_a_cpu_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "dry.jsonl", observed(noise=0.01), {**FACTS, "gpu": "CPU x, 2 threads"})
    gpu_results.main(tmp_path)
    assert capsys.readouterr().out.startswith("dry: the wall clock of a CPU that others may use: ")


def test_nothing_usable_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu_results.main(tmp_path)
    assert capsys.readouterr().out == "{}\n"


def test_replays_at_shares_of_the_capacity_come_with_their_traces(tmp_path: Path) -> None:
    task = gpu_session.Task("t", "llama-24m", gpu_session.CPU_ARGUMENTS, 30.0, (2.0,), (0.5, 1.0), replay_s=10.0)
    line = gpu_session.command(task, tmp_path, "python")
    assert [line[i + 1] for i, part in enumerate(line) if part == "--load"] == ["0.5", "1.0"]
    crowd = [json.loads(text) for text in (tmp_path / "t-replay-crowd.trace.jsonl").read_text().splitlines()]
    assert len(crowd) == 2 * 17 and {row["arrival_s"] for row in crowd} == {0.0}
    unit = [json.loads(text) for text in (tmp_path / "t-replay-50pct.trace.jsonl").read_text().splitlines()]
    assert len(unit) / unit[-1]["arrival_s"] == pytest.approx(1.0, abs=0.1)
    longest = max(row["prompt_tokens"] + row["output_tokens"] for row in (*crowd, *unit))
    assert longest <= gpu_session.CPU_ARGUMENTS["max_model_len"]
    assert line[line.index("--served") + 1] == str(tmp_path / "t-replay-2.jsonl")
    plain = gpu_session.Task("t", "llama-24m", gpu_session.CPU_ARGUMENTS, 30.0)
    assert "--crowd" not in gpu_session.command(plain, tmp_path, "python")
    assert plain.longest_s < task.longest_s


def test_a_short_time_is_for_measuring_first() -> None:
    task = gpu_session.Task("t", "llama-24m", gpu_session.CPU_ARGUMENTS, 100.0, loads=(0.5,))
    assert task.within(1000.0) == task
    short = task.within(60.0 + gpu_session.MARGIN_S / 2)
    assert short is not None and (short.budget_s, short.loads) == (60.0, (0.5,))
    assert task.within(49.0 + gpu_session.MARGIN_S / 2) is None


def test_a_run_that_is_stopped_may_write_before_it_ends(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\ntrap 'echo served > {tmp_path}/kept; kill $!; exit 143' TERM\nsleep 60 & wait\n")
    script.chmod(0o755)
    task = gpu_session.Task("t", "llama-24m", gpu_session.CPU_ARGUMENTS, 30.0)
    began = time.monotonic()
    assert gpu_session.run(task, tmp_path, str(script), 1.0).startswith("stopped after 1 s")
    assert time.monotonic() - began < 15
    assert (tmp_path / "kept").read_text() == "served\n"


def test_what_became_of_a_run_is_told(tmp_path: Path) -> None:
    task = gpu_session.Task("t", "llama-24m", gpu_session.CPU_ARGUMENTS, 30.0)
    for text, told in (("exit 0", "done in"), ("echo 'ValueError: no'; exit 1", "failed: ValueError: no")):
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        assert gpu_session.run(task, tmp_path, str(script), 10.0).startswith(told)


def test_lengths_fit_the_model() -> None:
    rng = random.Random(0)
    assert all(sum(gpu_session.lengths(rng, 1024)) <= 1024 for _ in range(1000))
