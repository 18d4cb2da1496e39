"""Public traces, fetched from their publishers into the user's cache and verified; nothing of them is shipped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from aladdin_traces.errors import InputError
from aladdin_traces.fetch.catalogue import SOURCES, TraceSource, own_source, source_named
from aladdin_traces.fetch.part import PartialFile, file_sha256
from aladdin_traces.fetch.transfer import Patience, Progress, fill

__all__ = ["SOURCES", "FetchedTrace", "Patience", "TraceSource", "cached_path", "fetch_trace", "own_source"]


@dataclass(frozen=True)
class FetchedTrace:
    """A file of a public trace that is there.

    Attributes:
        source: Where it comes from.
        path: Where it is.
        size_bytes: Its size.
        sha256: Its hash, as found; the source's where that has one.
        was_there: Nothing had to be fetched.
    """

    source: TraceSource
    path: Path
    size_bytes: int
    sha256: str
    was_there: bool


def cached_path(source: TraceSource) -> Path:
    """Where the file of ``source`` is kept, whether or not it is there.

    The folder is ``$ALADDIN_TRACES_CACHE``, else ``traces`` in ``$ALADDIN_CACHE_DIR``, else in the user's cache.
    """
    own = os.environ.get("ALADDIN_TRACES_CACHE")
    folder = (
        Path(own) if own else Path(os.environ.get("ALADDIN_CACHE_DIR") or user_cache_path("aladdin-env")) / "traces"
    )
    return folder.expanduser() / source.file_name


def fetch_trace(
    source: TraceSource | str,
    to: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
    progress: Progress = lambda done, total: None,
    patience: Patience | None = None,
) -> FetchedTrace:
    """Fetch a public trace, unless it is there already; never leaves half a file under its name.

    What has come of a file is kept beside it as ``.part`` when a transfer breaks off, and the next call goes on there.

    Args:
        source: Name in `SOURCES`, or a source of one's own, see `own_source`.
        to: The file; by default one in the cache, see `cached_path`.
        force: Fetch it anew although it is there.
        progress: Is told of bytes done and bytes in all.
        patience: Tries and times.

    Raises:
        InputError: An unknown name; no answer, a refusal or a transfer that breaks off again and again; a file with
            another hash than the source's, which is removed; no room or no permission to write.
    """
    chosen = source_named(source) if isinstance(source, str) else source
    target = cached_path(chosen) if to is None else Path(to)
    if not force and os.path.isfile(target):
        return _verified(chosen, target)
    part = PartialFile(target)
    part.prepare(make_folder=to is None)
    if force:
        part.discard()
    try:
        fill(chosen, part, patience or Patience(), progress)
    finally:
        part.discard_if_empty()
    return _accepted(chosen, part)


def _verified(source: TraceSource, path: Path) -> FetchedTrace:
    found = file_sha256(path)
    if source.sha256 not in (None, found):
        mend = (
            f"it is there but is not {source.name} (SHA-256 {found}): replace it with --force, or choose another place"
        )
        raise InputError("path", str(path), mend)
    return FetchedTrace(source, path, path.stat().st_size, found, was_there=True)


def _accepted(source: TraceSource, part: PartialFile) -> FetchedTrace:
    size_bytes = part.size_bytes
    if size_bytes == 0:
        raise InputError("url", source.urls[-1], "the file is empty; check the address")
    found = file_sha256(part.path)
    if source.sha256 not in (None, found):
        part.discard()
        mend = (
            f"what came was corrupted, or is another file ({source.sha256} was expected); it was removed, fetch again"
        )
        raise InputError("sha256", found, mend)
    part.become_target()
    return FetchedTrace(source, part.target, size_bytes, found, was_there=False)
