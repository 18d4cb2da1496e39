"""Starting a router from a template of its command line, and stopping it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aladdin_env.errors import InputError, OutsideFault

_GRACE_S = 10.0
_SHOWN_CHARACTERS = 400

#: Command lines of known routers. Their health checks and circuit breakers are set to seconds: by default some take
#: minutes to use a worker again, and so long no case waits.
PRESETS = {
    "aladdin": "aladdin serve --policy least_request --port {port} {backends:--worker}",
    "vllm-router": (
        "vllm-router --host 127.0.0.1 --port {port} --worker-urls {backends} --policy power_of_two "
        "--prometheus-port {spare} --worker-startup-check-interval 1 --health-check-interval-secs 1 "
        "--cb-failure-threshold 5 --cb-timeout-duration-secs 2"
    ),
    "smg": (
        "smg launch --host 127.0.0.1 --port {port} --worker-urls {backends} --policy power_of_two "
        "--power-of-two-load-metric requests --prometheus-host 127.0.0.1 --prometheus-port {spare} --backend vllm "
        "--worker-startup-check-interval 1 --health-check-interval-secs 1 "
        "--cb-failure-threshold 5 --cb-timeout-duration-secs 2 --max-concurrent-requests 48"
    ),
}


class _Spread(str):
    """Addresses in a template: ``{backends}`` has spaces between them, ``{backends:--worker}`` an option before each.

    An option that ends with ``=`` has no space after it.
    """

    def __format__(self, option: str) -> str:
        between = "" if option.endswith("=") else " "
        return " ".join(f"{option}{between}{url}" for url in self.split()) if option else str(self)


def filled(template: str, port: int, backends: Sequence[str]) -> str:
    """A command line from its template.

    Args:
        template: With ``{port}``, ``{backends}``, ``{backend0}`` and so on, ``{spare}`` for one more free port.
        port: Where the router should listen.
        backends: Addresses of its backends.

    Raises:
        InputError: An unknown field.
    """
    fields = {f"backend{number}": url for number, url in enumerate(backends)}
    try:
        return template.format(port=port, backends=_Spread(" ".join(backends)), spare=free_port(), **fields)
    except (LookupError, ValueError, AttributeError) as error:
        mend = f"use {{port}}, {{backends}}, {{backends:--worker}}, {{backend0}}, {{spare}} ({error})"
        raise InputError("--start", template, mend) from None


def arguments(command: str) -> list[str]:
    """The arguments of a command line, its program found.

    Raises:
        InputError: An unbalanced quotation, no such program.
    """
    try:
        parts = shlex.split(command)
    except ValueError as error:
        raise InputError("--start", command, f"write it as for a shell ({error})") from None
    if not parts:
        raise InputError("--start", command, "give the command that starts the router")
    return [_program(parts[0]), *parts[1:]]


def _program(name: str) -> str:
    """A program on the path, or beside this interpreter."""
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise InputError("--start", name, "install this router, or put its folder on PATH")
    return found


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RouterProcess:
    """A running router, in a process group of its own; use it with ``with``.

    Args:
        arguments: Its command line.
        port: Where it will listen.

    Attributes:
        url: Its address.
    """

    def __init__(self, arguments: Sequence[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._arguments = list(arguments)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it stops
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._arguments, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, start_new_session=True
        )

    def __enter__(self) -> RouterProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it and forget what it has printed."""
        self.stop()
        self._output.close()

    def restart(self) -> None:
        """End it and start it again, on the same port; what it printed is kept."""
        self.stop()
        self._process = self._start()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to leave, as orchestrators do."""
        self._process.terminate()

    def stop(self) -> None:
        """End it and all that it has started; returns when it is gone."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, signal_number)
            except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
                break
            time.sleep(0.2)
        self._process.wait()

    def output(self) -> str:
        """All that it has printed."""
        handle = self._output.fileno()  # shared with the router, whose place in the file must not move
        return os.pread(handle, os.fstat(handle).st_size, 0).decode(errors="replace")

    def last_words(self) -> str:
        """The end of what it has printed, on one line."""
        return " ".join(self.output().split())[-_SHOWN_CHARACTERS:]

    def check_alive(self) -> None:
        """Raise OutsideFault with its last words if it has ended."""
        if not self.is_alive:
            command = Path(self._arguments[0]).name
            raise OutsideFault(f"{command} ended with code {self._process.returncode}: {self.last_words()}")

    def peak_bytes(self) -> int | None:
        """The most memory that it has had resident, its children included; None where the system does not tell."""
        peaks = [_peak_bytes(pid) for pid in _group(self._process.pid)]
        return sum(peaks) or None


def _group(leader: int) -> list[int]:
    """The processes of a group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == leader:
                found.append(int(entry.name))
        except OSError:  # gone in between
            continue
    return found


def _peak_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
