"""A server process under its supervisor: its log, its end, and that nothing of it is ever left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aladdin_env.bridge.workers import process as module
from aladdin_env.bridge.workers.process import ServerProcess
from aladdin_env.bridge.workers.timing import REAL_TIME

SAYS_AND_SLEEPS = "import time; print('up', flush=True); time.sleep(1000)"
IGNORES_TERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SAYS_AND_SLEEPS}"
#: Starts a child in its own group and one in a session of its own, tells their ids, and goes on.
HAS_CHILDREN = """
import os, subprocess, sys, time
near = subprocess.Popen(["sleep", "1000"])
far = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("ids", os.getpid(), near.pid, far.pid, flush=True)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(happens, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def said(log: Path, pattern: str) -> list[str]:
    """The groups of ``pattern`` once the log has it."""
    wait_until(lambda: log.exists() and re.search(pattern, log.read_text()))
    return list(re.search(pattern, log.read_text()).groups())


async def run(code: str, log: Path) -> ServerProcess:
    return await ServerProcess.start(python(code), dict(os.environ), log)


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("raise SystemExit(3)", "it ended with exit status 3"),
        ("pass", "it ended with exit status 0"),
        ("import os; os.kill(os.getpid(), 9)", "it was ended by SIGKILL"),
        ("raise SystemExit(200)", "it ended with exit status 200"),
    ],
)
def test_how_a_server_ended_is_told(code: str, end: str, tmp_path: Path) -> None:
    async def story() -> None:
        process = await run(code, tmp_path / "log")
        await asyncio.wait_for(process.ended.wait(), 20)
        assert process.end == end
        await process.stop(1.0, REAL_TIME)  # late, and harmless

    asyncio.run(story())


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    async def story() -> None:
        process = await ServerProcess.start([str(tmp_path)], dict(os.environ), tmp_path / "log")
        await asyncio.wait_for(process.ended.wait(), 20)
        assert process.end == "it ended with exit status 127"
        assert process.last_words() == f"cannot run {tmp_path}: Permission denied"

    asyncio.run(story())


def test_last_words_are_of_both_outputs_and_of_this_server_only(tmp_path: Path) -> None:
    async def story() -> None:
        for text in ("first", "second"):
            code = f"import sys; print('{text} out', flush=True); print('{text} err', file=sys.stderr)"
            process = await run(code, tmp_path / "log")
            await asyncio.wait_for(process.ended.wait(), 20)
            assert process.last_words() == f"{text} out\n{text} err"
        assert "first" in (tmp_path / "log.1").read_text()

    asyncio.run(story())


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOG_BYTES", 10_000)

    async def story() -> None:
        code = "for i in range(3000): print('line', i, 'x' * 40)\nprint('y' * 100_000 + 'end')"
        process = await run(code, tmp_path / "log")
        await asyncio.wait_for(process.ended.wait(), 20)
        assert process.last_words().endswith("end")

    asyncio.run(story())
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1"]
    assert all(file.stat().st_size < 40_000 for file in files)


def test_term_ends_it_and_kill_who_ignores_that(tmp_path: Path) -> None:
    async def story() -> None:
        for code, end in ((SAYS_AND_SLEEPS, "SIGTERM"), (IGNORES_TERM, "SIGKILL")):
            log = tmp_path / end
            process = await run(code, log)
            said(log, "up()")
            await process.stop(0.2 if end == "SIGKILL" else 20.0, REAL_TIME)
            assert process.ended.is_set() and process.end == f"it was ended by {end}"

    asyncio.run(story())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets orphans be adopted")
@pytest.mark.parametrize("ends", ["by itself", "when it is stopped"])
def test_nothing_of_its_family_is_left(ends: str, tmp_path: Path) -> None:
    async def story() -> None:
        code = HAS_CHILDREN + ("" if ends == "by itself" else "time.sleep(1000)")
        process = await run(code, tmp_path / "log")
        family = [int(pid) for pid in said(tmp_path / "log", r"ids (\d+) (\d+) (\d+)")]
        if ends != "by itself":
            assert all(alive(pid) for pid in family)
            await process.stop(20.0, REAL_TIME)
        await asyncio.wait_for(process.ended.wait(), 20)
        assert not any(Path(f"/proc/{pid}").exists() for pid in family)  # no zombies either

    asyncio.run(story())


OWNER = """
import asyncio, os, sys
from pathlib import Path
from aladdin_env.bridge.workers.process import ServerProcess

async def main():
    await ServerProcess.start([sys.executable, "-c", sys.argv[1]], dict(os.environ), Path(sys.argv[2]))
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_does_not_outlive_an_owner_that_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, HAS_CHILDREN + "time.sleep(1000)", str(log)])
    family = [int(pid) for pid in said(log, r"ids (\d+) (\d+) (\d+)")]
    assert all(alive(pid) for pid in family)
    owner.kill()
    owner.wait()
    wait_until(lambda: not any(alive(pid) for pid in family))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_it_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    async def story() -> None:
        process = await run("import os, time; print('id', os.getpid(), flush=True); time.sleep(1000)", tmp_path / "log")
        (server,) = (int(pid) for pid in said(tmp_path / "log", r"id (\d+)"))
        os.kill(process._process.pid, signal.SIGKILL)
        await asyncio.wait_for(process.ended.wait(), 20)
        wait_until(lambda: not alive(server))

    asyncio.run(story())


def test_ctrl_c_on_our_terminal_does_not_reach_it(tmp_path: Path) -> None:
    async def story() -> None:
        code = "import os; print('sessions', os.getsid(0), os.getsid(os.getppid()), flush=True)"
        process = await run(code, tmp_path / "log")
        await asyncio.wait_for(process.ended.wait(), 20)
        server, supervisor = said(tmp_path / "log", r"sessions (\d+) (\d+)")
        assert len({server, supervisor, str(os.getsid(0))}) == 3

    asyncio.run(story())
