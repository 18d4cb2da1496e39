"""Expected output lengths from a table in the kernel's memory: what the core's predictor says, in one look.

The core's ``expected_length`` sums up to 48 bins for every request that has outlived its prediction. A placement that
asks for hundreds of requests per decision keeps the sums, and renews them as requests finish.
"""

from __future__ import annotations

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator.predictor import output_bin, prompt_bucket
from aladdin_env.simulator.state import LENGTH_BINS, LENGTH_BUCKETS, Array

#: Numbers in the table.
TABLE = LENGTH_BUCKETS * LENGTH_BINS


@compiled
def renew_table(lengths: Array, memory: Array, table: int) -> float:
    """Fill ``memory[table : table + TABLE]`` with E[o | bucket, bin of o > bin], 0 where nothing that long was seen.

    Returns the most tokens that a request is still expected to generate, ``max over g, bucket of E[o | o > g] - g``.
    """
    longest = 0.0
    for bucket in range(LENGTH_BUCKETS):
        count = 0.0
        total = 0.0
        for back in range(LENGTH_BINS):
            at = LENGTH_BINS - 1 - back
            memory[table + bucket * LENGTH_BINS + at] = total / count if count > 0.0 else 0.0
            count += lengths[bucket, at, 0]
            total += lengths[bucket, at, 1]
            if count > 0.0:
                least = 2.0 ** ((at - 1) / 4.0) if at > 0 else 0.0  # the shortest g that looks at this bin and beyond
                longest = max(longest, total / count - least)
    return longest


@inlined
def keep_table(cluster: Array, lengths: Array, memory: Array, longest: int, renewed: int, table: int) -> None:
    """Keep the table up to date: renewed after every 16 finished requests and a twentieth more.

    ``memory[longest]`` gets what :func:`renew_table` returns, ``memory[renewed]`` the requests finished by then.
    """
    finished = cluster[0].finished
    if finished >= 1.05 * memory[renewed] + 16.0 or finished < memory[renewed]:
        memory[longest] = renew_table(lengths, memory, table)
        memory[renewed] = finished


@inlined
def expected_output(memory: Array, table: int, prompt_tokens: int, predicted_tokens: float, generated: int) -> float:
    """Expected total output of a request: as :func:`aladdin_env.simulator.predictor.expected_length` when renewed."""
    if generated < predicted_tokens:
        return float(predicted_tokens)
    mean = memory[table + prompt_bucket(prompt_tokens) * LENGTH_BINS + output_bin(max(generated, 1))]
    return float(mean if mean > 0.0 else 1.25 * generated + 1.0)


@inlined
def expected_rest(requests: Array, memory: Array, table: int, i: int, generated: int) -> float:
    """Tokens that request ``i`` is still expected to generate after ``generated``, at least 1."""
    request = requests[i]
    expected = expected_output(memory, table, request.prompt_tokens, request.predicted_tokens, generated)
    return float(max(1.0, expected - generated))


@inlined
def tokens_of(workers: Array, requests: Array, w: int, i: int) -> int:
    """Tokens that request ``i`` of worker ``w`` has generated."""
    if requests[i].decoding:
        return int(workers[w].decode_steps - requests[i].joined_step)
    return int(requests[i].generated)
