"""What became of recorded requests, for real or simulated, in measures with an interval.

Intervals come from a block bootstrap: the time of a log is cut into blocks of one length, and blocks are drawn with
replacement, for requests that wait in one queue are not independent, and stretches of time nearly are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ATTAINMENT = "slo_attainment"
TTFT_P50, TTFT_P99 = "ttft_p50_s", "ttft_p99_s"
ATGT_P50, ATGT_P99 = "atgt_p50_s", "atgt_p99_s"
GPU_SECONDS, COST = "gpu_seconds", "cost"
MEASURES = (ATTAINMENT, TTFT_P50, TTFT_P99, ATGT_P50, ATGT_P99, GPU_SECONDS, COST)
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcome:
    """What became of the requests of a stretch of time, and what the fleet was meanwhile.

    Attributes:
        span_s: Length of the stretch, seconds.
        arrival_s: Arrival of each request, seconds from the beginning, shape (n,).
        met: Whether it was served within its objectives, shape (n,).
        counted: Whether that counts: not where its client hung up, shape (n,).
        ttft_s: Time to its first token, seconds; NaN where nobody saw one, shape (n,).
        atgt_s: Time per token after it, seconds; NaN likewise, shape (n,).
        change_s: When the fleet changed, from 0, ascending, shape (m,).
        gpus: GPUs from then on, shape (m,).
        cost_per_s: Currency per second from then on, shape (m,).
    """

    span_s: float
    arrival_s: Floats
    met: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    ttft_s: Floats
    atgt_s: Floats
    change_s: Floats
    gpus: Floats
    cost_per_s: Floats

    def blocks_of(self, arrival_s: Floats, blocks: int) -> NDArray[np.int64]:
        """In which of so many blocks of this stretch requests arrive."""
        found = (arrival_s / self.span_s * blocks).astype(np.int64)
        return np.minimum(found, blocks - 1)


class Blocks:
    """Outcomes of one or more stretches, cut into blocks of time.

    Args:
        outcomes: One for each stretch.
        counts: Blocks of each.
    """

    def __init__(self, outcomes: Sequence[Outcome], counts: Sequence[int]) -> None:
        self.size = sum(counts)
        firsts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        parts = list(zip(outcomes, counts, firsts, strict=True))
        block = np.concatenate([first + one.blocks_of(one.arrival_s, n) for one, n, first in parts])
        met, counted, ttft_s, atgt_s = (
            np.concatenate([getattr(one, name) for one in outcomes]) for name in ("met", "counted", "ttft_s", "atgt_s")
        )
        self._counted = np.bincount(block[counted], minlength=self.size).astype(np.float64)
        self._met = np.bincount(block[counted & met], minlength=self.size).astype(np.float64)
        self._ttft, self._atgt = _Sorted(ttft_s, block), _Sorted(atgt_s, block)
        self._gpu_s = np.concatenate([_per_block(one.change_s, one.gpus, one.span_s, n) for one, n, _ in parts])
        self._cost = np.concatenate([_per_block(one.change_s, one.cost_per_s, one.span_s, n) for one, n, _ in parts])

    def measures(self, weights: NDArray[Any] | None = None) -> dict[str, float]:
        """The measures where each block counts ``weights`` times, shape (size,); None: once."""
        w = np.ones(self.size) if weights is None else weights
        counted = float(w @ self._counted)
        ttft, atgt = self._ttft.quantiles(w, (0.5, 0.99)), self._atgt.quantiles(w, (0.5, 0.99))
        share = float(w @ self._met) / counted if counted else np.nan
        values = (share, *ttft, *atgt, float(w @ self._gpu_s), float(w @ self._cost))
        return dict(zip(MEASURES, values, strict=True))


class _Sorted:
    """Values in order, each with its block: quantiles under other weights are one pass."""

    def __init__(self, values: Floats, block: NDArray[np.int64]) -> None:
        known = np.flatnonzero(~np.isnan(values))
        order = known[np.argsort(values[known], kind="stable")]
        self._values, self._block = values[order], block[order]

    def quantiles(self, weights: NDArray[Any], shares: Sequence[float]) -> list[float]:
        if len(self._values) == 0:
            return [np.nan] * len(shares)
        up_to = np.cumsum(weights[self._block])
        if up_to[-1] == 0:
            return [np.nan] * len(shares)
        return [float(self._values[np.searchsorted(up_to, share * up_to[-1])]) for share in shares]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; without blocks enough the bounds are NaN."""

    value: float
    low: float
    high: float


def resampled(
    measure: Callable[[NDArray[Any], int], dict[str, float]], blocks: int, resamples: int, seeds: int
) -> dict[str, Floats]:
    """Measures under resampled blocks.

    Args:
        measure: Given how often each block counts, and the number of a seed, 0 to ``seeds`` - 1.
        blocks: Blocks that there are.
        resamples: How often they are drawn.
        seeds: Simulations of each that there are; they take turns, so that the interval holds their chance too.
    """
    rng = np.random.default_rng(0)  # the same log gives the same interval
    even = np.full(blocks, 1 / blocks)
    rows = [measure(rng.multinomial(blocks, even), i % seeds) for i in range(resamples)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def interval(value: float, draws: Floats) -> Interval:
    """The value, and the 95 % interval of the draws; none where they are not enough."""
    known = draws[~np.isnan(draws)]
    if len(known) < 2:
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(known, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Interval(value, float(low), float(high))


def _per_block(change_s: Floats, level: Floats, span_s: float, blocks: int) -> Floats:
    """The integral of a step function over each block."""
    edges = np.linspace(0.0, span_s, blocks + 1)
    times = np.unique(np.concatenate([change_s[change_s < span_s], edges]))
    now = level[np.searchsorted(change_s, times[:-1], side="right") - 1]
    total = np.concatenate([[0.0], np.cumsum(now * np.diff(times))])
    return np.diff(np.interp(edges, times, total))
