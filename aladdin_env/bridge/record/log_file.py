"""Lines on their way to a file, written by a thread: whoever has a line never waits for the disk.

A file that is full gets a number in its name, and the next one begins; the oldest go. What cannot be written is
counted, and a line in the log says so as soon as one can be written again. A line is there whole or not at all, unless
the process is killed in the middle of it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import deque
from pathlib import Path

from aladdin_env.errors import InputError
from aladdin_traces.readers.aladdin_log import HEADER_KEY

_MODE = 0o600  # ids of requests are nobody else's business
_MOST_WAITING_BYTES = 64 << 20
_WORTH_WAKING_BYTES = 256 << 10
_LONGEST_CLOSE_S = 10.0
_log = logging.getLogger(__name__)


class LogFile:
    """A log in parts, the current one under the given name.

    Args:
        path: The current part. One that is there already is of an earlier run: it gets a number.
        head: First line of this part.
        max_bytes: Size at which a part is full.
        keep: Parts that are kept, the current one included.
        flush_s: Longest time that a line waits, seconds.

    Raises:
        InputError: the file cannot be written, or is no log.
    """

    def __init__(self, path: Path, head: bytes, max_bytes: int, keep: int, flush_s: float) -> None:
        self._path = path
        self._max_bytes, self._keep, self._flush_s = max_bytes, keep, flush_s
        self._waiting: deque[bytes | _Turn] = deque()
        self._given = self._taken = self._part_bytes = 0
        self._dropped = self._failed = self._told = 0
        self._is_failing = False
        self._size = 0
        self._closing = False
        self._wake = threading.Event()
        try:
            self._put_aside()
            self._file = self._create()
        except OSError as error:
            mend = f"it cannot be written ({error.strerror or error}): give another file"
            raise InputError("record", str(path), mend) from None
        self.write(head)
        self._thread = threading.Thread(target=self._run, name="decision log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._dropped + self._failed

    @property
    def is_full(self) -> bool:
        """Whether the next line belongs into another part: :meth:`turn` first."""
        return self._part_bytes >= self._max_bytes

    def write(self, line: bytes) -> None:
        """Take a line, its end included; it is in the file within ``flush_s``."""
        if self._closing or self._given - self._taken > _MOST_WAITING_BYTES:  # the disk is stuck
            self._dropped += 1
            return
        self._waiting.append(line)
        self._given += len(line)
        self._part_bytes += len(line)
        if self._given - self._taken > _WORTH_WAKING_BYTES and not self._wake.is_set():
            self._wake.set()

    def turn(self, head: bytes) -> None:
        """Begin another part with this line."""
        self._waiting.append(_Turn())
        self._part_bytes = 0
        self.write(head)

    def close(self) -> None:
        """Write what is left; lines that come later are lost."""
        self._closing = True
        self._wake.set()
        self._thread.join(_LONGEST_CLOSE_S)
        if self._thread.is_alive():
            _log.warning("%s: the disk does not answer, its last lines are lost", self._path)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._flush_s)
            self._wake.clear()
            self._drain()
        self._drain()
        os.close(self._file)

    def _drain(self) -> None:
        lines: list[bytes] = []
        for _ in range(len(self._waiting)):
            line = self._waiting.popleft()
            if isinstance(line, _Turn):
                self._append(lines)
                self._begin_part()
                lines = []
            else:
                lines.append(line)
        self._append(lines)

    def _append(self, lines: list[bytes]) -> None:
        if not lines:
            return
        untold = self.lost - self._told
        told = b'{"kind":"lost","lines":%d}\n' % untold if untold else b""
        data = told + b"".join(lines)
        try:
            self._write_all(data)
        except OSError as error:
            self._failed += len(lines)
            self._complain(error)
        else:
            self._told += untold
            self._is_failing = False
            self._size += len(data)
        self._taken += len(data) - len(told)

    def _write_all(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self._size)  # no half line stays in the middle of the log
            raise

    def _complain(self, error: OSError) -> None:
        """Once for each time that the disk begins to fail."""
        if not self._is_failing:
            _log.warning("%s cannot be written (%s): lines are lost, and counted", self._path, error.strerror or error)
        self._is_failing = True

    # --- parts ------------------------------------------------------------------------------------------------------

    def _begin_part(self) -> None:
        """Where that fails the part goes on: nothing is lost, it is only longer."""
        try:
            self._put_aside()
            fresh = self._create()
        except (OSError, InputError) as error:
            _log.warning("%s: no new part can be begun (%s)", self._path, error)
            return
        os.close(self._file)
        self._file, self._size = fresh, 0
        for old in numbered(self._path)[: -(self._keep - 1) or None]:
            old.unlink(missing_ok=True)

    def _create(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, _MODE)

    def _put_aside(self) -> None:
        """Give the part that has the name its number, in one step."""
        if not self._path.exists():
            return
        _refuse_what_is_no_log(self._path)
        if self._path.stat().st_size == 0:
            self._path.unlink()
            return
        parts = numbered(self._path)
        number = 1 + (_number(self._path, parts[-1]) if parts else 0)
        self._path.rename(self._path.with_name(f"{self._path.stem}.{number:06d}{self._path.suffix}"))


class _Turn:
    """Among the lines: what follows belongs into another part."""


def numbered(path: Path) -> list[Path]:
    """Earlier parts of the log at ``path``, oldest first."""
    found = [other for other in path.parent.glob(f"*{path.suffix}") if _number(path, other)]
    return sorted(found, key=lambda part: _number(path, part))


def _number(path: Path, part: Path) -> int:
    """The number of a part of the log at ``path``; 0 for any other file."""
    match = re.fullmatch(re.escape(path.stem) + r"\.(\d{6,})" + re.escape(path.suffix), part.name)
    return int(match[1]) if match else 0


def _refuse_what_is_no_log(path: Path) -> None:
    if not path.is_file():
        raise InputError("record", str(path), "it is no file: give the name of one")
    with path.open("rb") as file:
        begin = file.read(64)
    if begin and HEADER_KEY.encode() not in begin:
        raise InputError("record", str(path), "this file is no decision log: give another name")
