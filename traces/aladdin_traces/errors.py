"""The error that a user's mistake raises, that of the world outside, and the helper that guesses what was meant."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

_SHOWN_CHARACTERS = 240


class InputError(ValueError):
    """A user's mistake: a value that cannot be used, where it stands, and how to mend it.

    The message is always one line, so that a command line can print it as it is.

    Attributes:
        field: Name of the parameter, or file, line and column.
        value: What was found there.
        mend: What to write instead, as an imperative.
    """

    def __init__(self, field: str, value: object, mend: str) -> None:
        """Store the three parts; they are also ``args``, which is what pickle needs."""
        super().__init__(field, value, mend)
        self.field = field
        self.value = value
        self.mend = mend

    def __str__(self) -> str:
        """Return the one-line message."""
        text = f"{self.field}: {_shown(self.value)} is not valid; {self.mend}"
        return " ".join(text.splitlines())


class OutsideFault(RuntimeError):
    """Something outside failed that no other input would mend, a server for example; the text is one line.

    The same call may succeed later.
    """


def suggest(name: str, known: Iterable[str]) -> str:
    """Say which of the ``known`` names the unknown ``name`` probably stands for.

    Returns:
        ``did you mean 'x'?`` for a near miss, else ``choose one of x, y, z``.
    """
    names = list(known)
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if close:
        return f"did you mean {by_lower[close[0]]!r}?"
    return f"choose one of {', '.join(names)}"


@contextmanager
def inside(field: str) -> Iterator[None]:
    """Let errors raised within say that their field belongs to ``field``."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{field}.{error.field}", error.value, error.mend) from None


def _shown(value: object) -> str:
    plain = value.item() if isinstance(value, np.generic) else value
    text = repr(plain)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
