"""``aladdin conformance``: what it prints, how it starts and ends routers, what it says of mistakes."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aladdin_env.bridge.conformance import CASES, PASS, PRESETS, Bounds, Suite, chosen
from aladdin_env.bridge.conformance.launch import RouterProcess, arguments, filled, free_port
from aladdin_env.cli import app
from aladdin_env.errors import InputError, OutsideFault

ROUTER = Path(__file__).with_name("routers.py")
URLS = ["http://127.0.0.1:9101", "http://127.0.0.1:9102"]
Run = Callable[..., Result]


def start(fault: str = "") -> str:
    return f"{sys.executable} {ROUTER} {{port}} '{fault}' {{backends}}"


@pytest.fixture
def run() -> Run:
    return lambda *given: CliRunner().invoke(app, ["conformance", *map(str, given)], prog_name="aladdin")


def test_all_pass(run: Run) -> None:
    done = run("--start", start(), "--json", "--case", "health", "--case", "streams_pass")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"streams_pass": "pass", "health": "pass", "reasons": {}}


def test_some_fail(run: Run) -> None:
    names = ("request_id_kept", "health", "hang_up_in_the_queue")
    given = ["--start", start("drops headers"), "--fill", 8, *(part for name in names for part in ("--case", name))]
    done = run(*given, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [found[name] for name in names] == ["fail", "pass", "skip"]
    assert set(found["reasons"]) == {"request_id_kept", "hang_up_in_the_queue"}
    table = run(*given)
    assert table.exit_code == 1 and "1 pass, 1 fail, 1 skip" in table.stdout
    assert "the backend sees" in " ".join(table.stdout.split())


def test_list(run: Run) -> None:
    assert list(json.loads(run("--list", "--json").stdout)) == [case.name for case in CASES]
    assert "death_is_told" in run("--list", "--case", "death_is_told").stdout


def test_what_only_a_started_router_shows() -> None:
    async def outcomes() -> dict[str, str]:
        bounds = Bounds(body_bytes=3_000_000)
        async with Suite(bounds=bounds) as suite:
            await suite.start(start(), 60.0)
            cases = chosen(["authorization_not_logged", "huge_body_survived", "shutdown_drains"])
            return {outcome.case.name: outcome.verdict for outcome in await suite.run(cases)}

    assert set(asyncio.run(outcomes()).values()) == {PASS}


def test_a_router_that_dies_fails_the_case_and_is_started_again() -> None:
    async def verdicts() -> list[str]:
        async with Suite(bounds=Bounds(recovery_s=2.0)) as suite:
            await suite.start(start(), 60.0)
            process = suite._ready().process
            assert process is not None
            cases = chosen(["streams_pass", "health", "malformed_json_refused"])
            told = iter([True, False, False])
            outcomes = await suite.run(cases, lambda _: process.stop() if next(told) else None)
            return [outcome.verdict for outcome in outcomes]

    assert asyncio.run(verdicts()) == [PASS, PASS, PASS]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_running_router(run: Run) -> None:
    """Backends on known ports, and a router that somebody else has pointed at them."""
    backend = next(port for port in range(21_000, 30_000, 3) if all(map(is_free, range(port, port + 3))))
    urls = [f"http://127.0.0.1:{backend + number}" for number in range(3)]
    port = free_port()
    with RouterProcess(arguments(filled(start(), port, urls)), port) as process:
        given = ("--router", process.url, "--backends", 3, "--backend-port", backend)
        done = run(*given, "--case", "models_aggregated", "--case", "shutdown_drains", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["models_aggregated"], found["shutdown_drains"]) == ("pass", "skip")
    assert f"--worker {urls[0]} --worker {urls[1]} --worker {urls[2]}" in done.stderr


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ((), 2, "--router"),
        (("--router", "http://h:1", "--start-preset", "smg"), 2, "exactly one"),
        (("--router", "h:1"), 2, "http://"),
        (("--start-preset", "smgg"), 2, "'smg'"),
        (("--start", "nothing-of-that-name {port}"), 2, "PATH"),
        (("--start", "x {nowhere}"), 2, "{backends:--worker}"),
        (("--start", "x 'y"), 2, "shell"),
        (("--start", " "), 2, "command"),
        (("--start", start(), "--case", "helth"), 2, "'health'"),
        (("--start", start(), "--backends", 1), 2, "2 or more"),
        (("--start", start(), "--fill", 0), 2, "above 0"),
        (("--start", start(), "--backend-port", 65535), 2, "--backend-port"),
        (("--start", f"{sys.executable} -c 'print(7919);exit(5)'"), 3, "code 5: 7919"),
        (("--router", "http://127.0.0.1:9", "--backend-port", 0, "--wait", 0.3), 3, "within 0.3 s"),
    ],
)
def test_mistakes(run: Run, given: tuple[object, ...], code: int, said: str) -> None:
    done = run(*given)
    assert done.exit_code == code, done.output
    assert said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_a_port_in_use(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--start", start(), "--backend-port", taken.getsockname()[1])
    assert done.exit_code == 2 and "free port" in done.stderr


def test_templates() -> None:
    text = "r --port {port} {backends} | {backends:--worker} | {backends:--url=} | {backend1}"
    first, second = URLS
    assert filled(text, 80, URLS) == (
        f"r --port 80 {first} {second} | --worker {first} --worker {second} | --url={first} --url={second} | {second}"
    )
    assert all(URLS[1] in filled(preset, 80, URLS) for preset in PRESETS.values())
    with pytest.raises(InputError, match="smgg"):
        arguments("smgg launch")


@pytest.fixture
def sleeper() -> Iterator[RouterProcess]:
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); print('up', flush=True); time.sleep(60)"
    with RouterProcess([sys.executable, "-c", code], free_port()) as process:
        yield process


def test_a_stopped_router_leaves_nothing_behind(sleeper: RouterProcess) -> None:
    while "up" not in sleeper.output():
        sleeper.check_alive()
    group = sleeper._process.pid
    assert (sleeper.peak_bytes() or 1e6) > 1e5
    sleeper.stop()
    left = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True).stdout.split()
    assert [state for state in left if not state.startswith("Z")] == []
    with pytest.raises(OutsideFault):
        sleeper.check_alive()


def test_without_aiohttp(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("aladdin_env.bridge.conformance")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    done = run("--list")
    assert done.exit_code == 2 and "aladdin-env[serve]" in done.stderr
