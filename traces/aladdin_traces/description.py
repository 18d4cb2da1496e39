"""What one wants to know of a trace before using it, in figures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aladdin_traces.columns import FloatArray, TokenArray
from aladdin_traces.errors import InputError
from aladdin_traces.reuse import token_hit_ratio
from aladdin_traces.stats import gap_cv, index_of_dispersion, spearman
from aladdin_traces.trace import Trace

WINDOWS_S = (1.0, 10.0, 60.0)
"""Windows of the index of dispersion."""

CACHE_BLOCKS = (1_000, 10_000, 100_000)
"""Sizes of the caches whose hit ratio is told."""


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens.

    Attributes:
        mean: Mean.
        p50: Median.
        p95: 95th percentile.
        p99: 99th percentile.
        maximum: Largest.
    """

    mean: float
    p50: float
    p95: float
    p99: float
    maximum: int


@dataclass(frozen=True)
class Reuse:
    """What a prefix cache would have had; see `token_hit_ratio`.

    Attributes:
        block_size: Tokens of a block.
        blocks: Different blocks.
        ideal: Token hit ratio of a cache without end.
        lru: The same of a cache of so many blocks, the least recently used leaving.
    """

    block_size: int
    blocks: int
    ideal: float
    lru: dict[int, float]


@dataclass(frozen=True)
class Description:
    """Figures of a trace; None where they cannot be had.

    Attributes:
        requests: Number of requests.
        duration_s: Seconds from time 0 to the last arrival.
        rate_rps: Mean requests per second; None if all arrive at time 0, as they do where the source has no times.
        dispersion: Index of dispersion by window in seconds; 1 for Poisson arrivals.
        gap_cv: Standard deviation over mean of the gaps.
        prompt: Prompt lengths.
        output: Output lengths.
        spearman: Rank correlation of prompt and output.
        classes: Requests of each SLO class.
        sessions: Number of sessions, where the source has them.
        turns_per_session: Mean requests of a session.
        models: Requests of each model, where the source has them.
        reuse: Prefix reuse, where the source has blocks.
        dropped: Rows that the reader left out, by reason.
        notes: What else it did to the rows, by kind.
    """

    requests: int
    duration_s: float
    rate_rps: float | None
    dispersion: dict[float, float | None]
    gap_cv: float | None
    prompt: Lengths
    output: Lengths
    spearman: float
    classes: dict[int, int]
    sessions: int | None
    turns_per_session: float | None
    models: dict[str, int] | None
    reuse: Reuse | None
    dropped: dict[str, int]
    notes: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return a table of plain numbers, text and tables."""
        return asdict(self)


def describe(trace: Trace, cache_blocks: Sequence[int] = CACHE_BLOCKS) -> Description:
    """Compute the figures of a trace with at least one request.

    Args:
        trace: The requests.
        cache_blocks: Sizes of prefix caches, blocks, each >= 1.

    Raises:
        InputError: The trace is empty, or a size is not valid.
    """
    if len(trace) == 0:
        raise InputError("trace", trace, "give a trace with at least one request")
    counts = np.bincount(trace.klass)
    named = np.empty(0, np.int64) if trace.session is None else trace.session.codes[trace.session.codes >= 0]
    sessions = len(np.unique(named))
    return Description(
        requests=len(trace),
        duration_s=trace.duration_s,
        rate_rps=trace.rate_rps if trace.duration_s > 0 else None,
        dispersion={window: _dispersion_or_none(trace.arrival_s, window) for window in WINDOWS_S},
        gap_cv=gap_cv(trace.arrival_s) if trace.arrival_s[-1] > trace.arrival_s[0] else None,
        prompt=_lengths(trace.prompt_tokens),
        output=_lengths(trace.output_tokens),
        spearman=spearman(trace.prompt_tokens, trace.output_tokens),
        classes={k: int(count) for k, count in enumerate(counts) if count},
        sessions=sessions or None,
        turns_per_session=len(named) / sessions if sessions else None,
        models=None if trace.model is None else {str(k): int(v) for k, v in trace.model.value_counts().items()},
        reuse=_reuse(trace, cache_blocks),
        dropped=dict(trace.dropped),
        notes=dict(trace.notes),
    )


def _lengths(tokens: TokenArray) -> Lengths:
    p50, p95, p99 = np.quantile(tokens, (0.5, 0.95, 0.99)).tolist()
    return Lengths(float(tokens.mean()), p50, p95, p99, int(tokens.max()))


def _dispersion_or_none(arrival_s: FloatArray, window_s: float) -> float | None:
    try:
        return index_of_dispersion(arrival_s, window_s)
    except InputError:  # the trace is too short for this window
        return None


def _reuse(trace: Trace, cache_blocks: Sequence[int]) -> Reuse | None:
    blocks = trace.prefix_blocks
    if blocks is None or len(blocks.ids) == 0:
        return None
    lru = {size: token_hit_ratio(trace, size) for size in cache_blocks}
    return Reuse(blocks.block_size, len(np.unique(blocks.ids)), token_hit_ratio(trace), lru)
