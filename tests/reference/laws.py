"""The time laws of a worker in plain Python, evaluated from a profile's row or built from a few constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Prefill = Callable[[float, float], float]
Decode = Callable[[int, float], float]

# Where the numbers lie in a row (the layout is described in aladdin_env/simulator/laws.py).
ATTENTION, MIXED_OVERLAP, OVERHEAD, KNOTS, LARGEST_BATCH, KV_OVERHEAD = 0, 1, 2, 3, 4, 5
FLOOR_TOKENS, FLOOR_START = 6, 7
KNOT_TOKENS, KNOT_SECONDS, DECODE_TABLES = 8, 40, 72


def row_prefill(row: Sequence[float]) -> Prefill:
    """Seconds of a prefill step: piecewise linear in tokens, plus the attention term in sum n (2 past + n)."""
    count = int(row[KNOTS])
    knots = [(row[KNOT_TOKENS + k], row[KNOT_SECONDS + k]) for k in range(count)]

    def prefill(tokens: float, sum_squares: float) -> float:
        attention = row[ATTENTION] * sum_squares
        if count == 1 or tokens <= knots[0][0]:
            return knots[0][1] + attention
        segment = 0
        while segment < count - 2 and tokens >= knots[segment + 1][0]:
            segment += 1
        (x0, y0), (x1, y1) = knots[segment], knots[segment + 1]
        return y0 + (y1 - y0) / (x1 - x0) * (tokens - x0) + attention

    return prefill


def row_hidden(row: Sequence[float]) -> Callable[[float], float]:
    """Seconds of a prefill of so many tokens that are no work: what it takes beyond a line, below the floor's end."""
    prefill, floor, start = row_prefill(row), row[FLOOR_TOKENS], row[FLOOR_START]

    def hidden(tokens: float) -> float:
        if tokens >= floor:
            return 0.0
        work = start + (prefill(floor, 0.0) - start) * (tokens / floor)
        return prefill(tokens, 0.0) - work

    return hidden


def row_decode(row: Sequence[float]) -> Decode:
    """Seconds of a decode step: alpha[batch] + beta[batch] * context tokens."""
    largest = int(row[LARGEST_BATCH])
    alpha = row[DECODE_TABLES : DECODE_TABLES + largest + 1]
    beta = row[DECODE_TABLES + largest + 1 : DECODE_TABLES + 2 * (largest + 1)]

    def decode(batch: int, context: float) -> float:
        return alpha[batch] + beta[batch] * context

    return decode


def linear_prefill(per_token_s: float, constant_s: float = 0.0, attention_s: float = 0.0) -> Prefill:
    """The paper's k1 * tokens + c1, with the attention term."""
    return lambda tokens, sum_squares: constant_s + per_token_s * tokens + attention_s * sum_squares


def linear_decode(per_context_token_s: float, per_request_s: float, constant_s: float = 0.0) -> Decode:
    """The paper's k2 * context + c2 * batch + c3."""
    return lambda batch, context: constant_s + per_request_s * batch + per_context_token_s * context
