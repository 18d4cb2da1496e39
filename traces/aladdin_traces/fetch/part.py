"""What has been fetched of a file so far: kept beside it, so that the next try goes on where the last ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aladdin_traces.errors import InputError


@dataclass(frozen=True)
class PartialFile:
    """``target.part``, and ``target.part.json`` that says of which version of which address it is a part.

    Attributes:
        target: The file that it becomes.
    """

    target: Path

    @property
    def path(self) -> Path:
        """Where the bytes are."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def size_bytes(self) -> int:
        """Bytes that are there; 0 without a file."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version_of(self, url: str) -> str | None:
        """The version of ``url`` that was being fetched; None for another address, or where it was not told."""
        try:
            note = json.loads(self._note.read_text())
            version = note["version"] if note["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return version if isinstance(version, str) else None

    def begin(self, url: str, version: str | None) -> None:
        """Empty the file for ``url`` in the ``version`` that the server told."""
        with self._refusals():
            self.path.write_bytes(b"")
            self._note.write_text(json.dumps({"url": url, "version": version}))

    def append(self, chunks: Iterator[bytes]) -> None:
        """Write what comes; what was written stays if it breaks off."""
        with self._refusals():
            file = self.path.open("ab", buffering=0)
        with file:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:  # a full disk takes what fits, and refuses only then
                    with self._refusals():
                        rest = rest[file.write(rest) :]

    def prepare(self, make_folder: bool) -> None:
        """See that it can be written, in a folder that is made if it may be.

        Raises:
            InputError: It cannot.
        """
        if os.path.isdir(self.target):  # of a path that cannot be, pathlib's would raise
            raise InputError("path", str(self.target), "it cannot be written (a folder): give the name of a file")
        with self._refusals():
            if make_folder:
                self.target.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()

    def need_room(self, missing_bytes: int) -> None:
        """Refuse to begin what the disk cannot hold.

        Raises:
            InputError: Less than ``missing_bytes`` are free.
        """
        free = shutil.disk_usage(self.path.parent).free
        if missing_bytes > free:
            mend = f"{missing_bytes:,} bytes are to come and {free:,} are free on its disk: make room, then go on"
            raise InputError("path", str(self.target), mend)

    def become_target(self) -> None:
        """Take the place of the target, at once."""
        with self._refusals():
            self.path.replace(self.target)
            self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove it."""
        with self._refusals():
            self.path.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)

    def discard_if_empty(self) -> None:
        """Leave nothing behind where nothing came."""
        if self.size_bytes == 0:
            self.discard()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
            reason = getattr(error, "strerror", None) or str(error)
            mend = f"it cannot be written ({reason}): mend that or choose another place, then go on"
            raise InputError("path", str(self.target), mend) from None


def file_sha256(path: Path) -> str:
    """Hash of a file, 64 hexadecimal digits.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError("path", str(path), f"it cannot be read ({error.strerror or error})") from None
