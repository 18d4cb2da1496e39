"""``aladdin replay-log``, ``shadow-report``, ``trace info`` and ``calibrate --from-log`` on decision logs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aladdin_env.cli import app
from tests.env.bridge.record.simulated import record_simulation, served_scenario
from tests.env.bridge.record.traffic import Bridge, Traffic


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "140"})


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    bridge = Bridge(path, policy="aladdin", baseline="least_request")
    bridge.ready(3)
    asyncio.run(Traffic(bridge).run(400))
    bridge.recorder.close()
    return path


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    record_simulation(path, served_scenario(8.0, 120.0), "least_request", "random")
    return path


def altered(path: Path) -> None:
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"kind":"decide"' in line and '"answer":0' in line)
    lines[at] = lines[at].replace('"answer":0', '"answer":1')
    path.write_text("\n".join(lines) + "\n")


def test_replay_says_that_all_is_the_same(events: Path) -> None:
    answer = run("replay-log", events)
    assert answer.exit_code == 0, answer.output
    assert "placements" in answer.stdout and "100.00" in answer.stdout and "First difference" not in answer.stdout
    assert "simulated under least_request" in answer.stdout


def test_replay_of_an_altered_log_is_a_no(events: Path) -> None:
    altered(events)
    answer = run("replay-log", events)
    assert answer.exit_code == 1
    assert "First difference of placements: request r" in answer.stdout
    assert "least_request answered slot 1, and answers slot 0 now" in answer.stdout
    assert "waiting prompt tokens" in answer.stdout


def test_another_policy_may_differ(events: Path) -> None:
    answer = run("replay-log", events, "--policy", "random")
    assert answer.exit_code == 0
    assert "of random" in answer.stdout and "First difference" in answer.stdout
    assert "simulated under random" in answer.stdout


def test_replay_in_json(events: Path) -> None:
    found = json.loads(run("replay-log", events, "--json").stdout)
    assert found["decisions"]["same"] is True and found["decisions"]["placements"]["share"] == 1.0
    assert found["decisions"]["shadow"]["asked"] > 50
    assert set(found["simulation"]["recorded"]) == set(found["simulation"]["simulated"])
    altered(events)
    answer = run("replay-log", events, "--json")
    assert answer.exit_code == 1
    first = json.loads(answer.stdout)["decisions"]["placements"]["first"]
    assert (first["recorded"], first["answered"], first["asked"]) == (1, 0, "least_request")


def test_a_log_of_requests_is_simulated_only(requests: Path) -> None:
    answer = run("replay-log", requests)
    assert answer.exit_code == 0
    assert "Decisions: not in this log" in answer.stdout and "simulated under least_request" in answer.stdout
    assert json.loads(run("replay-log", requests, "--json").stdout)["decisions"] is None


def test_a_log_without_served_requests_is_replayed_all_the_same(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path / "log.jsonl")
    bridge.ready(1)
    bridge.dispatcher.place(bridge.enter())
    bridge.recorder.close()
    answer = run("replay-log", tmp_path / "log.jsonl")
    assert answer.exit_code == 0
    assert "Not simulated" in answer.stdout and "100.00" in answer.stdout


def test_the_shadow_report_is_a_table(requests: Path) -> None:
    answer = run("shadow-report", requests, "--seeds", 2)
    assert answer.exit_code == 0, answer.output
    assert "random would have answered as least_request did for 100.0 %" in answer.stdout.replace("\n", " ")
    for part in ("SLO met, %", "TTFT p99, ms", "ATGT p50, ms", "GPU-seconds", "cost", "simulator's error", "recorded"):
        assert part in answer.stdout, part
    assert "Guard rails" in answer.stdout


def test_the_shadow_report_in_json(requests: Path) -> None:
    found = json.loads(run("shadow-report", requests, "--seeds", 2, "--block", 5, "--json").stdout)
    assert (found["policy"], found["baseline"], found["seeds"]) == ("random", "least_request", 2)
    assert found["blocks"] == round(found["span_s"] / 5)
    (met,) = [line for line in found["lines"] if line["measure"] == "slo_attainment"]
    assert set(met) == {"measure", "recorded", "acting", "shadow", "error", "gain", "is_doubtful"}
    assert met["gain"]["low"] <= met["gain"]["value"] <= met["gain"]["high"]
    assert met["is_doubtful"] is False


@pytest.mark.parametrize("command", ["shadow-report", "replay-log"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the file is empty"),
        ("a,b\n", "begins with a header"),
        ('{"aladdin_log":7}\n', "reads version 1"),
        (None, "no such file"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, command: str, content: str | None, told: str) -> None:
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_text(content)
    answer = run(command, path)
    assert answer.exit_code == 2 and answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("aladdin: ") and told in line and "log.jsonl" in line


def test_a_report_without_shadow_answers_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    record_simulation(
        path, served_scenario(4.0, 20.0), "least_request", "random", mode="active", shadow=lambda *_: None
    )
    answer = run("shadow-report", path)
    assert answer.exit_code == 2 and "no shadow answers" in answer.stderr


def test_two_runs_are_not_replayed_as_one(events: Path, requests: Path) -> None:
    events.write_text(events.read_text() + requests.read_text().replace("12:30:00", "13:30:00", 1))
    answer = run("replay-log", events)
    assert answer.exit_code == 2 and "2 runs" in answer.stderr


def test_a_log_is_a_trace_for_the_other_commands(events: Path, requests: Path, tmp_path: Path) -> None:
    served = json.loads(run("trace", "info", requests, "--json").stdout)
    assert served["requests"] > 500
    assert json.loads(run("trace", "info", events, "--json").stdout)["dropped"]
    out = tmp_path / "trace.csv"
    assert run("trace", "convert", requests, out).exit_code == 0
    assert len(out.read_text().splitlines()) == served["requests"] + 1


@pytest.mark.slow
def test_a_profile_is_fitted_to_a_log(tmp_path: Path) -> None:
    path, out = tmp_path / "log.jsonl", tmp_path / "profile.json"
    record_simulation(path, served_scenario(3.0, 100.0, initial=1), "least_request", "aladdin")
    limits = ("--max-num-seqs", 16, "--max-num-batched-tokens", 8192)
    answer = run("calibrate", "--from-log", path, "--out", out, *limits, "--json")
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["errors"]["tpot_mean"] < 0.05
