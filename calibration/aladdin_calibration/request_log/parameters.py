"""The laws of one worker as a vector that an optimiser can walk in, and what is known before any log.

``c3`` (seconds of the smallest decode step) is free. Every other coefficient is a ratio to it or to another, and these
ratios vary little between models and GPUs, because both parts of a step read the same weights and do the same
arithmetic: over the nine pairs of Llama models and A100, H100 and H200 whose kernels NVIDIA timed (aiconfigurator
0.12.0; ``python -m experiments.calibration.law_ratios`` prints the table from the shipped profiles) they have the
medians and about half the spreads below. A log hardly ever says how a constant splits into its parts (a server at its
limit always runs one batch size); there, and only there, the ratios decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from aladdin_env.latency import DecodeLaw, PrefillLaw, law_row
from aladdin_env.simulator import laws

Array = npt.NDArray[np.float64]


class Known(NamedTuple):
    """What is known of one coordinate: it is about ``centre``, give or take ``spread`` (of a logarithm or a logit)."""

    centre: float
    spread: float


_RATIOS = {
    "c1 / c3": Known(math.log(0.88), 0.3),
    "k1 / c3": Known(math.log(3.5e-3), 0.6),  # per token
    "c2 / c3": Known(math.log(2.7e-3), 0.5),  # per request
    "k2 / c3": Known(math.log(4.7e-6), 1.5),  # per token; depends most on the model's KV size
    "overlap / (c1 + c3)": Known(float(logit(0.45)), 1.0),
    "overhead": Known(math.log(0.015), 1.0),  # seconds; an unloaded server's
}
_ATTENTION = Known(math.log(4.6e-5), 1.0)  # attention / k1, per token
_FLOOR = Known(math.log(128.0), 0.7)  # tokens of the shortest prompt that the line describes
NAMES = ("k1", "c1", "attention", "floor_tokens", "k2", "c2", "c3", "mixed_overlap_s", "overhead_s")


@dataclass(frozen=True)
class Form:
    """Which terms the prefill law has beside the paper's line."""

    attention: bool
    floor: bool

    @property
    def size(self) -> int:
        """Coordinates of its laws."""
        return 1 + len(self.known)

    @property
    def known(self) -> list[Known]:
        """What is known of all coordinates but the first, which is ``log c3``."""
        return [*_RATIOS.values(), *([_ATTENTION] if self.attention else []), *([_FLOOR] if self.floor else [])]


FORMS = {
    "linear": Form(attention=False, floor=False),
    "linear + attention": Form(attention=True, floor=False),
    "floor + attention": Form(attention=True, floor=True),
}


@dataclass(frozen=True)
class Laws:
    """The laws of time: seconds, tokens, requests (see :class:`aladdin_env.latency.LatencyProfile`)."""

    k1: float
    c1: float
    attention: float
    floor_tokens: float
    k2: float
    c2: float
    c3: float
    mixed_overlap_s: float
    overhead_s: float

    @classmethod
    def at(cls, x: Array, form: Form) -> Laws:
        """The laws at the coordinates ``x``, shape (form.size,)."""
        c3 = math.exp(x[0])
        c1, k1, c2, k2 = (c3 * math.exp(v) for v in x[1:5])
        extras = [math.exp(v) for v in x[7:]]
        attention = k1 * extras.pop(0) if form.attention else 0.0
        floor = extras.pop(0) if form.floor else 0.0
        return cls(k1, c1, attention, floor, k2, c2, c3, float(expit(x[5])) * (c1 + c3), math.exp(x[6]))

    @property
    def prefill(self) -> PrefillLaw:
        """``max(floor, c1 + k1 n)`` and the attention term."""
        line = PrefillLaw.linear(self.k1, self.c1, self.c1 + self.k1 * self.floor_tokens)
        return PrefillLaw(line.knots_tokens, line.knots_s, self.attention)

    @property
    def decode(self) -> DecodeLaw:
        """``k2 C + c2 b + c3``."""
        return DecodeLaw.linear(self.k2, self.c2, self.c3)

    def row(self, max_num_seqs: int) -> Array:
        """The laws as the compiled simulator reads them."""
        row = law_row(self.prefill, self.decode, self.mixed_overlap_s, max_num_seqs)
        row[laws.OVERHEAD] = self.overhead_s
        return row

    def values(self) -> Array:
        """All coefficients in the order of `NAMES`."""
        return np.array([getattr(self, name) for name in NAMES])


def centre(form: Form) -> Array:
    """The most likely coordinates before any log, without the first: shape (form.size - 1,)."""
    return np.array([known.centre for known in form.known])


def surprise(x: Array, form: Form, centres: Array) -> Array:
    """How far the coordinates are from ``centres``, in spreads: shape (form.size - 1,)."""
    spreads = np.array([known.spread for known in form.known])
    return np.asarray((x[1:] - centres) / spreads, dtype=np.float64)


def drawn(form: Form, rng: np.random.Generator) -> Array:
    """Coordinates, without the first, drawn from what is known before any log: shape (form.size - 1,)."""
    spreads = np.array([known.spread for known in form.known])
    return np.asarray(rng.normal(centre(form), spreads), dtype=np.float64)


def moved(x: Array, old: Form, new: Form) -> Array:
    """The coordinates ``x`` of laws of one form as coordinates of another; what is new is at its centre."""
    fresh = np.concatenate([x[:1], centre(new)])
    fresh[:7] = x[:7]
    if old.attention and new.attention:
        fresh[7] = x[7]
    return fresh


def bounds(form: Form) -> tuple[Array, Array]:
    """Where the search may go: six spreads to each side, and 1 microsecond to 100 s for ``c3``."""
    spreads = np.array([known.spread for known in form.known])
    low, high = centre(form) - 6 * spreads, centre(form) + 6 * spreads
    return np.concatenate([[math.log(1e-6)], low]), np.concatenate([[math.log(100.0)], high])
