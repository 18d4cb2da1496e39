"""The laws of time of one worker as a profile holds them: checked numbers, laid out for the compiled functions.

The paper's laws are linear (:meth:`PrefillLaw.linear`, :meth:`DecodeLaw.linear`); the knots, the floor, the attention
term and the tables over batch size are our generalisation. They are evaluated by :mod:`aladdin_env.simulator.laws`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from aladdin_env.simulator import laws
from aladdin_traces import checks
from aladdin_traces.errors import InputError

_SPAN_TOKENS, _SPAN_BATCH = 10000.0, 1000  # second point of a linear law: any point does, a far one rounds least
_ROUNDING = 1e-12  # a fall that only rounding makes is none


def _rising(name: str, values: Sequence[float], strictly: bool = False) -> None:
    for i, (before, after) in enumerate(pairwise(values), start=1):
        if after < before * (1 - _ROUNDING) or (strictly and after <= before):
            rule = f"more than {before}" if strictly else f"at least {before}, for time must not decrease"
            raise InputError(f"{name}[{i}]", after, f"give {rule}")


@dataclass(frozen=True)
class PrefillLaw:
    """Seconds of a prefill step: piecewise linear in its prompt tokens, plus an attention term.

    Attributes:
        knots_tokens: prompt tokens computed in the step, ascending. Below the first knot the time is constant (the
            floor that short prompts meet), beyond the last knot the last slope goes on.
        knots_s: seconds at the knots, not decreasing.
        attention_s_per_token2: seconds per token^2, multiplies the sum over the step's chunks of ``n (2 past + n)``
            (n tokens computed now, ``past`` computed before); 0 in the paper's law.
        floor_tokens: one of the knots but the last: up to there the engine's launches take longer than the GPU's work,
            so that decodes of the same step hide in them (our reconstruction); 0: nowhere.
    """

    knots_tokens: tuple[float, ...]
    knots_s: tuple[float, ...]
    attention_s_per_token2: float = 0.0
    floor_tokens: float = 0.0

    def __post_init__(self) -> None:
        """Check every number."""
        tokens = checks.numbers("prefill.knots_tokens", self.knots_tokens, low=0.0)
        seconds = checks.numbers("prefill.knots_s", self.knots_s, low=0.0)
        attention = checks.number("prefill.attention_s_per_token2", self.attention_s_per_token2, low=0.0)
        if len(tokens) > laws.MAX_KNOTS:
            raise InputError("prefill.knots_tokens", len(tokens), f"give at most {laws.MAX_KNOTS} knots")
        checks.same_length("prefill.knots_s", seconds, "prefill.knots_tokens", tokens)
        _rising("prefill.knots_tokens", tokens, strictly=True)
        _rising("prefill.knots_s", seconds)
        if seconds[-1] + attention == 0.0:
            raise InputError("prefill.knots_s", list(seconds), "give a time above 0 at the last knot")
        for name, value in (("knots_tokens", tokens), ("knots_s", seconds), ("attention_s_per_token2", attention)):
            object.__setattr__(self, name, value)
        floor = checks.number("prefill.floor_tokens", self.floor_tokens, low=0.0)
        if floor and floor not in self.floor_ends:
            mend = "give 0, or a knot but the last from which the next stretch goes down to 0 tokens below the law"
            raise InputError("prefill.floor_tokens", floor, f"{mend}: {list(self.floor_ends) or 'here there is none'}")
        object.__setattr__(self, "floor_tokens", floor)

    @classmethod
    def linear(cls, k1: float, c1: float, floor_s: float = 0.0) -> PrefillLaw:
        """The paper's law with the floor of short prompts: ``max(floor_s, k1 * tokens + c1)``.

        ``k1`` seconds per token, ``c1`` seconds (may be negative under a floor), ``floor_s`` seconds.
        """
        floor = checks.number("floor_s", floor_s, low=0.0)
        constant = checks.number("c1", c1, low=-math.inf if floor else 0.0)
        if checks.number("k1", k1, low=0.0) == 0.0:
            return cls((0.0,), (max(floor, constant),))
        start = max(0.0, (floor - constant) / k1)
        end = start + _SPAN_TOKENS
        return cls((start, end), (max(floor, constant), k1 * end + constant))

    @cached_property
    def floor_ends(self) -> tuple[float, ...]:
        """The knots that ``floor_tokens`` may be."""
        knots = range(len(self.knots_tokens) - 1)
        return tuple(self.knots_tokens[i] for i in knots if self.knots_tokens[i] > 0.0 and self._is_below(i))

    def _is_below(self, end: int) -> bool:
        """Whether the line of the work up to this knot is nowhere above the law."""
        start_s = self._work_start_s(end)
        share = np.divide(self.knots_tokens[:end], self.knots_tokens[end])
        line = start_s + (self.knots_s[end] - start_s) * share
        law = np.array([self.knots_s[0], *self.knots_s[:end]])
        return bool(np.all(np.array([start_s, *line]) <= law * (1.0 + _ROUNDING)))

    def _work_start_s(self, end: int) -> float:
        (x0, x1), (y0, y1) = self.knots_tokens[end : end + 2], self.knots_s[end : end + 2]
        return max(0.0, y0 - (y1 - y0) / (x1 - x0) * x0)

    @property
    def work_start_s(self) -> float:
        """Seconds at 0 tokens of the line that the work follows up to the floor's end; without a floor, the law's."""
        return self._work_start_s(self.knots_tokens.index(self.floor_tokens)) if self.floor_tokens else self.knots_s[0]

    @cached_property
    def work_knots(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Knots (tokens, seconds) of the law without the floor.

        Below the floor's end the stretch that follows goes on down to 0 tokens, if not below 0 s: what a prefill
        adds to a mixed step, one constant aside (our reconstruction).
        """
        tokens, seconds = np.array(self.knots_tokens), np.array(self.knots_s)
        if not self.floor_tokens:
            return tokens, seconds
        kept = tokens >= self.floor_tokens
        return np.concatenate([[0.0], tokens[kept]]), np.concatenate([[self.work_start_s], seconds[kept]])


@dataclass(frozen=True)
class DecodeLaw:
    """Seconds of a decode step: ``alpha[batch] + beta[batch] * context tokens``, tables over the batch size.

    Between listed batch sizes alpha and batch x beta (seconds per token of *mean* context) are interpolated linearly,
    beyond the last their slope goes on, below the first alpha and beta are constant; a table of one size holds for all.
    Neither alpha nor batch x beta may decrease: one more request with as much context as the others have on average
    never makes a step faster. (beta alone may fall: on some GPUs a small batch of long contexts is slower than a
    larger one of the same total.)

    Attributes:
        batch: batch sizes of the tables (requests in the step), ascending.
        alpha_s: seconds at these sizes without any context; the paper's ``c2 * batch + c3``.
        beta_s_per_token: seconds per context token of the whole batch; the paper's ``k2``.
    """

    batch: tuple[int, ...]
    alpha_s: tuple[float, ...]
    beta_s_per_token: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check every number."""
        batch = checks.wholes("decode.batch", self.batch, low=0, high=checks.TOKENS_MAX)
        _rising("decode.batch", batch, strictly=True)
        object.__setattr__(self, "batch", batch)
        for name in ("alpha_s", "beta_s_per_token"):
            values = checks.numbers(f"decode.{name}", getattr(self, name), low=0.0)
            checks.same_length(f"decode.{name}", values, "decode.batch", batch)
            object.__setattr__(self, name, values)
        _rising("decode.alpha_s", self.alpha_s)
        _rising("decode.batch * beta_s_per_token", [n * b for n, b in zip(batch, self.beta_s_per_token, strict=True)])
        alpha, beta = self.tables(1)
        if alpha[1] + beta[1] == 0.0:
            raise InputError("decode.alpha_s", list(self.alpha_s), "give a time above 0 for a batch of one")

    @classmethod
    def linear(cls, k2: float, c2: float, c3: float) -> DecodeLaw:
        """The paper's law ``k2 * context + c2 * batch + c3``: seconds per token, per request, and seconds."""
        return cls((0, _SPAN_BATCH), (c3, c3 + c2 * _SPAN_BATCH), (k2, k2))

    def tables(self, largest_batch: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Alpha (seconds) and beta (seconds per context token) of every batch size 0 to ``largest_batch``."""
        sizes = np.arange(largest_batch + 1, dtype=np.float64)
        beta = np.full(len(sizes), self.beta_s_per_token[0])
        if len(self.batch) > 1:
            per_mean_token = self._extended(np.multiply(self.batch, self.beta_s_per_token), sizes)
            np.divide(per_mean_token, sizes, out=beta, where=sizes > self.batch[0])
        return self._extended(np.array(self.alpha_s), sizes), beta

    def _extended(self, values: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        table = np.asarray(np.interp(sizes, self.batch, values), dtype=np.float64)
        if len(values) > 1:
            slope = (values[-1] - values[-2]) / (self.batch[-1] - self.batch[-2])
            table += slope * np.maximum(sizes - self.batch[-1], 0.0)
        return table


def law_row(
    prefill: PrefillLaw, decode: DecodeLaw, mixed_overlap_s: float, largest_batch: int, length: int | None = None
) -> NDArray[np.float64]:
    """The laws of time as one row in the layout of :mod:`aladdin_env.simulator.laws`.

    The decode tables reach from batch 0 to ``largest_batch``. Zeros fill the row up to ``length`` (rows of several
    worker types must be equally long); by default it is ``row_length(largest_batch)``, the least.
    """
    largest = checks.whole("largest_batch", largest_batch, low=1, high=checks.TOKENS_MAX)
    needed = laws.row_length(largest)
    row = np.zeros(
        needed if length is None else checks.whole("length", length, low=needed, high=checks.TOKENS_MAX),
        dtype=np.float64,
    )
    knots = len(prefill.knots_tokens)
    row[laws.ATTENTION] = prefill.attention_s_per_token2
    row[laws.MIXED_OVERLAP] = mixed_overlap_s
    row[laws.FLOOR_TOKENS] = prefill.floor_tokens
    row[laws.FLOOR_START] = prefill.work_start_s
    row[laws.KNOTS] = knots
    row[laws.LARGEST_BATCH] = largest
    row[laws.KNOT_TOKENS : laws.KNOT_TOKENS + knots] = prefill.knots_tokens
    row[laws.KNOT_SECONDS : laws.KNOT_SECONDS + knots] = prefill.knots_s
    row[laws.DECODE_TABLES : needed] = np.concatenate(decode.tables(largest))
    return row
