"""Text files that are gzipped or not, with the same bytes each time."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def text_file(path: Path, packed: bool) -> Iterator[TextIO]:
    """Open a text file for writing; in gzip neither the clock nor the name of the file is kept."""
    if not packed:
        with open(path, "w", encoding="utf-8", newline="") as text:
            yield text
        return
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as stream,
        io.TextIOWrapper(stream, encoding="utf-8", newline="") as text,
    ):
        yield text
