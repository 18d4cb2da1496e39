"""The laws of one worker as a vector that an optimiser can walk in, and what is known before any log.

The first coordinate is the logarithm of the mean time per token of the log; every other one is a ratio of two
coefficients (or the front end's overhead), so that a log fixes the first one well whatever the others are. The ratios
vary little between models and GPUs, because both parts of a step read the same weights and do the same arithmetic: the
centres below are the medians over the shipped profiles of GPUs (Llama models of 8 to 70 billion parameters on A100,
H100 and H200, fitted to NVIDIA's kernel timings), the spreads 1.5 to 2 times theirs
(``python -m experiments.calibration.law_ratios``). A log hardly ever says how a constant splits into its parts (a
server at its limit always runs one batch size); there, and only there, the ratios decide.
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
    "c1 / c3": Known(math.log(0.92), 0.35),
    "k1 / c3": Known(math.log(3.3e-3), 0.7),  # per token
    "c2 / c3": Known(math.log(3.1e-3), 0.5),  # per request
    "k2 / c3": Known(math.log(4.2e-6), 1.5),  # per token; depends most on the model's KV size
    "overlap / (c1 + c3)": Known(float(logit(0.48)), 1.0),
    "overhead": Known(math.log(0.015), 0.6),  # seconds; an unloaded server's
}
_ATTENTION = Known(math.log(5.9e-5), 1.2)  # attention / k1, per token
_FLOOR = Known(math.log(128.0), 0.7)  # tokens of the shortest prompt that the line describes
NAMES = ("k1", "c1", "attention", "floor_tokens", "k2", "c2", "c3", "mixed_overlap_s", "overhead_s")


@dataclass(frozen=True)
class Form:
    """Which terms the prefill law has beside the paper's line."""

    attention: bool
    floor: bool

    @property
    def known(self) -> list[Known]:
        """What is known of all coordinates but the first."""
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

    def per_work(self) -> Array:
        """What one unit of each kind of work costs, in the order of `Space.work`, shape (6,)."""
        return np.array([self.c3, self.c2, self.k2, self.k1, self.attention, self.c1 - self.mixed_overlap_s])


@dataclass(frozen=True, eq=False)
class Space:
    """Coordinates of the laws of one form for one log.

    Attributes:
        form: the terms of the laws.
        work: what a mean step of the log does: 1 step, requests decoded, their context, prompt tokens, their squares,
            prompts; shape (6,).
    """

    form: Form
    work: Array

    @property
    def centre(self) -> Array:
        """The most likely coordinates before any log, without the first: shape (size - 1,)."""
        return np.array([known.centre for known in self.form.known])

    @property
    def spread(self) -> Array:
        """How far the coordinates may well be from there, shape (size - 1,)."""
        return np.array([known.spread for known in self.form.known])

    def laws(self, x: Array) -> Laws:
        """The laws at the coordinates ``x``, shape (size,)."""
        c1, k1, c2, k2 = (math.exp(v) for v in x[1:5])
        extras = [math.exp(v) for v in x[7:]]
        attention = k1 * extras.pop(0) if self.form.attention else 0.0
        floor = extras.pop(0) if self.form.floor else 0.0
        overlap = float(expit(x[5])) * (c1 + 1.0)
        unit = Laws(k1, c1, attention, floor, k2, c2, 1.0, overlap, math.exp(x[6]))
        c3 = math.exp(x[0]) / float(unit.per_work() @ self.work)
        return Laws(k1 * c3, c1 * c3, attention * c3, floor, k2 * c3, c2 * c3, c3, overlap * c3, unit.overhead_s)

    def surprise(self, x: Array, centre: Array) -> Array:
        """How far the coordinates are from ``centre``, in spreads: shape (size - 1,)."""
        return np.asarray((x[1:] - centre) / self.spread, dtype=np.float64)

    def bounds(self) -> tuple[Array, Array]:
        """Where the search may go: six spreads to each side, and 1 microsecond to 100 s per token."""
        low, high = self.centre - 6 * self.spread, self.centre + 6 * self.spread
        return np.concatenate([[math.log(1e-6)], low]), np.concatenate([[math.log(100.0)], high])

    def drawn(self, rng: np.random.Generator) -> Array:
        """Coordinates, without the first, drawn from what is known before any log: shape (size - 1,)."""
        return np.asarray(rng.normal(self.centre, self.spread), dtype=np.float64)

    def taken_over(self, x: Array, old: Space) -> Array:
        """The coordinates ``x`` of another form's space as coordinates of this one; what is new is at its centre."""
        fresh = np.concatenate([x[:1], self.centre])
        shared = 7 + (self.form.attention and old.form.attention)
        fresh[:shared] = x[:shared]
        return fresh
