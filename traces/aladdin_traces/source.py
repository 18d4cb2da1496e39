"""Opening a trace file: bytes become text or a Parquet file, whatever goes wrong becomes one clear error."""

import csv
import gzip
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aladdin_traces.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_SHOWN_BYTES = 80
_LARGE_BYTES = 4_000_000
_HEAD = 50  # objects of a file by which its format is told
PARQUET_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)  # the last: damaged names of columns


@dataclass(frozen=True)
class Source:
    """The content of one trace file.

    Attributes:
        name: The path as the user wrote it, for messages.
        data: The whole content, unpacked: UTF-8 text without a byte order mark, with lines ending in a line feed, never
            blank; or a Parquet file.
    """

    name: str
    data: bytes

    @property
    def is_parquet(self) -> bool:
        """Whether this is a Parquet file, by its first bytes."""
        return self.data.startswith(_PARQUET_MAGIC)

    @cached_property
    def is_json(self) -> bool:
        """Whether this is JSON or JSON lines: the first character is a brace or a bracket."""
        return not self.is_parquet and self.data[:4096].lstrip()[:1] in (b"{", b"[")

    @property
    def is_large(self) -> bool:
        """Whether threads pay for reading this. A process that ends while they start, after a small file, aborts."""
        return len(self.data) > _LARGE_BYTES

    @property
    def text(self) -> str:
        """The text of a text file."""
        return self.data.decode()

    @property
    def first_line(self) -> str:
        """The first line that is not blank, without its end."""
        start = len(self.data) - len(self.data.lstrip()) if self.data[:1].isspace() else 0
        end = self.data.find(b"\n", start)
        return self.data[start : end if end >= 0 else None].decode()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a CSV or Parquet file, stripped of spaces; none for JSON.

        Raises:
            InputError: The Parquet file is damaged.
        """
        if self.is_parquet:
            return tuple(self._schema.names)
        return tuple(cell.strip() for cell in self.header)

    @cached_property
    def _schema(self) -> Any:
        try:
            return self.parquet().schema_arrow
        except PARQUET_ERRORS as error:
            raise self.damaged_parquet(error) from None

    def holds_parts(self, name: str) -> bool:
        """Whether this is a Parquet file with such a column of named parts (a struct), not of plain values."""
        return self.is_parquet and name in self.columns and pa.types.is_struct(self._schema.field(name).type)

    @cached_property
    def header(self) -> tuple[str, ...]:
        """The cells of the first line of a CSV file, with their spaces; none for the others."""
        if self.is_parquet or self.is_json:
            return ()
        try:
            return tuple(next(csv.reader([self.first_line]), []))
        except csv.Error:  # a cell beyond the module's limit
            return ()

    @cached_property
    def first(self) -> dict[str, Any]:
        """The first JSON object of a JSON file; {} for the others.

        Raises:
            InputError: It is not JSON.
        """
        return self.head[0] if self.is_json else {}

    @cached_property
    def head(self) -> list[dict[str, Any]]:
        """The first objects of a JSON file, at most 50; none of the others.

        Raises:
            InputError: One is not JSON.
        """
        return [fields for _, fields in islice(self.objects(), _HEAD)] if self.is_json else []

    def head_values(self, key: str) -> list[Any]:
        """What the first objects have under ``key``, null left out."""
        return [fields[key] for fields in self.head if fields.get(key) is not None]

    def objects(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Go through the objects of JSON lines, or of one JSON document (a list, or a single object).

        Yields:
            Where the object stands (``line 3`` or ``item 3``) and the object.

        Raises:
            InputError: Something is not JSON, or no object; names the line.
        """
        if not isinstance(_parsed_or_none(self.first_line), dict):
            yield from self._document()
            return
        for number, line in enumerate(io.BytesIO(self.data), start=1):
            if line.strip():
                yield f"line {number}", self._object(f"line {number}", self._parsed(line, number))

    def parquet(self) -> Any:
        """Open the Parquet file.

        Raises:
            InputError: It is damaged.
        """
        try:
            return pq.ParquetFile(pa.BufferReader(self.data))
        except PARQUET_ERRORS as error:
            raise self.damaged_parquet(error) from None

    def damaged_parquet(self, error: Exception) -> InputError:
        """The error of a Parquet file that cannot be read."""
        return InputError("path", self.name, f"the Parquet data is truncated or damaged ({error}); fetch it again")

    def _document(self) -> Iterator[tuple[str, dict[str, Any]]]:
        document = self._parsed(self.data, 1)
        items = document if isinstance(document, list) else [document]
        if not items:
            raise InputError(self.name, "[]", "the list is empty; give at least one request")
        for number, item in enumerate(items, start=1):
            yield f"item {number}", self._object(f"item {number}", item)

    def _object(self, place: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InputError(f"{self.name} {place}", value, "give a JSON object with the fields of a request")
        return value

    def _parsed(self, text: bytes, line: int) -> Any:
        """Parse a line, or the whole document, which begins at ``line``."""
        try:
            return _DECODER.decode(text.decode())
        except json.JSONDecodeError as error:
            found = error.doc.splitlines()[error.lineno - 1 : error.lineno]
            where = f"{self.name} line {line + error.lineno - 1}, character {error.colno}"
            raise InputError(where, "".join(found), f"it is not JSON ({error.msg})") from None
        except _KeyTwiceError as error:
            # Within a document the parser does not say where it stands.
            place = "" if b"\n" in text.strip() else f" line {line}"
            raise InputError(f"{self.name}{place}", error.key, "an object has this key twice; keep one") from None
        except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits
            deep = isinstance(error, RecursionError)
            why = "it is nested too deeply to be a request" if deep else f"it cannot be read ({error})"
            raise InputError(f"{self.name} line {line}", text[:_SHOWN_BYTES].decode(errors="ignore"), why) from None


class _KeyTwiceError(ValueError):
    """A JSON object has a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _KeyTwiceError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_object_of)
"""Made once: `json.loads` would make one for each line, which takes as long as the line itself."""


def open_source(path: str | os.PathLike[str]) -> Source:
    """Read a file, gzipped or not; gzip and Parquet are recognised by their first bytes, not by the name.

    Raises:
        InputError: No such file, a folder, unreadable, broken gzip, not UTF-8 text, or nothing in it.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError("path", path, "give the path of a trace file")
    name = os.fspath(path)
    data = _read_bytes(name)
    if data.startswith(_GZIP_MAGIC):
        data = _unpack(name, data)
    return Source(name, data if data.startswith(_PARQUET_MAGIC) else _text_bytes(name, data))


def _read_bytes(name: str) -> bytes:
    path = Path(name)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError("path", name, "it is no regular file; save the trace as a file first")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("path", name, "there is no such file; check the path") from None
    except IsADirectoryError:
        raise InputError("path", name, "it is a directory; give the path of a file in it") from None
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise InputError("path", name, f"it cannot be read ({_reason(error)}); check the file") from None


def _unpack(name: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        mend = f"the gzip data is truncated or damaged ({_reason(error)}); fetch the file again"
        raise InputError("path", name, mend) from None


def _text_bytes(name: str, data: bytes) -> bytes:
    """Check that it is UTF-8 text with something in it, and let every line end in a line feed."""
    text = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in text or not (text.isascii() or _is_utf8(text)):
        raise InputError("path", name, "it is not UTF-8 text; give a trace as text or Parquet, gzipped or not")
    if not text or text.isspace():
        raise InputError("path", name, "the file is empty; give a trace with a header and at least one row")
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parsed_or_none(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _reason(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error)
