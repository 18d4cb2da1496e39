"""``aladdin worker`` as a program: ready line, signals, exit codes, and what an import of it costs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.env.bridge.emulator.cases import toy_profile

PATIENCE_S = 120.0  # a start compiles where nobody has yet


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("profiles") / "toy.json"
    toy_profile(prefill_s=0.05, decode_s=0.05).to_json(path)
    return path


def command(profile: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "aladdin_env.cli", "worker", "--profile", str(profile), *options]


@contextmanager
def program(profile: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program on a free port, and the address that it tells once it is ready."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(profile, "--port", "0", *options), **pipes)  # type: ignore[call-overload]
    too_long = threading.Timer(PATIENCE_S, process.kill)
    too_long.start()
    try:
        line = process.stdout.readline()
        assert " on http://127.0.0.1:" in line, (line, process.stderr.read())
        yield process, line.split()[-1]
    finally:
        too_long.cancel()
        process.kill()
        process.communicate()


def completion(url: str, tokens: int):
    body = json.dumps({"prompt": "hello", "max_tokens": tokens, "ignore_eos": True, "stream": True}).encode()
    request = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=PATIENCE_S)


def test_sigterm_lets_those_under_way_end_if_it_may(profile: Path) -> None:
    with program(profile, "--shutdown-timeout", "60", "--model", "toy") as (process, url):
        with completion(url, 8) as response:
            first = response.readline()
            process.send_signal(signal.SIGTERM)
            rest = response.read()
        assert b'"model": "toy"' in first
        assert rest.endswith(b"data: [DONE]\n\n")
        assert (first + rest).count(b'"text"') == 8
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (0, "", "")


def test_sigterm_breaks_off_otherwise(profile: Path) -> None:
    with program(profile) as (process, url):
        with completion(url, 2000) as response:
            response.readline()
            process.send_signal(signal.SIGTERM)
            with pytest.raises((HTTPException, ConnectionError)):
                response.read()
        _, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, err) == (0, "")


def test_ctrl_c_is_told_as_in_every_command(profile: Path) -> None:
    with program(profile) as (process, _):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, err) == (130, "aladdin: interrupted\n")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--speed", "0"], "speed: 0.0 is not valid"),
        (["--port", "70000"], "--port: 70000 is not valid"),
        (["--scheduler", "split"], "scheduler"),
        (["--profile", "llama-3.1-8b-h100-tp9"], "did you mean"),
        (["--shutdown-timeout", "-1"], "--shutdown-timeout: -1.0 is not valid"),
    ],
)
def test_mistakes_are_told_in_one_line(profile: Path, options: list[str], text: str) -> None:
    done = subprocess.run(command(profile, *options), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("aladdin: ")
    assert text in line


def test_a_taken_port_is_told_in_one_line(profile: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(command(profile, "--port", str(port)), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"aladdin: port: {port} is not valid; something listens there already")


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['aiohttp'] = None; import aladdin_env.bridge.emulator"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert "aiohttp: None is not valid; it is missing: pip install 'aladdin-env[serve]'" in done.stderr


def test_the_command_is_imported_without_the_server() -> None:
    code = "import sys, aladdin_env.cli.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert not {"aiohttp", "prometheus_client", "uvloop"} & set(done.stdout.split())
