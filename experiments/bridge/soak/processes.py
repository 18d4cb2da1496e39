"""The bridge as a process, and its workers: who they are, what they use, that none is left. Linux only (``/proc``)."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from aladdin_env.errors import OutsideFault
from experiments.bridge.soak.client import MODEL

PROFILE = "llama-3.1-70b-h100-tp4"  # slow steps, few requests at once: the machine's cores are not what is tested
MAX_NUM_SEQS = 8
DRAIN_S = 30.0
_MARK = "ALADDIN_SOAK"  # in the environment of the bridge and of all that it starts
_URL = re.compile(r"serves on (http://\S+)")
_START_S = 180.0  # the first start on a machine compiles
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Fleet:
    """Emulated workers and what is promised of them.

    Attributes:
        workers: How many.
        max_num_seqs: Most requests at once on each.
        profile: Their latency profile.
        ttft_s: Seconds to the first token.
        atgt_s: Seconds per token after it.
    """

    workers: int
    max_num_seqs: int = MAX_NUM_SEQS
    profile: str = PROFILE
    ttft_s: float = 2.0
    atgt_s: float = 0.1


class Serve:
    """``aladdin serve`` with emulated workers: ``with Serve(Fleet(4)) as serve: ...``; nothing of it is left.

    Args:
        fleet: Its workers.

    Attributes:
        url: Its address, from the start on.
        log: Its decision log.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="aladdin-soak-")
        folder = Path(self._folder.name)
        self.url = ""
        self.log = folder / "decisions.jsonl"
        self._said = folder / "serve.txt"
        self._mark = f"{_MARK}={uuid.uuid4().hex}".encode()
        worker = f"worker --profile {fleet.profile} --port {{port}} --max-num-seqs {fleet.max_num_seqs} --model {MODEL}"
        self._command = [
            sys.executable, "-m", "aladdin_env.cli", "serve", "--policy", "aladdin",
            "--local", f"{shlex.quote(sys.executable)} -m aladdin_env.cli {worker}",
            "--min", str(fleet.workers), "--max", str(fleet.workers), "--gpus-per-worker", "0",
            "--start-timeout", "120",
            "--worker-logs", str(folder / "workers"), "--port", "0", "--admin-port", "0",
            "--profile", fleet.profile, "--max-num-seqs", str(fleet.max_num_seqs),
            "--ttft", f"{fleet.ttft_s:g}", "--atgt", f"{fleet.atgt_s:g}",
            "--drain", f"{DRAIN_S:g}", "--record", str(self.log), "--show-worker",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Serve:
        name, _, value = self._mark.decode().partition("=")
        try:
            with self._said.open("wb") as said:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                    env={**os.environ, name: value}, start_new_session=True,  # Ctrl-C is ours to answer
                )  # fmt: skip
            self.url = self._address()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Of the bridge."""
        assert self._process is not None
        return self._process.pid

    def said(self) -> str:
        """What it has printed."""
        return self._said.read_text(encoding="utf-8", errors="replace")

    def pids(self) -> list[int]:
        """All processes, its workers' included."""
        return [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._mark in _read(pid, "environ")
        ]

    def worker_pid(self, url: str) -> int | None:
        """The server that listens there; not its supervisor, on whose command line it stands, too."""
        port = url.rpartition(":")[2].encode()
        for pid in self.pids():
            words = _read(pid, "cmdline").split(b"\0")
            if words[1:4] == [b"-m", b"aladdin_env.cli", b"worker"] and words[words.index(b"--port") + 1] == port:
                return pid
        return None

    def stop(self) -> tuple[int | None, float]:
        """SIGTERM: its exit status (None: it does not end), and how long it took, seconds."""
        assert self._process is not None
        began_s = time.monotonic()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0 * DRAIN_S)
        return self._process.poll(), time.monotonic() - began_s

    def _address(self) -> str:
        assert self._process is not None
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s and self._process.poll() is None:
            if found := _URL.search(self.said()):
                return found[1]
            time.sleep(0.1)
        raise OutsideFault(f"the bridge does not start: {' '.join(self.said().split())[-400:]}")

    def _end(self) -> None:
        """Whatever happened: no process is left."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10.0)
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._folder.cleanup()


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, seconds; 0 where it is gone."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS if len(fields) > 12 else 0.0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone, or somebody else's
        return b""
