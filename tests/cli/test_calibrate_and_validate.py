"""``aladdin calibrate`` and ``aladdin validate``: what they make of files, and of mistakes."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from aladdin_calibration.cli.calibrate import _doubt
from aladdin_calibration.measurement import Measurement, WorkerFacts
from aladdin_env.cli.app import app
from aladdin_env.latency import LatencyProfile, load_profile
from tests.calibration.mock_vllm import MockVllm, serving
from tests.calibration.request_log.logs import AMPLE, served, workload


def steps_of(profile: LatencyProfile, noise: float = 0.01) -> pd.DataFrame:
    """Steps that a worker with this profile would show, three of each configuration."""
    rng, rows = np.random.default_rng(0), []
    kinds = [("prefill", n, 0, 0) for n in (16, 32, 64, 128, 256, 512, 1024, 2048)]
    kinds += [("decode", 0, b, b * c) for b in (1, 2, 4, 8, 16, 32) for c in (64, 256, 1024)]
    kinds += [("mixed", n, b, b * 256) for n in (64, 256, 1024) for b in (1, 8, 32)]
    for kind, tokens, batch, context in kinds:
        exact = profile.mixed_s(tokens, batch, context)
        exact = profile.prefill_s(tokens) if kind == "prefill" else exact
        exact = profile.decode_s(batch, context) if kind == "decode" else exact
        for repeat in range(3):
            row = {"kind": kind, "config": f"{kind}-{tokens}-{batch}-{context}", "prefill_tokens": tokens}
            row |= {"sum_squares": float(tokens**2), "batch": batch, "context_tokens": context}
            rows.append(row | {"seconds": exact * rng.normal(1.0, noise), "repeat": repeat, "at_s": 0.1 * len(rows)})
    return pd.DataFrame(rows)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    facts = WorkerFacts("m", "g", "vllm", "1", "wall", "2026-01-01", kv_capacity_tokens=40_000, max_num_seqs=64)
    path = tmp_path / "steps.parquet"
    Measurement(steps_of(load_profile("llama-3.1-8b-h100-tp1")), facts).save(path)
    return path


def test_a_profile_and_a_report_are_made_of_a_measurement(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    done = CliRunner().invoke(app, ["calibrate", "--from", str(measured), "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    found, true = LatencyProfile.from_json(out), load_profile("llama-3.1-8b-h100-tp1")
    assert found.name == "mine"
    assert found.kv_capacity_tokens == 40_000
    assert told["errors"] == found.provenance.errors
    assert found.decode_s(16, 4096) == pytest.approx(true.decode_s(16, 4096), rel=0.03)
    assert found.prefill_s(700) == pytest.approx(true.prefill_s(700), rel=0.05)
    assert {Path(file).name for file in told["files"]} == {"mine.json", "mine.png", "mine.md"}
    assert all((tmp_path / file).exists() for file in ("mine.png", "mine.md"))


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


MISTAKES = [
    ([], "exactly one of"),
    (["--from", "a.csv", "--from-log", "b.csv"], "exactly one of"),
    (["--from", "no-such.csv"], "no-such.csv"),
    (["--from", "units.csv"], "seconds"),
    (["--from", "text.csv"], "text.csv"),
    (["--from-log", "log.csv"], "--max-num-seqs"),
    (["--from-log", "log.csv", "--where", "gpu"], "NAME=VALUE"),
    (["--engine", "shape", "--python", "no-such-python"], "interpreter"),
    (["--engine", "shape", "--python", sys.executable], "vllm"),
    (["--engine", "/no/such/model"], "engine: '/no/such/model' is not valid; no such folder"),
    (["--engine", "models/llama/8b"], "no such folder"),
    (["--from", "steps.parquet", "-o", "README.json"], "go over README.md, which is not one"),
    (["--url", "http://127.0.0.1:{port}", "--yes", "-o", "README.json"], "go over README.md, which is not one"),
    (["--engine", "shape", "--engine-arg", "dtype"], "NAME=VALUE"),
    (["--url", "ftp://worker"], "http://worker:8000"),
    (["--url", "http://127.0.0.1:{port}", "--yes"], "start the server"),
    (["--url", "http://127.0.0.1:{port}", "--max-share", "2", "--yes"], "max_share"),
    (["--from", "steps.parquet", "-o", "profile.txt"], ".json"),
    (["--from", "steps.parquet", "-o", "no/such/folder/profile.json"], "folder"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_mistakes_are_one_line_and_leave_nothing(
    arguments: list[str], said: str, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.csv").write_text("a,b\n1,x\n")
    Path("README.md").write_text("# A project\n")
    head = "phase,config,rep,n_prefill,sum_prefill,prefill_past,sum_sq,n_decode,sum_ctx,step_wall\n"
    rows = [f"decode,{b}x128,{r},0,0,0,0,{b},{128 * b},{4e4}\n" for b in (1, 2, 4, 8) for r in range(5)]
    Path("units.csv").write_text(head + "".join(rows))
    Path("log.csv").write_text("arrival_s,first_token_s,last_token_s,prompt_tokens,output_tokens\n0,1,2,10,5\n")
    before = set(tmp_path.iterdir())
    port = str(closed_port())
    done = CliRunner().invoke(app, ["calibrate", *(a.replace("{port}", port) for a in arguments)])
    assert done.exit_code == 2, done.output
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("aladdin: ") and said in last
    assert "Traceback" not in done.output
    assert set(tmp_path.iterdir()) == before


def test_validate_refuses_what_it_can_before_it_asks_a_server() -> None:
    given = ["validate", "--url", f"http://127.0.0.1:{closed_port()}", "--profile", "llama-3.1-8b-h100-tp1"]
    for more, said in (
        (["--clock", "sun"], "--clock"),
        (["--atgt", "0.001"], "--atgt: 0.001 is not valid; infeasible"),
        (["--rate", "0"], "rate"),
    ):
        done = CliRunner().invoke(app, [*given, *more])
        assert done.exit_code == 2
        assert said in done.stderr and "start the server" not in done.stderr


def test_validate_without_objectives_takes_those_that_an_empty_worker_holds_with_ease() -> None:
    """The default scenario's are for GPUs: by them a profile of a CPU would be refused before all else."""
    given = ["validate", "--profile", "llama-110m-cpu", "--rate", "4", "--horizon", "2", "--max-output", "8"]
    with serving(model="llama-110m") as mock:
        done = CliRunner().invoke(app, [*given, "--url", mock.url, "--atgt", "0.5", "--json"])
    assert done.exit_code == 0, done.output
    told, words = json.loads(done.stdout)["slo"], " ".join(done.stderr.split())
    assert told["atgt_s"] == 0.5 and told["ttft_s"] > 5 * load_profile("llama-110m-cpu").prefill_s(64)
    assert f"judged by --ttft {told['ttft_s']:g} (s), 5 times what an empty worker takes" in words
    unasked = [*given, "--url", f"http://127.0.0.1:{closed_port()}"]
    for more, said in (
        (["--policy", "nope"], "placement policy: 'nope'"),
        (["--scenario", "short-day"], "--atgt: 0.0"),
    ):
        done = CliRunner().invoke(app, [*unasked, *more])
        assert done.exit_code == 2 and said in done.stderr and "start the server" not in done.stderr


def test_validate_takes_limits_from_the_profile_and_says_which_it_assumes(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    assert CliRunner().invoke(app, ["calibrate", "--from", str(measured), "-o", str(out)]).exit_code == 0
    with serving() as mock:
        asked = ["validate", "--url", mock.url, "--profile", str(out), "--rate", "4", "--horizon", "2"]
        done = CliRunner().invoke(app, [*asked, "--max-output", "8", "--block-size", "32"])
    assert done.exit_code == 0, done.output
    assert "max-num-seqs" not in done.stderr and "block-size" not in done.stderr
    assert "simulating servers with --max-num-batched-tokens 8192" in done.stderr
    assert "the profile is of" not in done.stderr


def test_validate_says_so_where_the_profile_is_of_another_model() -> None:
    with serving(model="other") as mock:
        asked = ["validate", "--url", mock.url, "--profile", "llama-110m-cpu", "--rate", "4", "--horizon", "2"]
        done = CliRunner().invoke(app, [*asked, "--max-output", "8", "--atgt", "1"])
    assert done.exit_code == 0, done.output
    assert f"{mock.url} serves other, the profile is of" in " ".join(done.stderr.split())


def test_validate_needs_servers_that_answer() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    done = CliRunner().invoke(app, ["validate", "--url", url, "--profile", "llama-3.1-8b-h100-tp1"])
    assert done.exit_code == 2
    assert url in done.stderr and "Traceback" not in done.output


def test_a_fault_of_the_server_is_no_mistake_of_the_user(tmp_path: Path) -> None:
    with serving(fault="status") as mock:
        done = CliRunner().invoke(app, ["calibrate", "--url", mock.url, "--yes", "-o", str(tmp_path / "p.json")])
    assert done.exit_code == 3
    assert done.stderr.strip().splitlines()[-1].startswith("aladdin: ")
    assert "answers 503: overloaded" in done.stderr and "is not valid" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_laws_that_miss_by_much_are_warned_of(tmp_path: Path) -> None:
    facts = WorkerFacts("m", "g", "vllm", "1", "wall", "2026-01-01", kv_capacity_tokens=40_000, max_num_seqs=64)
    path, out = tmp_path / "steps.parquet", tmp_path / "p.json"
    for noise, warned in ((0.01, False), (0.4, True)):
        steps = steps_of(load_profile("llama-3.1-8b-h100-tp1"), noise)
        Measurement(steps.assign(seconds=steps["seconds"].clip(lower=1e-4)), facts).save(path)
        done = CliRunner().invoke(app, ["calibrate", "--from", str(path), "-o", str(out)])
        assert done.exit_code == 0, done.output
        assert ("warning: this profile misses by much" in done.stdout) == warned


def test_a_profile_with_too_little_memory_is_named(tmp_path: Path) -> None:
    tiny = replace(load_profile("llama-3.1-8b-h100-tp1"), kv_capacity_tokens=3)
    tiny.to_json(tmp_path / "tiny.json")
    given = ["validate", "--url", f"http://127.0.0.1:{closed_port()}", "--profile", str(tmp_path / "tiny.json")]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 2
    assert "profile.kv_capacity_tokens: 3 is not valid; give at least block_size (16)" in done.stderr


def validated(url: str, *more: str) -> Result:
    asked = ["validate", "--url", url, "--profile", "llama-110m-cpu", "--atgt", "1", "--max-output", "8"]
    return CliRunner().invoke(app, [*asked, *more])


def one_line_of_the_servers_fault(done: Result) -> str:
    assert done.exit_code == 3, done.output
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("aladdin: ") and "is not valid" not in done.stderr and "Traceback" not in done.output
    return last


@pytest.mark.parametrize(
    ("fault", "after", "said"),
    [("status", 0, "the server answers 503: overloaded"), ("status", 5, "503"), ("broken", 3, "the stream broke off")],
)
def test_validate_of_a_server_that_fails_is_no_mistake_of_the_user(
    fault: str, after: int, said: str, tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    with serving(fault=fault, fault_after=after) as mock:
        done = validated(mock.url, "--rate", "20", "--horizon", "2", "--out", str(out))
    last = one_line_of_the_servers_fault(done)
    assert said in last and "requests failed" in last
    rows = pd.read_csv(out, keep_default_na=False)
    assert (rows["error"] == "").sum() == after
    assert rows["arrival_s"].max() > 1.5  # it answers, so it is asked to the end


def test_validate_ends_with_a_server_that_is_gone_and_keeps_the_rows(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    with ExitStack() as stack:
        mock = stack.enter_context(serving())
        end = threading.Timer(3.0, stack.close)  # some 2 s after the first request, of 60 s
        threading.Thread(target=lambda: (wait_for_requests(mock), end.start()), daemon=True).start()
        began = time.monotonic()
        done = validated(mock.url, "--rate", "10", "--horizon", "60", "--out", str(out))
        assert time.monotonic() - began < 30
        end.join()
    last = one_line_of_the_servers_fault(done)
    assert f"{mock.url} stopped answering (no connection (Connection refused), 10 times in a row)" in last
    rows = pd.read_csv(out, keep_default_na=False)
    assert (rows["error"] == "").sum() > 5 and rows["error"].str.startswith("no connection").sum() >= 10
    assert len(rows) < 200 and rows["arrival_s"].is_monotonic_increasing


def wait_for_requests(mock: MockVllm) -> None:
    while not mock.bodies:
        time.sleep(0.05)


def test_validate_names_the_mistake_of_a_policy() -> None:
    with serving() as mock:
        done = validated(mock.url, "--rate", "5", "--horizon", "2", "--policy", "toy_silly")
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output and "toy_silly" in done.stderr.strip().splitlines()[-1]


def test_what_stands_in_and_what_is_known_better(tmp_path: Path) -> None:
    """Stand-ins are gaps of their own, also with --from; a limit that the user gives is none."""
    path, out = tmp_path / "steps.parquet", tmp_path / "p.json"
    facts = WorkerFacts("m", "g", "vllm", "1", "wall", "2026-01-01").without("max_num_seqs", "not reached with 9")
    Measurement(steps_of(load_profile("llama-3.1-8b-h100-tp1")), facts).save(path)
    asked = ["calibrate", "--from", str(path), "-o", str(out), "--json"]
    gaps = json.loads(CliRunner().invoke(app, asked).stdout)["not_covered"]
    assert gaps[0] == "max_num_seqs: not reached with 9"
    assert [gap.split(" unknown")[0] for gap in gaps[1:3]] == ["KV capacity", "KV bytes per token"]
    known = json.loads(CliRunner().invoke(app, [*asked, "--max-num-seqs", "64"]).stdout)["not_covered"]
    assert known == gaps[1:]


@pytest.fixture
def served_csv(tmp_path: Path) -> Path:
    """A log of an unhurried server, with columns that tell what it was."""
    log = served(workload(90, 1.0), AMPLE)
    columns = {"arrival_s": log.trace.arrival_s, "first_token_s": log.first_token_s, "last_token_s": log.last_token_s}
    columns |= {"prompt_tokens": log.trace.prompt_tokens, "output_tokens": log.trace.output_tokens}
    path = tmp_path / "log.csv"
    told = {"model": "its/Model", "hardware": "X1", "tp": 2, "vllm": "0.19.0", "max_num_seqs": 64}
    pd.DataFrame(columns).assign(**told).to_csv(path, index=False)
    return path


def test_a_log_tells_what_it_knows(served_csv: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    asked = ["calibrate", "--from-log", str(served_csv), "--max-num-batched-tokens", "2048", "-o", str(out), "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    told, source = json.loads(done.stdout), LatencyProfile.from_json(out).provenance
    assert (source.model, source.gpu, source.tensor_parallel) == ("its/Model", "X1", 2)
    assert source.engine_version == "0.19.0" and source.limits["max_num_seqs"] == 64
    kv = told["kv_capacity_tokens"]
    assert kv["identified"] is False and 0 < kv["low"] <= kv["tokens"] and kv["high"] is None
    assert told["hardly_queued"]["requests"] == 90 and told["warning"] is None
    assert told["hardly_queued"]["simulated_s"] == pytest.approx(told["hardly_queued"]["logged_s"], rel=0.05)
    wrong = CliRunner().invoke(app, [*asked, "--max-num-seqs", "32"])
    assert wrong.exit_code == 2 and "max_num_seqs: 32 is not valid; the log's own column" in wrong.stderr


def test_the_ttft_of_hardly_queued_requests_has_a_warning_of_its_own() -> None:
    assert _doubt({"ttft_mean": 0.01, "ttft_unqueued_in_sample_mean": 0.2}) is None
    told = _doubt({"ttft_mean": 0.01, "ttft_unqueued_in_sample_mean": 0.55, "ttft_unqueued_in_sample_p99": 0.9})
    assert told is not None and "ttft_unqueued_in_sample_mean 55%" in told and "where requests hardly queue" in told
    both = _doubt({"ttft_mean": 0.2, "ttft_unqueued_mean": 0.55})
    assert both is not None and "ttft_mean 20%" in both and "quieter machine" in both


def csv_of(steps: pd.DataFrame, gpu: str) -> pd.DataFrame:
    """Iterations of vLLM's kind."""
    prompts = (steps["prefill_tokens"] > 0).astype(int)
    plain = {"config": steps["config"], "n_prefill": prompts, "sum_prefill": steps["prefill_tokens"]}
    plain |= {"sum_sq": steps["sum_squares"], "n_decode": steps["batch"], "sum_ctx": steps["context_tokens"]}
    return pd.DataFrame(plain | {"rep": steps["repeat"], "step_wall": 1e3 * steps["seconds"], "gpu": gpu})


def test_one_run_of_a_csv_and_the_models_name(tmp_path: Path) -> None:
    path, out = tmp_path / "steps.csv", tmp_path / "mine.json"
    true = load_profile("llama-3.1-8b-h100-tp1")
    other = steps_of(true).assign(seconds=lambda s: 3.0 * s["seconds"])
    pd.concat([csv_of(other, "slow"), csv_of(steps_of(true), "fast")]).to_csv(path, index=False)
    asked = ["calibrate", "--from", str(path), "--model", "my-model", "--kv-capacity-tokens", "40000", "-o", str(out)]
    done = CliRunner().invoke(app, [*asked, "--where", "gpu=fast"])
    assert done.exit_code == 0, done.output
    found = LatencyProfile.from_json(out)
    assert found.provenance.model == "my-model" and found.kv_capacity_tokens == 40_000
    assert found.decode_s(16, 4096) == pytest.approx(true.decode_s(16, 4096), rel=0.03)
    wrong = CliRunner().invoke(app, [*asked, "--where", "gpu=fsat"])
    assert wrong.exit_code == 2 and "where gpu: 'fsat' is not valid; did you mean 'fast'?" in wrong.stderr


def test_a_measurement_takes_the_models_name(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    done = CliRunner().invoke(app, ["calibrate", "--from", str(measured), "--model", "my-model", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert LatencyProfile.from_json(out).provenance.model == "my-model"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "steps.parquet", "--where", "gpu=x"], "leave it out"),
        (["--from", "run.jsonl", "--where", "gpu=x"], "leave it out"),
        (["--engine", "shape", "--where", "gpu=x"], "--where: 'gpu=x' is not valid; leave it out"),
        (["--url", "http://127.0.0.1:1", "--where", "gpu=x"], "--where: 'gpu=x' is not valid; leave it out"),
        (["--from", "words.csv"], "step_wall[5]: 'long' is not valid; give a number in column step_wall, row 5"),
        (["--from", "head.csv"], "no rows"),
        (["--from", "broken.parquet"], "facts are broken"),
        (["--engine", "shape", "--python", sys.executable], "pip install 'aladdin-env[vllm]'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_more_mistakes_are_one_line(
    arguments: list[str], said: str, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = csv_of(steps_of(load_profile("llama-3.1-8b-h100-tp1")), "x").astype({"step_wall": object})
    table.head(0).to_csv("head.csv", index=False)
    table.loc[5, "step_wall"] = "long"
    table.to_csv("words.csv", index=False)
    Path("run.jsonl").write_text("")
    broken = pq.read_table(measured).replace_schema_metadata({b"aladdin_measurement": b'{"model":'})
    pq.write_table(broken, "broken.parquet")
    done = CliRunner().invoke(app, ["calibrate", *arguments])
    assert done.exit_code == 2, done.output
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("aladdin: ") and said in last
    assert "Traceback" not in done.output
