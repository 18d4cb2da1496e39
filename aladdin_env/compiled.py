"""One decorator for compiled code, with a disk cache that is never stale.

numba keys its disk cache on the file of the decorated function alone: a change in a law that is
inlined into a cached kernel elsewhere would go unnoticed. The cache folder therefore carries a
fingerprint of every source file that compiled code may come from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numba.core.config as numba_config
from platformdirs import user_cache_path

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = Path(__file__).parent
_KEPT_FINGERPRINTS = 16
# IEEE arithmetic (no fast-math) for exact replays. Compiled code here allocates nothing and borrows every array from
# its caller: without numba's reference counting the simulator is ten times as fast.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "_nrt": False}


def _sources(folder: Path) -> list[Path]:
    """Files that compiled functions in ``folder`` may be made of: the core's, and their own neighbours."""
    core = [*_PACKAGE.glob("simulator/*.py"), _PACKAGE / "compiled.py"]
    if folder == _PACKAGE / "simulator":
        return sorted(core)
    if folder.is_relative_to(_PACKAGE):  # the encoder and the environments' batched step call each other
        own = (_PACKAGE / name for name in ("observation.py", "features.py", "reward.py", "action_masks.py"))
        return sorted({*core, *own, *_PACKAGE.glob("envs/*.py"), *folder.glob("*.py")})
    return sorted([*core, *folder.glob("*.py")])


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in _sources(folder):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


@cache
def cache_folder(sources: Path | None = None) -> Path:
    """Folder for code compiled from the folder ``sources`` (the core's by default) as it is now.

    It is created; the oldest others are removed. The core compiles for half a minute and changes rarely, so what is
    built on it, here or in other packages, has folders of its own.
    ``ALADDIN_CACHE_DIR`` moves it. Falls back to the system's temporary folder where the user's
    cache folder cannot be written.
    """
    root = Path(os.environ.get("ALADDIN_CACHE_DIR") or user_cache_path("aladdin-env")) / "compiled"
    if not _writable(root):
        root = Path(tempfile.gettempdir()) / f"aladdin-env-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        _writable(root)
    folder = root / _fingerprint(sources or _PACKAGE / "simulator")
    folder.mkdir(parents=True, exist_ok=True)
    siblings = sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in siblings[_KEPT_FINGERPRINTS:]:
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder


@contextmanager
def fingerprinted_cache(function: Callable[..., Any]) -> Iterator[None]:
    """While active, numba's ``cache=True`` writes below :func:`cache_folder` (other users of numba are untouched)."""
    before = numba_config.CACHE_DIR
    numba_config.CACHE_DIR = str(cache_folder(Path(function.__code__.co_filename).parent))
    try:
        yield
    finally:
        numba_config.CACHE_DIR = before


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile on first call, without Python objects, cached on disk."""
    with fingerprinted_cache(function):
        return cast("Callable[P, R]", numba.njit(cache=True, **_OPTIONS)(function))


def compiled_counting(function: Callable[P, R]) -> Callable[P, R]:
    """As :func:`compiled`, for what takes a structure that numba counts the references of."""
    options = {**_OPTIONS, "_nrt": True}
    with fingerprinted_cache(function):
        return cast("Callable[P, R]", numba.njit(cache=True, **options)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As :func:`compiled`, for small helpers: LLVM is told to inline them, callers need no call."""
    options = {**_OPTIONS, "forceinline": True}
    with fingerprinted_cache(function):
        return cast("Callable[P, R]", numba.njit(cache=True, **options)(function))


def is_cold() -> bool:
    """Whether the core's event loop is still to be compiled (so that callers can say that it takes a while)."""
    return not any(cache_folder().rglob("core.advance-*.nbi"))
