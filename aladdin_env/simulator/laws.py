"""The laws of time and memory of one worker, compiled: the only place where they are evaluated.

A latency profile becomes one row of float64 numbers (:func:`aladdin_env.latency.LatencyProfile.row`), so that
compiled policies, the simulator, the observation encoder and the live bridge all call the same functions.

Row layout (index: meaning)::

    0  attention_s           seconds per token^2 of prefill, multiplies sum of n (2 past + n)
    1  mixed_overlap_s       seconds saved when a step does prefill and decode together
    2  overhead_s            seconds that the front end adds to a token's way to the client
    3  number of prefill knots K (1 <= K <= MAX_KNOTS)
    4  largest batch in the decode tables, N
    5  kv_overhead_tokens    j / h of the paper's KV law: a request's own overhead, in tokens
    6  floor_tokens          below so many tokens the time of a prefill is a floor that decodes may hide in; 0: nowhere
    7  floor_start_s         seconds at 0 tokens of the line that the work below the floor's end follows
    8  .. 8+K                knots: tokens in the step, ascending
    40 .. 40+K               knots: seconds
    72 .. 72+N+1             alpha[batch], seconds of a decode step without context, batch 0..N
    72+N+1 .. 72+2N+2        beta[batch], seconds per context token
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aladdin_env.compiled import inlined

ATTENTION, MIXED_OVERLAP, OVERHEAD, KNOTS, LARGEST_BATCH, KV_OVERHEAD = 0, 1, 2, 3, 4, 5
FLOOR_TOKENS, FLOOR_START = 6, 7
KNOT_TOKENS, KNOT_SECONDS, DECODE_TABLES = 8, 40, 72
MAX_KNOTS = 32

Laws = NDArray[np.float64]


def row_length(largest_batch: int) -> int:
    """Numbers in the row of a profile whose decode tables reach ``largest_batch``."""
    return DECODE_TABLES + 2 * (largest_batch + 1)


@inlined
def prefill_time(laws: Laws, kind: int, tokens: float, sum_squares: float) -> float:
    """Seconds of a prefill step.

    ``tokens``: prompt tokens computed in the step; ``sum_squares``: sum over its chunks of n (2 past + n), tokens^2.
    Piecewise linear in tokens: constant below the first knot (the paper's floor for short prompts), the last slope
    beyond the last knot. Paper: k1 * tokens + c1; the knots and the attention term are our generalisation.
    """
    knots = int(laws[kind, KNOTS])
    attention = laws[kind, ATTENTION] * sum_squares
    if knots == 1 or tokens <= laws[kind, KNOT_TOKENS]:
        return laws[kind, KNOT_SECONDS] + attention
    low = 0
    high = knots - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if laws[kind, KNOT_TOKENS + middle] <= tokens:
            low = middle
        else:
            high = middle
    x0 = laws[kind, KNOT_TOKENS + low]
    y0 = laws[kind, KNOT_SECONDS + low]
    slope = (laws[kind, KNOT_SECONDS + high] - y0) / (laws[kind, KNOT_TOKENS + high] - x0)
    return y0 + slope * (tokens - x0) + attention


@inlined
def decode_alpha(laws: Laws, kind: int, batch: int) -> float:
    """Seconds of a decode step of ``batch`` requests, without the part that grows with context."""
    return laws[kind, DECODE_TABLES + batch]


@inlined
def decode_beta(laws: Laws, kind: int, batch: int) -> float:
    """Seconds per context token of a decode step of ``batch`` requests."""
    return laws[kind, DECODE_TABLES + int(laws[kind, LARGEST_BATCH]) + 1 + batch]


@inlined
def decode_time(laws: Laws, kind: int, batch: int, context_tokens: float) -> float:
    """Seconds of one decode step: alpha[batch] + beta[batch] * context tokens.

    Paper: k2 * context + c2 * batch + c3; the tables are our generalisation. ``batch`` beyond the table counts as its
    largest (policies may ask about batches that the simulator would never run).
    """
    n = min(batch, int(laws[kind, LARGEST_BATCH]))
    return decode_alpha(laws, kind, n) + decode_beta(laws, kind, n) * context_tokens


@inlined
def saved_time(laws: Laws, kind: int, tokens: float) -> float:
    """Seconds that a mixed step saves against its two parts one after the other (our reconstruction).

    One constant, and what a prefill of few tokens takes beyond its work: where the engine launches kernels one by one,
    that takes the same time however little the GPU has to do, and decodes fill it.
    """
    floor = laws[kind, FLOOR_TOKENS]
    if tokens >= floor:
        return laws[kind, MIXED_OVERLAP]
    start_s = laws[kind, FLOOR_START]
    work_s = start_s + (prefill_time(laws, kind, floor, 0.0) - start_s) * (tokens / floor)
    return laws[kind, MIXED_OVERLAP] + (prefill_time(laws, kind, tokens, 0.0) - work_s)


@inlined
def together(laws: Laws, kind: int, tokens: float, prefill_s: float, decode_s: float) -> float:
    """Seconds of a step that does in one what alone would be a prefill of ``tokens`` and a decode step."""
    return max(prefill_s + decode_s - saved_time(laws, kind, tokens), prefill_s, decode_s)


@inlined
def mixed_time(laws: Laws, kind: int, tokens: float, sum_squares: float, batch: int, context_tokens: float) -> float:
    """Seconds of a step that prefills ``tokens`` and decodes ``batch`` requests."""
    prefill_s = prefill_time(laws, kind, tokens, sum_squares)
    return together(laws, kind, tokens, prefill_s, decode_time(laws, kind, batch, context_tokens))


@inlined
def run_time(first_step_s: float, growth_s: float, steps: float) -> float:
    """Seconds of ``steps`` decode steps of an unchanged batch: an arithmetic series (our reconstruction).

    Each step adds ``batch`` context tokens, hence ``growth_s = beta * batch`` seconds to the next step.
    """
    return steps * first_step_s + growth_s * (0.5 * steps * (steps - 1.0))


@inlined
def steps_within(first_step_s: float, growth_s: float, elapsed_s: float) -> int:
    """The largest number of whole decode steps that :func:`run_time` fits into ``elapsed_s`` (inverse of it)."""
    if elapsed_s <= 0.0:
        return 0
    half = first_step_s - 0.5 * growth_s
    steps = np.floor(2.0 * elapsed_s / (half + np.sqrt(half * half + 2.0 * growth_s * elapsed_s)))
    while run_time(first_step_s, growth_s, steps) > elapsed_s:
        steps -= 1.0
    while run_time(first_step_s, growth_s, steps + 1.0) <= elapsed_s:
        steps += 1.0
    return int(steps)


@inlined
def blocks_for(tokens: int, block_size: int) -> int:
    """KV blocks that hold ``tokens`` tokens."""
    return (tokens + block_size - 1) // block_size
