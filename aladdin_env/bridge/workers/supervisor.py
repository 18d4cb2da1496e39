"""Runs one server and outlives nobody: a script on its own, started as ``python -I -S supervisor.py``.

It stands between the bridge and a server so that the server ends when the bridge does, however that ends, and so that
nothing of the server is left: it leads a session of its own, adopts what the server's processes leave behind, and
writes what they say into a log of bounded size.

Orders come as single bytes on its standard input: TERMINATE or KILL, for all of the server's processes. When that
input ends, whoever started it is gone. Its exit status is the server's; 128 and the signal's number if one ended it.

It imports nothing beyond the standard library: one of these runs beside every server.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

TERMINATE, KILL = b"t", b"k"
NOT_FOUND = 127  # exit status of a command that cannot be run, as shells have it
_ORPHANED_GRACE_S = 5.0  # from TERM to KILL when whoever started us is gone
_LONGEST_LINE = 16384
_LAST_WORDS_S = 2.0  # where orphans are not adopted, one may hold the output open for ever
_REAP_S, _REAP_EVERY_S = 5.0, 0.01
_SET_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of Linux' prctl


def main(log: str, most_bytes: str, *command: str) -> int:
    """Run ``command`` to its end.

    Args:
        log: File for what it says; one older file of the same size is kept beside it.
        most_bytes: Size at which a new one is begun.
        *command: The server and its arguments.
    """
    handler = RotatingFileHandler(log, maxBytes=int(most_bytes), backupCount=1, errors="replace")
    if Path(log).stat().st_size:
        handler.doRollover()  # of the server before
    control = _process_control()
    control(_SET_CHILD_SUBREAPER, 1)
    try:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_tied_to_parent(control),  # nothing else runs here yet: no thread can hold a lock
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        _write(handler, f"cannot run {command[0]}: {error.strerror}")
        return NOT_FOUND
    assert server.stdout is not None
    writer = threading.Thread(target=_copy, args=(server.stdout, handler), daemon=True)
    writer.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _signal_all(server.pid, signal.SIGTERM))
    threading.Thread(target=_obey, args=(server.pid,), daemon=True).start()
    status = _wait_for(server.pid)
    _end_family(server.pid)
    writer.join(_LAST_WORDS_S)
    return status if status >= 0 else 128 - status


def _process_control() -> Callable[[int, int], int]:
    """Linux' prctl; elsewhere nothing."""
    if sys.platform != "linux":
        return lambda option, value: 0
    prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return prctl


def _tied_to_parent(control: Callable[[int, int], int]) -> Callable[[], None]:
    """What a child does before it becomes the server: ask to be killed when its parent, this process, dies."""
    us = os.getpid()

    def tie() -> None:
        control(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != us:  # too late to be told
            os._exit(1)

    return tie


def _copy(output: IO[str], handler: logging.Handler) -> None:
    for line in iter(lambda: output.readline(_LONGEST_LINE), ""):
        _write(handler, line.rstrip("\n"))


def _write(handler: logging.Handler, line: str) -> None:
    handler.emit(logging.makeLogRecord({"msg": line}))


def _obey(leader: int) -> None:
    while order := os.read(0, 1):
        _signal_all(leader, signal.SIGTERM if order == TERMINATE else signal.SIGKILL)
    _signal_all(leader, signal.SIGTERM)
    time.sleep(_ORPHANED_GRACE_S)
    _signal_all(leader, signal.SIGKILL)


def _signal_all(leader: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS: PermissionError for a group of zombies
        os.killpg(leader, number)


def _wait_for(server: int) -> int:
    """Exit code of the server, negative for a signal; meanwhile buries what its processes leave behind."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == server:
            return os.waitstatus_to_exitcode(status)


def _end_family(leader: int) -> None:
    """Kill what is left of the server's processes, those included that had left its group, and bury all."""
    _signal_all(leader, signal.SIGKILL)
    until = time.monotonic() + _REAP_S
    while time.monotonic() < until:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            for child in _children():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            time.sleep(_REAP_EVERY_S)


def _children() -> list[int]:
    """Processes of which this one is the parent now."""
    found = []
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += [int(word) for word in file.read_text().split()]
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
