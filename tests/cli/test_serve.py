"""``aladdin serve`` as a program: mistakes in one line, a demo that answers, a stop that ends cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from typer.testing import CliRunner

from aladdin_env.cli import app
from aladdin_traces.readers import read_trace

WORKER = ["--worker", "http://127.0.0.1:9"]


def said(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert "Traceback" not in done.output
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --worker URL, --local COMMAND, --kubernetes deploy/NAME, --demo"),
        ([*WORKER, "--demo"], "workers: '--worker and --demo' is not valid"),
        (["--worker", "gpu1:8000"], "worker: 'gpu1:8000' is not valid"),
        ([*WORKER, *WORKER], "give each worker once"),
        ([*WORKER, "--port", "70000"], "--port: 70000 is not valid; give 0 to 65535"),
        ([*WORKER, "--policy", "aladin"], "did you mean 'aladdin'"),
        ([*WORKER, "--policy", "none.npz"], "there is no such file"),
        ([*WORKER, "--mode", "bold"], "mode: 'bold' is not valid; choose one of shadow, canary, active"),
        ([*WORKER, "--canary", "3"], "canary: 3"),
        ([*WORKER, "--profile", "h100"], "h100"),
        ([*WORKER, "--ttft", "-1"], "slo.ttft_s: -1"),
        ([*WORKER, "--step", "0"], "step: 0 is not valid"),
        ([*WORKER, "--api-key-env", "NO_SUCH_VARIABLE"], "the variable has no key"),
        (["--local", "vllm serve m --port {port}", "--min", "5", "--max", "2"], "min: 5 is not valid"),
        (["--local", "vllm serve m"], "{port}"),
        (["--kubernetes", "vllm"], "deploy/"),
    ],
)
def test_mistakes(arguments: list[str], message: str) -> None:
    code, output = said(*arguments)
    assert code == 2 and message in output, output


@pytest.mark.slow
def test_a_demo_answers_records_and_stops(tmp_path) -> None:
    log = tmp_path / "decisions.jsonl"
    command = [
        sys.executable,
        "-m",
        "aladdin_env.cli",
        "serve",
        "--demo",
        "--min",
        "1",
        "--port",
        "0",
        "--max-hold",
        "100",
    ]
    command += ["--record", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as bridge:
        try:
            assert bridge.stdout is not None
            url = next(word for line in bridge.stdout for word in line.split() if word.startswith("http"))
            body = json.dumps({"model": "demo", "prompt": "hello", "max_tokens": 4, "ignore_eos": True}).encode()
            asked = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=120) as answer:  # held until the worker is up
                assert json.load(answer)["usage"]["completion_tokens"] == 4
            with urllib.request.urlopen(f"{url}/status", timeout=10) as answer:
                assert json.load(answer)["mode"] == "active"
            with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
                assert b"aladdin_requests_total" in answer.read()
            bridge.send_signal(signal.SIGTERM)
            assert bridge.wait(60) == 0
        finally:
            if bridge.poll() is None:
                os.killpg(bridge.pid, signal.SIGKILL)
    trace = read_trace(log)
    assert trace.output_tokens.tolist() == [4]
    assert log.stat().st_mode & 0o777 == 0o600
