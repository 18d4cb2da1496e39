"""What will happen on a worker if a request is placed there: compiled predictions over the public arrays.

Units: seconds and tokens. ``w`` is the worker, ``r`` the request to be placed. Nothing here knows a true output length.
"""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import compiled, inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.state import (
    CHUNKED,
    DECODE_ROLE,
    DECODING,
    MIXED_ROLE,
    MIXING,
    NONE,
    PREFILLING,
    Array,
)

# Waiting requests looked at one by one; of a longer queue only the sum counts, and nobody in it is promised anything.
_LONGEST_WALK = 64
# Weight of the request at hand among the finished ones when typical lengths are asked for.
_TYPICAL_WEIGHT = 50.0


@inlined
def rest_of_step(workers: Array, w: int, now_s: float) -> float:
    """Seconds until the next step boundary of ``w``; 0 when it idles."""
    return max(0.0, workers[w].step_end_s - now_s) if workers[w].step >= PREFILLING else 0.0


@inlined
def tokens_under_way(workers: Array, w: int) -> int:
    """Tokens that each decoding request of ``w`` gets from the current step: 1 unless it only prefills."""
    return 1 if workers[w].step == DECODING or workers[w].step == MIXING else 0


@inlined
def computed_share(cluster: Array) -> float:
    """Share of the prompt tokens admitted so far that had to be computed; the rest was found in prefix caches."""
    sums = cluster[0]
    return 1.0 - float(sums.prefix_hit_tokens) / max(1.0, float(sums.prefix_asked_tokens))


@inlined
def queued_prefill(workers: Array, cluster: Array, w: int) -> int:
    """Tokens to prefill before what waits on ``w`` is done; of its cached prefixes only the usual share is known."""
    return int(np.ceil(workers[w].waiting_prefill_tokens * computed_share(cluster)))


@inlined
def own_prefill(workers: Array, requests: Array, w: int, r: int) -> int:
    """Tokens of ``r`` to prefill on ``w``: all but those that are cached there, at least 1."""
    return max(1, int(requests[r].prompt_tokens + requests[r].generated - workers[w].prefix_hit_tokens))


@inlined
def own_squares(workers: Array, requests: Array, w: int, r: int) -> float:
    """``n (2 past + n)`` of that prefill, token^2: the square of the whole less that of what is cached."""
    whole = float(requests[r].prompt_tokens + requests[r].generated)
    cached = float(workers[w].prefix_hit_tokens)
    return whole * whole - cached * cached


@inlined
def batch_after(workers: Array, w: int) -> int:
    """Requests on ``w`` once one more is placed there."""
    return int(workers[w].members + 1)


@inlined
def context_now(workers: Array, requests: Array, w: int, r: int) -> float:
    """Tokens that all requests of ``w`` and ``r`` hold once they are prefilled.

    From sums kept by the worker: what decodes, plus what waits to be prefilled; at least all prompts.
    """
    worker = workers[w]
    held = max(worker.context_tokens + worker.waiting_prefill_tokens, worker.member_prompt_tokens)
    return float(held + requests[r].prompt_tokens)


@inlined
def context_at_end(workers: Array, requests: Array, w: int, r: int) -> float:
    """Sum of the final sizes of all requests of ``w`` and ``r`` as predicted when they arrived, tokens."""
    worker = workers[w]
    final = worker.member_prompt_tokens + worker.member_predicted_tokens
    final += requests[r].prompt_tokens + requests[r].predicted_tokens
    return float(max(final, context_now(workers, requests, w, r)))


@inlined
def step_after(workers: Array, requests: Array, laws: Array, w: int, r: int) -> float:
    """Seconds of a decode step of ``w`` with ``r`` and all that waits there in the batch, at the present context."""
    context = context_now(workers, requests, w, r)
    return law.decode_time(laws, workers[w].type_index, batch_after(workers, w), context)


@inlined
def _prefill_needs(requests: Array, i: int) -> int:
    """Tokens to prefill of waiting request ``i``; 0 where its KV came from a prefill worker."""
    return 0 if requests[i].computed > 0 else int(requests[i].prompt_tokens + requests[i].generated)


@inlined
def _deadline(requests: Array, slo: Array, i: int) -> float:
    """When waiting request ``i`` must have its first token at the client; infinity when it has it already."""
    if not np.isnan(requests[i].first_token_s):
        return np.inf
    return float(requests[i].arrival_s + slo[requests[i].klass, 0])


@compiled
def _in_whole_prompts(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, w: int, r: int
) -> tuple[float, float]:
    """:func:`first_token_after` where prompts are prefilled whole (``prefill_first``, ``split``)."""
    worker = workers[w]
    now_s = cluster[0].now_s
    share = computed_share(cluster)
    kind = worker.type_index
    budget = types[kind].max_num_batched_tokens
    overhead = laws[kind, law.OVERHEAD]
    elapsed = rest_of_step(workers, w, now_s)
    tokens = 0
    squares = 0.0
    soonest = np.inf
    walked = 0
    walked_tokens = 0
    walked_squares = 0.0
    i = worker.wait_head
    while i != NONE and walked < _LONGEST_WALK:
        need = int(np.ceil(share * _prefill_needs(requests, i)))
        walked_tokens += need
        walked_squares += float(need) * need
        if tokens > 0 and tokens + need > budget:
            elapsed += law.prefill_time(laws, kind, float(tokens), squares)
            tokens = 0
            squares = 0.0
            soonest = np.inf
        tokens += need
        squares += float(need) * need
        deadline = _deadline(requests, slo, i)
        if now_s + elapsed + law.prefill_time(laws, kind, float(tokens), squares) + overhead <= deadline:
            soonest = min(soonest, deadline)
        walked += 1
        i = requests[i].next
    if i != NONE:  # a very long queue: the tokens of its tail are known, not how they fall into steps
        tail = max(0.0, share * worker.waiting_prefill_tokens - walked_tokens)
        elapsed += law.prefill_time(laws, kind, float(tokens), squares)
        of_budget = budget * walked_squares / max(1, walked_tokens)
        elapsed += law.prefill_time(laws, kind, float(budget), of_budget) * tail / budget
        tokens = 0
        squares = 0.0
        soonest = np.inf
    need = own_prefill(workers, requests, w, r)
    if tokens > 0 and tokens + need > budget:
        elapsed += law.prefill_time(laws, kind, float(tokens), squares)
        tokens = 0
        squares = 0.0
        soonest = np.inf
    squares += own_squares(workers, requests, w, r)
    elapsed += law.prefill_time(laws, kind, float(tokens + need), squares)
    return elapsed, soonest - (now_s + elapsed + overhead)


@inlined
def chunk_budget(workers: Array, types: Array, w: int) -> int:
    """Prompt tokens that a chunked step of ``w`` has room for beside its decoding requests, at least 1."""
    return max(1, int(types[workers[w].type_index].max_num_batched_tokens - workers[w].decoding))


@inlined
def chunk_step(workers: Array, laws: Array, w: int, tokens: float, squares: float) -> float:
    """Seconds of a chunked step of ``w`` with ``tokens`` prompt tokens beside its decoding requests."""
    worker = workers[w]
    if worker.decoding == 0:
        return law.prefill_time(laws, worker.type_index, tokens, squares)
    return law.mixed_time(laws, worker.type_index, tokens, squares, worker.decoding, float(worker.context_tokens))


@inlined
def chunk_squares(workers: Array, requests: Array, cluster: Array, w: int, r: int) -> float:
    """Sum of squares of the prompts to prefill on ``w`` with ``r``, those in the queue taken as of equal length."""
    queued = float(queued_prefill(workers, cluster, w))
    return float(own_squares(workers, requests, w, r) + queued * queued / max(1, workers[w].waiting))


@compiled
def _in_chunks(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, w: int, r: int
) -> tuple[float, float]:
    """:func:`first_token_after` where prompts are prefilled in chunks beside the decodes (``chunked``).

    ``S`` tokens with room for ``B`` per step take ``ceil(S / B)`` mixed steps, all full but the last.
    """
    worker = workers[w]
    now_s = cluster[0].now_s
    share = computed_share(cluster)
    overhead = laws[worker.type_index, law.OVERHEAD]
    room = chunk_budget(workers, types, w)
    own = own_prefill(workers, requests, w, r)
    total = queued_prefill(workers, cluster, w) + own
    squares = chunk_squares(workers, requests, cluster, w, r)
    full = (total - 1) // room
    last = total - full * room
    elapsed = rest_of_step(workers, w, now_s) + chunk_step(workers, laws, w, float(last), squares * last / total)
    if full > 0:
        elapsed += full * chunk_step(workers, laws, w, float(room), squares * room / total)
    soonest = np.inf
    if worker.waiting <= _LONGEST_WALK:  # who shares the last step, from the tail of the queue
        behind = own
        without = elapsed - chunk_step(workers, laws, w, float(last), squares * last / total)
        i = worker.wait_tail
        while i != NONE and behind < last:
            deadline = _deadline(requests, slo, i)
            if now_s + without + chunk_step(workers, laws, w, float(last - own), 0.0) + overhead <= deadline:
                soonest = min(soonest, deadline)
            behind += int(np.ceil(share * _prefill_needs(requests, i)))
            i = requests[i].prev
    return elapsed, soonest - (now_s + elapsed + overhead)


@inlined
def first_token_after(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, w: int, r: int
) -> tuple[float, float]:
    """Seconds until ``r`` would have its first token on ``w``, by the engine's clock, and what the queue has to spare.

    The second number is the least time, in seconds, that a request waiting on ``w`` whose first token ``r`` would delay
    has left then; requests that would be late with nobody behind them do not count; infinity where there is none.
    """
    if workers[w].role == DECODE_ROLE:
        return rest_of_step(workers, w, cluster[0].now_s), np.inf
    if types[workers[w].type_index].scheduler == CHUNKED:
        return _in_chunks(workers, requests, cluster, types, laws, slo, w, r)
    return _in_whole_prompts(workers, requests, cluster, types, laws, slo, w, r)


@inlined
def prefill_backlog(
    workers: Array, cluster: Array, types: Array, laws: Array, w: int, own: int, squares: float
) -> float:
    """Seconds of steps with prompt tokens ahead of ``w``: all that waits there and ``own`` tokens more, in O(1).

    ``squares``: those of the ``own`` tokens, see :func:`own_squares`.
    """
    worker = workers[w]
    kind = worker.type_index
    queued = queued_prefill(workers, cluster, w)
    tokens = queued + own
    if tokens == 0:
        return 0.0
    squares += float(queued) * queued / max(1, worker.waiting)
    if types[kind].scheduler == CHUNKED:
        room = chunk_budget(workers, types, w)
        full = (tokens - 1) // room
        last = tokens - full * room
        seconds = chunk_step(workers, laws, w, float(last), squares * last / tokens)
        if full > 0:
            seconds += full * chunk_step(workers, laws, w, float(room), squares * room / tokens)
        return seconds
    budget = types[kind].max_num_batched_tokens
    if tokens <= budget:
        return law.prefill_time(laws, kind, float(tokens), squares)
    return float(law.prefill_time(laws, kind, float(budget), squares * budget / tokens) * tokens / budget)


@inlined
def typical_lengths(cluster: Array, requests: Array, r: int) -> tuple[float, float]:
    """Mean prompt tokens and mean decoded tokens (output - 1) of what has finished.

    The lengths of ``r`` count as ``_TYPICAL_WEIGHT`` requests, so that there is an answer from the start.
    """
    sums = cluster[0]
    count = sums.finished + _TYPICAL_WEIGHT
    prompt = (sums.finished_prompt_tokens + _TYPICAL_WEIGHT * requests[r].prompt_tokens) / count
    output = (sums.finished_output_tokens + _TYPICAL_WEIGHT * requests[r].predicted_tokens) / count
    return float(prompt), float(max(1.0, output - 1.0))


@inlined
def prefill_cost(types: Array, laws: Array, kind: int, tokens: float, decode_s: float) -> float:
    """Seconds that a prompt of ``tokens`` takes from the decodes of a worker of type ``kind``; 0 where none decode.

    ``decode_s``: their step without it; chunked, a mixed step is no shorter than the prefill alone.
    """
    if types[kind].role != MIXED_ROLE:
        return 0.0
    seconds = law.prefill_time(laws, kind, tokens, tokens * tokens)
    if types[kind].scheduler == CHUNKED:
        seconds = max(0.0, seconds - law.saved_time(laws, kind, tokens), seconds - decode_s)
    return seconds


@inlined
def steady_pace(workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, w: int, r: int) -> float:
    """Seconds per token of ``w`` with ``r``, should it keep that many requests (our reconstruction).

    ``decode(b', sum l') + b' prefill(s) / m``: a decode step with each request at the mean of its present and its final
    length, plus the share of prefills, as each of the ``b'`` places turns over every ``m`` tokens. ``s``, ``m``: see
    :func:`typical_lengths`. The paper's pace condition, as we know it, has the first term only.
    """
    kind = workers[w].type_index
    batch = batch_after(workers, w)
    context = 0.5 * (context_now(workers, requests, w, r) + context_at_end(workers, requests, w, r))
    prompt, decoded = typical_lengths(cluster, requests, r)
    decode_s = law.decode_time(laws, kind, batch, context)
    stalled_s = batch * prefill_cost(types, laws, kind, prompt * computed_share(cluster), decode_s) / decoded
    return float(decode_s + stalled_s)
