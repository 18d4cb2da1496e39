"""Where the page and the picture of a calibration go: beside the profile, and never over what is not ours."""

from __future__ import annotations

from pathlib import Path

from aladdin_traces.errors import InputError

_HEAD = "# Calibration of "


def title(name: str) -> str:
    """First line of a page; by it one is known as ours."""
    return f"{_HEAD}{name}"


def places(stem: str | Path, field: str = "stem") -> tuple[Path, Path]:
    """``stem.md`` and ``stem.png``.

    Args:
        stem: Path without an ending.
        field: What to call it in an error.

    Raises:
        InputError: One of them is there and no calibration wrote it.
    """
    page, picture = Path(f"{stem}.md"), Path(f"{stem}.png")
    for path in (page, picture):
        if path.exists() and not _is_ours(page):
            mend = f"the report would go over {path}, which is not one: give another name, or move that file"
            raise InputError(field, str(stem), mend)
    return page, picture


def _is_ours(page: Path) -> bool:
    try:
        with page.open(encoding="utf-8") as file:
            return file.readline().startswith(_HEAD)
    except (OSError, UnicodeDecodeError):
        return False
