"""Opening a trace file: bytes become text, whatever goes wrong becomes one clear error."""

import gzip
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from aladdin_traces.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """The text of one trace file.

    Attributes:
        name: The path as the user wrote it, for messages.
        text: The whole content, unpacked, never blank.
    """

    name: str
    text: str

    @property
    def first_line(self) -> str:
        """The first line, without its end."""
        return re.split(r"[\r\n]", self.text, maxsplit=1)[0]

    @property
    def header(self) -> list[str]:
        """The column names in the first line, if this is a CSV file."""
        return [cell.strip().strip('"') for cell in self.first_line.split(",")]


def open_source(path: str | os.PathLike[str]) -> Source:
    """Read a text file, gzipped or not; gzip is recognised by its first two bytes, not by the name.

    Raises:
        InputError: No such file, a folder, unreadable, broken gzip, not UTF-8 text, or nothing in it.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError("path", path, "give the path of a trace file")
    name = os.fspath(path)
    data = _read_bytes(name)
    if data.startswith(_GZIP_MAGIC):
        data = _unpack(name, data)
    return Source(name, _decode(name, data))


def _read_bytes(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except FileNotFoundError:
        raise InputError("path", name, "there is no such file; check the path") from None
    except IsADirectoryError:
        raise InputError("path", name, "it is a directory; give the path of a file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise InputError("path", name, f"it cannot be read ({_reason(error)}); check the file") from None


def _unpack(name: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        mend = f"the gzip data is truncated or damaged ({_reason(error)}); fetch the file again"
        raise InputError("path", name, mend) from None


def _decode(name: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError("path", name, "it is not UTF-8 text; give a trace as text, gzipped or not")
    if not text.strip():
        raise InputError("path", name, "the file is empty; give a trace with a header and at least one row")
    return text


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error)
