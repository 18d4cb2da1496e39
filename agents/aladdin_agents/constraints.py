"""Aladdin's four constraints, each by itself, compiled (docs/aladdin.md).

[P] marks what the paper states, [R] what is our reconstruction. Notation: q the request to be placed (``r``), w the
worker, i its requests, b' the requests there once q is placed, p prompt tokens, g generated tokens, E expected output
tokens, s and m the typical prompt and decoded tokens. Seconds and tokens throughout.
"""

from __future__ import annotations

import numpy as np

from aladdin_agents.predictions import (
    batch_after,
    chunk_budget,
    chunk_squares,
    chunk_step,
    own_prefill,
    queued_prefill,
    rest_of_step,
    steady_pace,
    step_after,
    tokens_under_way,
)
from aladdin_env.compiled import inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.state import CHUNKED, DECODE_ROLE, MAX_CLASSES, PREFILL_ROLE, Array


@inlined
def ttft_spare(
    requests: Array, cluster: Array, laws: Array, slo: Array, kind: int, r: int, first_token_in_s: float
) -> float:
    """Constraint 1, TTFT: seconds that q has left at its first token; it holds where this is 0 or more.

    ``TTFT - (now - arrival) - (rest of the step + prefill(S) + overhead)``, S the prompt tokens waiting at w, q's
    included [R]; the paper's prefill law is ``k1 S + c1`` [P]. The time in the last brackets is
    :func:`aladdin_agents.predictions.first_token_after` less the overhead; what its second number says is the same for
    the requests that wait there already.
    """
    done_s = cluster[0].now_s + first_token_in_s + laws[kind, law.OVERHEAD]
    return float(requests[r].arrival_s + slo[requests[r].klass, 0] - done_s)


@inlined
def strictest_pace(workers: Array, requests: Array, slo: Array, w: int, r: int) -> float:
    """The least ATGT among the classes of q and of what decodes on w, seconds per token."""
    target = slo[requests[r].klass, 1]
    for klass in range(MAX_CLASSES):
        if workers[w].slack_key_s[klass] < np.inf:
            target = min(target, slo[klass, 1])
    return float(target)


@inlined
def pace_load(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, w: int, r: int, theta: float
) -> float:
    """Constraint 2, pace: time per token over what is allowed; it holds where this is 1 or less.

    ``(decode(b', sum l') + b' prefill(s) / m) / (theta ATGT)``. The decode law ``k2 sum l + c2 b + c3`` is [P], the
    condition on it [R]; the second term is ours: without it w is filled as if its prefills cost no time.
    """
    if workers[w].role == PREFILL_ROLE:
        return 0.0
    pace_s = steady_pace(workers, requests, cluster, types, laws, w, r)
    return pace_s / (theta * strictest_pace(workers, requests, slo, w, r))


@inlined
def _spare_of_decoding(workers: Array, slo: Array, w: int, tokens: float, seconds: float, now_s: float) -> float:
    """Least time that a decoding request of w has left if it ends ``tokens`` and ``seconds`` after the current step.

    The core keeps ``key = min (first token - ATGT joined_step)`` per class. A request has ``steps - joined_step``
    tokens after decode step ``steps``, hence its last one is due at ``key + ATGT (steps - 1)``.
    """
    steps = workers[w].decode_steps + tokens_under_way(workers, w) + tokens - 1.0
    due_s = np.inf
    for klass in range(MAX_CLASSES):
        due_s = min(due_s, workers[w].slack_key_s[klass] + slo[klass, 1] * steps)
    return float(due_s - (now_s + rest_of_step(workers, w, now_s) + seconds))


@inlined
def _spare_through_chunks(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, w: int, r: int,
    stall_s: float, step_s: float, ahead: float,
) -> float:  # fmt: skip
    """:func:`promise_spare` of the decoding ones where every step of the stall gives each of them a token.

    Looked at: the end of the stall, or the ``ahead``-th token if that comes later; and the ``ahead``-th token if it
    comes earlier, amid full steps.
    """
    now_s = cluster[0].now_s
    room = chunk_budget(workers, types, w)
    prompt = queued_prefill(workers, cluster, w) + own_prefill(workers, requests, w, r)
    steps = float((prompt + room - 1) // room)
    later = max(0.0, ahead - steps)
    spare_s = _spare_of_decoding(workers, slo, w, steps + later, stall_s + later * step_s, now_s)
    if ahead < steps:
        squares = chunk_squares(workers, requests, cluster, w, r) * room / prompt
        full_s = chunk_step(workers, laws, w, float(room), squares)
        spare_s = min(spare_s, _spare_of_decoding(workers, slo, w, ahead, ahead * full_s, now_s))
    return spare_s


@inlined
def _counted_in_stall(workers: Array, requests: Array, cluster: Array, laws: Array, w: int, r: int) -> float:
    """Seconds of decoding that a chunked stall already counts, or saves: of those that decode now, not of the new."""
    worker = workers[w]
    if worker.decoding > 0:
        return float(law.decode_time(laws, worker.type_index, worker.decoding, float(worker.context_tokens)))
    prompt = queued_prefill(workers, cluster, w) + own_prefill(workers, requests, w, r)
    return float(law.saved_time(laws, worker.type_index, float(prompt)))


@inlined
def promise_spare(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, w: int, r: int,
    first_token_in_s: float, ahead: float, fresh_ahead: float,
) -> float:  # fmt: skip
    """Constraint 3, the promise to the running: least seconds that one of them has left; it holds where 0 or more.

    A request that ends ``ahead`` tokens from the end of the current step on must still have kept its ATGT [R]:
    ``first token_i + ATGT (g_i + ahead - 1) - (now + rest of the step + stall + ahead decode(b', sum l)) >= 0``.
    ``ahead`` = 1 is the any-time guarantee: whoever ends with its very next token is in time. ``stall``: the prefill of
    all that waits and of q; none on a decode worker. Chunked, the steps of the stall give tokens themselves. Requests
    that get their first token at the end of the current step have no time in hand yet; for them the promise is written
    over ``fresh_ahead`` tokens (0: not at all): ``fresh_ahead (ATGT - decode(b', sum l)) - stall >= 0``. Chunked, up to
    1, no decode follows the stall: its step is their next token, and ``decode`` is what they add to that. (Beyond 1 one
    decode too many is counted; a token for each step of a long stall never is: where full steps keep the pace, queues
    would grow until first tokens are late.)
    """
    worker = workers[w]
    now_s = cluster[0].now_s
    if worker.role == PREFILL_ROLE or worker.running == 0:
        return np.inf
    step_s = step_after(workers, requests, laws, w, r)
    stall_s = 0.0
    if worker.role != DECODE_ROLE:
        stall_s = first_token_in_s - rest_of_step(workers, w, now_s)
    spare_s = np.inf
    if worker.decoding > 0:
        if types[worker.type_index].scheduler == CHUNKED:
            spare_s = _spare_through_chunks(workers, requests, cluster, types, laws, slo, w, r, stall_s, step_s, ahead)
        else:
            spare_s = _spare_of_decoding(workers, slo, w, ahead, stall_s + ahead * step_s, now_s)
    if fresh_ahead > 0.0 and worker.running > worker.decoding:
        target = strictest_pace(workers, requests, slo, w, r)
        if fresh_ahead <= 1.0 and types[worker.type_index].scheduler == CHUNKED:
            step_s = max(0.0, step_s - _counted_in_stall(workers, requests, cluster, laws, w, r))
        spare_s = min(spare_s, fresh_ahead * (target - step_s) - stall_s)
    return float(spare_s)


@inlined
def kv_held_at_most(workers: Array, requests: Array, w: int, r: int) -> float:
    """Tokens that w holds at most once all that is placed there, and q, is prefilled. O(1)."""
    worker = workers[w]
    held = worker.kv_used_blocks * worker.block_size + worker.waiting_prefill_tokens
    if worker.role == DECODE_ROLE:
        held += worker.member_prompt_tokens
    return float(held + requests[r].prompt_tokens + requests[r].generated)


@inlined
def kv_bound(workers: Array, requests: Array, laws: Array, w: int, r: int, longest_rest: float) -> float:
    """Constraint 4, KV: tokens that the peak on w cannot exceed while nobody has more than ``longest_rest`` to come.

    ``held + b' (longest_rest + j)``: O(1), so that the exact peak is rarely needed [R]. A prefill worker holds prompts
    only, until they are handed on.
    """
    held = kv_held_at_most(workers, requests, w, r)
    if workers[w].role == PREFILL_ROLE:
        return held
    return float(held + batch_after(workers, w) * (longest_rest + laws[workers[w].type_index, law.KV_OVERHEAD]))


@inlined
def kv_room(workers: Array, w: int, gamma: float, rebalance: float) -> float:
    """Constraint 4, KV: tokens that the peak on w may reach: ``gamma M - rebalance max(0, -eps_w)``.

    gamma [P]; eps_w [R], the re-balancing: the decaying sum of (predicted - true) tokens of what ended on w. Where
    outputs ran longer than predicted there is less room for more.
    """
    worker = workers[w]
    return float(gamma * worker.kv_blocks * worker.block_size - rebalance * max(0.0, -worker.prediction_error_tokens))
