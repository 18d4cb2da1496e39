"""What a user gives a script on the command line, checked before any work: types for ``argparse``.

A mistake becomes argparse's one line and exit code 2.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentTypeError
from pathlib import Path


def processes(text: str) -> int:
    """A number of processes, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not valid; give a whole number of processes, 1 or more")
    return int(text)


def input_file(text: str) -> Path:
    """A file that is there."""
    path = Path(text)
    if not path.is_file():
        raise ArgumentTypeError(f"{text!r} is not valid; there is no such file, give the path of a recorded trace")
    return path


def input_folder(text: str) -> Path:
    """A folder that is there."""
    path = Path(text)
    if not path.is_dir():
        raise ArgumentTypeError(f"{text!r} is not valid; there is no such folder, give that of the recorded traces")
    return path


def output_folder(text: str) -> Path:
    """A folder that can be written to; it is made if it is not there, as it will be needed anyway."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ArgumentTypeError(
            f"{text!r} is not valid; it cannot be written to ({reason}), give another folder"
        ) from None
    return path
