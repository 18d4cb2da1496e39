"""The life of a request outside the batch: tokens reaching the client, its end, and what the measures count."""

from __future__ import annotations

import numpy as np

from aladdin_env.compiled import inlined
from aladdin_env.simulator import laws as law
from aladdin_env.simulator.batch import join_decode, kv_overhead, release_slack
from aladdin_env.simulator.lists import link_last, run_remove, unlink
from aladdin_env.simulator.predictor import observe_length
from aladdin_env.simulator.prefix import release_kv
from aladdin_env.simulator.state import (
    FINISHED,
    HISTORY_BEATS,
    LOG_FINISH,
    LOG_FIRST_TOKEN,
    LOST,
    MISSED_ATGT,
    MISSED_TTFT,
    MISSED_UNSERVED,
    NEW,
    NONE,
    PENDING,
    PREFILL_ROLE,
    PREFILLED,
    REJECTED,
    TRUNCATED,
    World,
)

# How much of the signed prediction error of earlier requests a worker still remembers when another one ends.
_ERROR_MEMORY = 0.9


@inlined
def log_event(world: World, kind: int, r: int, w: int, now_s: float) -> None:
    """Note an event for a Python policy's hooks, where one listens."""
    control = world.control[0]
    if control.log_on:
        entry = world.log[control.log_count]
        entry.time_s = now_s
        entry.kind = kind
        entry.request = r
        entry.worker = w
        control.log_count += 1


@inlined
def leave_worker(world: World, w: int, r: int) -> None:
    """Take ``r`` out of the sums over the requests of worker ``w``."""
    worker = world.workers[w]
    worker.members -= 1
    worker.member_prompt_tokens -= world.requests[r].prompt_tokens
    worker.member_predicted_tokens -= world.requests[r].predicted_tokens


@inlined
def settle(world: World, r: int, status: int, now_s: float) -> None:
    """``r`` has ended, in whatever way."""
    cluster = world.cluster[0]
    control = world.control[0]
    world.requests[r].status = status
    cluster.in_flight -= 1
    control.remaining -= 1
    control.last_end_s = now_s


@inlined
def end_unserved(world: World, r: int, status: int, now_s: float) -> None:
    """``r`` ends as REJECTED or LOST ("failed"): a missed SLO."""
    cluster = world.cluster[0]
    world.requests[r].missed |= MISSED_UNSERVED
    cluster.unserved += 1
    if status == REJECTED:
        cluster.rejected += 1
    else:
        cluster.failed += 1
    settle(world, r, status, now_s)


@inlined
def end_served(world: World, w: int, r: int, now_s: float) -> None:
    """``r`` has its last token: free what it holds, judge it, learn from it."""
    worker = world.workers[w]
    release_kv(world, w, r, kv_overhead(world, w))
    run_remove(world.workers, world.requests, w, r)
    release_slack(world, w, r)
    leave_worker(world, w, r)
    finish_s = now_s + world.laws[worker.type_index, law.OVERHEAD]
    status = TRUNCATED if world.requests[r].generated < world.truth[r].output_tokens else FINISHED
    judge_served(world, w, r, status, finish_s)
    settle(world, r, status, now_s)
    world.control[0].offer = 1
    log_event(world, LOG_FINISH, r, w, now_s)


@inlined
def judge_served(world: World, w: int, r: int, status: int, finish_s: float) -> None:
    """Count what ``r`` was, FINISHED or TRUNCATED at ``finish_s`` on ``w``, and whether it met its objectives."""
    worker = world.workers[w]
    request = world.requests[r]
    cluster = world.cluster[0]
    request.finish_s = finish_s
    output = request.generated
    if output > 1 and request.finish_s - request.first_token_s > world.slo[request.klass, 1] * (output - 1):
        request.missed |= MISSED_ATGT
        cluster.atgt_missed += 1
    if status == TRUNCATED:
        request.missed |= MISSED_UNSERVED
        cluster.unserved += 1
        cluster.truncated += 1
    if request.missed == 0:
        cluster.slo_met += 1
    cluster.finished += 1
    cluster.finished_prompt_tokens += request.prompt_tokens
    cluster.finished_output_tokens += output
    cluster.finished_context_tokens += (request.prompt_tokens + 0.5 * output) * (output - 1)
    worker.finished += 1
    worker.prediction_error_tokens = _ERROR_MEMORY * worker.prediction_error_tokens + request.predicted_tokens - output
    observe_length(world.lengths, request.prompt_tokens, output)


@inlined
def note_heartbeat(world: World) -> None:
    """A heartbeat has passed: what happened since the one before becomes a row of the history."""
    cluster = world.cluster[0]
    row = cluster.beats % HISTORY_BEATS
    world.history[row, 0] = cluster.arrived - cluster.beat_arrived
    world.history[row, 1] = cluster.arrived_prompt_tokens - cluster.beat_prompt_tokens
    world.history[row, 2] = cluster.finished - cluster.beat_finished
    world.history[row, 3] = cluster.slo_met - cluster.beat_slo_met
    cluster.beat_arrived = cluster.arrived
    cluster.beat_prompt_tokens = cluster.arrived_prompt_tokens
    cluster.beat_finished = cluster.finished
    cluster.beat_slo_met = cluster.slo_met
    cluster.beats += 1
    cluster.next_heartbeat_s = cluster.heartbeat_s * (cluster.beats + 1)


@inlined
def push_pending(world: World, r: int) -> None:
    """Queue ``r`` for a decision by the router at this instant."""
    control = world.control[0]
    link_last(world.requests, control.pending_tail, r)
    if control.pending_head == NONE:
        control.pending_head = r
    control.pending_tail = r
    world.requests[r].status = PENDING


@inlined
def remove_pending(world: World, r: int) -> None:
    """Take ``r`` out of the queue of decisions to make."""
    control = world.control[0]
    if control.pending_head == r:
        control.pending_head = world.requests[r].next
    if control.pending_tail == r:
        control.pending_tail = world.requests[r].prev
    unlink(world.requests, r)


@inlined
def judge_first_token(world: World, r: int, first_token_s: float) -> None:
    """The first token of ``r`` has reached the client at ``first_token_s``."""
    request = world.requests[r]
    request.first_token_s = first_token_s
    late = first_token_s - request.arrival_s > world.slo[request.klass, 0]
    if late and not request.missed & MISSED_TTFT:
        request.missed |= MISSED_TTFT
        world.cluster[0].ttft_missed += 1


@inlined
def finish_prefill(world: World, w: int, r: int, now_s: float) -> None:
    """The prefill of ``r`` is complete: it has a token more, and ends, decodes here, or looks for a decode worker."""
    worker = world.workers[w]
    request = world.requests[r]
    request.generated += 1
    if np.isnan(request.first_token_s):
        judge_first_token(world, r, now_s + world.laws[worker.type_index, law.OVERHEAD])
        log_event(world, LOG_FIRST_TOKEN, r, w, now_s)
    if request.generated >= world.truth[r].limit:
        end_served(world, w, r, now_s)
    elif worker.role == PREFILL_ROLE:
        run_remove(world.workers, world.requests, w, r)
        leave_worker(world, w, r)
        worker.outbound += 1
        request.stage = PREFILLED
        world.truth[r].source = w
        push_pending(world, r)
    else:
        join_decode(world, w, r)


@inlined
def return_to_router(world: World, r: int, now_s: float) -> None:
    """The worker of ``r`` is lost and all that was generated: decide again, or give up after too many tries."""
    request = world.requests[r]
    request.stage = NEW
    request.generated = 0
    request.computed = 0
    request.decoding = 0
    request.worker = NONE
    request.first_token_s = np.nan
    request.admitted_s = np.nan
    world.truth[r].source = NONE
    if world.control[0].prefix_tokens > 0:
        world.prefixes[r].held = 0
        world.prefixes[r].hit_tokens = 0
    request.retries += 1
    world.cluster[0].retries += 1
    world.control[0].offer = 1
    if request.retries > world.control[0].max_retries:
        end_unserved(world, r, LOST, now_s)
    else:
        push_pending(world, r)
