"""Where things are printed and how files are written: whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aladdin_env.compiled import is_cold
from aladdin_env.errors import InputError
from aladdin_traces.files import whole_file

WIDTH = 120


def stdout() -> Console:
    """The console of results; 120 columns wide where nobody says how wide it is."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def stderr() -> Console:
    """The console of progress and remarks."""
    return Console(stderr=True, highlight=False)


def say_if_compiling() -> None:
    """Tell why the first run takes longer."""
    if is_cold():
        stderr().print("compiling, once (about a minute)")


def print_json(value: Any) -> None:
    """Print as JSON; what is no number becomes null."""
    print(json_text(value))


def json_text(value: Any) -> str:
    """The text of :func:`print_json`."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a NumPy number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[float], None]]:
    """A bar on stderr; yields a function that is told how many units are done."""
    columns = (TextColumn(what), BarColumn(40), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=stderr()) as bar:
        task = bar.add_task(what, total=total)
        try:
            yield lambda done: bar.update(task, completed=done)
        except InputError:
            bar.live.transient = True  # a mistake is told in one line, without a bar above it
            bar.console.quiet = not bar.console.is_terminal
            raise


def check_writable(option: str, path: Path | None, suffixes: tuple[str, ...]) -> None:
    """Refuse a file that cannot be written, before the work is done.

    Raises:
        InputError: a wrong ending, no such folder, no permission.
    """
    if path is None:
        return
    if path.suffix not in suffixes:
        raise InputError(option, str(path), f"the name must end in {' or '.join(suffixes)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(option, str(path), "give a file in a folder that exists")
    if not os.access(path.parent, os.W_OK):
        raise InputError(option, str(path), "the folder cannot be written to")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV or Parquet, by the ending of the name."""
    with whole_file(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, index=False, lineterminator="\n")
