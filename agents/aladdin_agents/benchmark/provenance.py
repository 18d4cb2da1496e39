"""Which code made a result: commit and versions."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import aladdin_env

_CODE = Path(aladdin_env.__file__).parent
PACKAGES = {"aladdin_env": "aladdin-env", "numpy": "numpy", "numba": "numba"}
"""Distributions whose versions a row has, by the name of the column."""


@cache
def commit() -> str:
    """The commit of the checkout that the code runs from, with "-dirty" where files of it have changed; else empty."""
    top = _git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != _CODE.parent.resolve():  # installed, maybe below somebody else's checkout
        return ""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return _git("rev-parse", "HEAD") + ("-dirty" if changed else "")


@cache
def versions() -> dict[str, str]:
    """Versions of :data:`PACKAGES`."""
    return {column: metadata.version(name) for column, name in PACKAGES.items()}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=_CODE, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
