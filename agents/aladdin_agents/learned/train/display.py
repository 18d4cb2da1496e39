"""What a terminal shows of a run, and how it is told to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aladdin_env.cli.output import stderr

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Told what is being done, which part of it is done (0 to 1), and a text.
Listener = Callable[[str, float, str], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


class Display:
    """A bar for what is being done, with a text beside it."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=1.0, told="")

    def show(self, what: str, part: float, told: str = "") -> None:
        """``part`` of ``what`` is done, 0 to 1."""
        self._bar.update(self._task, description=what, completed=part, told=told)

    def say(self, line: str) -> None:
        """A line that stays."""
        self._bar.console.print(line, soft_wrap=True)


class _Heard(Display):
    """No bar: a listener is told."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def show(self, what: str, part: float, told: str = "") -> None:
        self._listener(what, part, told)

    def say(self, line: str) -> None:
        pass


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """While active, runs in this thread show nothing: they tell ``listener``, which may end them by raising."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def display() -> Iterator[Display]:
    """A display on stderr while active, or what :func:`heard_by` asks for."""
    listener = _listener.get()
    if listener is not None:
        yield _Heard(listener)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(30),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=stderr(), transient=True) as bar:
        yield Display(bar)


class Interruption:
    """While active, a first Ctrl-C or SIGTERM asks to stop, and a second one stops at once.

    Attributes:
        asked: Whether it was asked for.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            # what is ignored stays so: of a process that another one stops, or that has no terminal
            heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
