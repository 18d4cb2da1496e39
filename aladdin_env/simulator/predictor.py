"""Output-length prediction as the paper describes it: the historical mean given the prompt's length, updated online.

The table counts finished requests by bucket of prompt length (powers of two) and bin of output length (four per
octave); from it come the mean of a bucket and the mean of what outlives a given length. Beside it stand a noisy
oracle's prediction, and the bounds of all predictions.
"""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import inlined
from aladdin_env.simulator.state import LENGTH_BINS, LENGTH_BUCKETS, Array

_MOST_TOKENS = 1e6


@inlined
def bounded(tokens: float) -> float:
    """A prediction as policies see it, 1 to 10^6 tokens; what is no number counts as 1."""
    return min(tokens, _MOST_TOKENS) if tokens >= 1.0 else 1.0


@inlined
def noisy_length(output_tokens: int, factor: float) -> float:
    """The true length times a drawn factor, in whole tokens."""
    return float(np.rint(output_tokens * factor))


@inlined
def prompt_bucket(prompt_tokens: int) -> int:
    """Bucket of a prompt: floor(log2), capped."""
    bucket = 0
    while prompt_tokens > 1 and bucket < LENGTH_BUCKETS - 1:
        prompt_tokens >>= 1
        bucket += 1
    return bucket


@inlined
def output_bin(output_tokens: int) -> int:
    """Bin of an output length: four per octave, capped."""
    return min(LENGTH_BINS - 1, int(4.0 * np.log2(float(output_tokens))))


@inlined
def observe_length(lengths: Array, prompt_tokens: int, output_tokens: int) -> None:
    """Count a finished request."""
    bucket = prompt_bucket(prompt_tokens)
    at = output_bin(output_tokens)
    lengths[bucket, at, 0] += 1.0
    lengths[bucket, at, 1] += output_tokens
    lengths[bucket, LENGTH_BINS, 0] += 1.0
    lengths[bucket, LENGTH_BINS, 1] += output_tokens


@inlined
def predict_length(lengths: Array, prompt_tokens: int, prior_tokens: float, prior_weight: float) -> float:
    """Mean output of the prompt's bucket in tokens, the prior counting as ``prior_weight`` requests."""
    bucket = prompt_bucket(prompt_tokens)
    count = lengths[bucket, LENGTH_BINS, 0] + prior_weight
    return (lengths[bucket, LENGTH_BINS, 1] + prior_weight * prior_tokens) / count


@inlined
def expected_length(lengths: Array, prompt_tokens: int, predicted_tokens: float, generated: int) -> float:
    """Expected total output of a request that has generated ``generated`` tokens (our reconstruction).

    The prediction, until it is outlived; then E[output | bucket, output > generated] from the table, and a quarter more
    than what is generated where nothing that long was ever seen.
    """
    if generated < predicted_tokens:
        return predicted_tokens
    bucket = prompt_bucket(prompt_tokens)
    count = 0.0
    total = 0.0
    for at in range(output_bin(max(generated, 1)) + 1, LENGTH_BINS):
        count += lengths[bucket, at, 0]
        total += lengths[bucket, at, 1]
    if count > 0.0:
        return total / count
    return 1.25 * generated + 1.0
