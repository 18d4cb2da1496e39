"""One run at a time in a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aladdin_env.errors import InputError

_LOCK = ".lock"
_WAIT_S = 20.0  # so long may a process take to end whose command was killed
_LOOK_EVERY_S = 0.5


def make_folder(folder: Path) -> None:
    """Make the folder of a run, where it is missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(folder, error) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make ``folder`` and keep other runs out of it; the system itself lets them in when this process has died.

    Raises:
        InputError: it cannot be made or written to; another process trains in it.
    """
    make_folder(folder)
    try:
        file = (folder / _LOCK).open("w")
    except OSError as error:
        raise _refused(folder, error) from None
    with file:
        _wait_for(file.fileno(), folder)
        yield


def _refused(folder: Path, error: OSError) -> InputError:
    return InputError("--out", str(folder), f"give a folder that can be made and written to ({error.strerror})")


def _wait_for(file: int, folder: Path) -> None:
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows
        return
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                mend = "another process trains in it: wait for its end, or give another folder"
                raise InputError("--out", str(folder), mend) from None
            time.sleep(_LOOK_EVERY_S)
