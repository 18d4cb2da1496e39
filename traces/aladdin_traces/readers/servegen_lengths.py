"""The lengths of a ServeGen client: probabilities by number of tokens, for each window of time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aladdin_traces import checks
from aladdin_traces.columns import FloatArray
from aladdin_traces.errors import InputError
from aladdin_traces.source import Source

_KEYS = ("input_tokens", "output_tokens")
_LIKE = 'give probabilities by number of tokens as text, such as "{138: 0.25, 140: 0.75}"'
_SUM_TOLERANCE = 1e-3
_SECOND_DIGITS = 12


@dataclass(frozen=True)
class _Lengths:
    """One law of lengths.

    Attributes:
        tokens: The lengths, whole, >= 0, float64.
        probabilities: Of each, of sum 1.
    """

    tokens: FloatArray
    probabilities: FloatArray


@dataclass(frozen=True)
class LengthLaws:
    """The laws of a client.

    Attributes:
        name: The file, for messages.
        starts: First seconds of the windows, ascending.
        laws: Prompt and output of each window.
    """

    name: str
    starts: npt.NDArray[np.int64]
    laws: list[list[_Lengths]]


def read_length_laws(dataset: Source) -> LengthLaws:
    """Read a ``chunk-N-dataset.json``.

    Raises:
        InputError: It has another form, or a law is none; names window and key.
    """
    found: dict[int, list[_Lengths]] = {}
    for second, fields in dataset.first.items():
        place = f"{dataset.name} window {second}"
        if not second.isdecimal() or len(second) > _SECOND_DIGITS:
            raise InputError(f"{dataset.name} windows", second, "give the first second of each, a whole number")
        if not isinstance(fields, dict):
            raise InputError(place, fields, f"give an object with {' and '.join(_KEYS)}")
        laws = [_law(f"{place}, key {key}", fields.get(key)) for key in _KEYS]
        # In an empty window the client was silent. The laws before it go on, as in ServeGen.
        if all(len(law.tokens) for law in laws):
            found[int(second)] = laws
    if not found:
        raise InputError(dataset.name, "0 windows", f"give windows with {' and '.join(_KEYS)}")
    starts = sorted(found)
    return LengthLaws(dataset.name, np.array(starts), [found[start] for start in starts])


def drawn_lengths(laws: LengthLaws, rng: np.random.Generator, arrivals: FloatArray) -> list[FloatArray]:
    """Draw prompt and output lengths, each from the law of its window.

    Args:
        laws: Of a client.
        rng: Source of randomness.
        arrivals: Seconds on the clock of the windows, ascending, at least one.

    Raises:
        InputError: Requests arrive before the first window.
    """
    if arrivals[0] < laws.starts[0]:
        mend = f"give lengths from second {arrivals[0]:.0f} on, when requests arrive"
        raise InputError(f"{laws.name} windows", int(laws.starts[0]), mend)
    counts = np.diff(np.searchsorted(arrivals, laws.starts), append=len(arrivals)).tolist()
    drawn = [
        [rng.choice(law.tokens, count, p=law.probabilities) for law in pair]
        for pair, count in zip(laws.laws, counts, strict=True)
    ]
    return [np.concatenate(column) for column in zip(*drawn, strict=True)]


def _law(field: str, text: Any) -> _Lengths:
    if not isinstance(text, str) or text.strip()[:1] + text.strip()[-1:] != "{}":
        raise InputError(field, text, _LIKE)
    inner = text.strip()[1:-1]
    # Split and not evaluated: nothing in the text can be anything but numbers.
    entries = [entry.split(":") for entry in inner.split(",")] if inner.strip() else []
    try:
        tokens, weights = [int(key) for key, _ in entries], np.array([float(weight) for _, weight in entries])
    except ValueError:  # no number, or not two of them
        raise InputError(field, text, _LIKE) from None
    for count in tokens:
        checks.whole(field, count, low=0, high=checks.TOKENS_MAX)
    likely = ((weights >= 0) & (weights <= 1 + _SUM_TOLERANCE)).all()
    if entries and not (likely and abs(weights.sum() - 1.0) <= _SUM_TOLERANCE):
        raise InputError(field, text, "give probabilities >= 0 whose sum is 1")
    return _Lengths(np.array(tokens, dtype=np.float64), weights / weights.sum() if entries else weights)
