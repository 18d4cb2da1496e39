"""The constraints once more, in plain Python over lists of requests, as slowly as they are defined."""

from __future__ import annotations

import math

from aladdin_env.simulator.predictor import expected_length
from aladdin_env.view import ClusterView, RequestView

DECODING, MIXING, PREFILLING = 3, 4, 2


def rest(view: ClusterView, w: int) -> float:
    worker = view.workers[w]
    return max(0.0, float(worker["step_end_s"]) - view.now_s) if worker["step"] >= PREFILLING else 0.0


def law(view: ClusterView, w: int):
    return view.scenario.fleet.types[int(view.workers[w]["type_index"])].latency


def decode_s(view: ClusterView, w: int, batch: int, context: float) -> float:
    return law(view, w).decode_s(min(batch, int(view.workers[w]["max_num_seqs"])), context)  # what waits decodes later


def generated(view: ClusterView, i: int, w: int) -> int:
    request = view.requests[i]
    if request["decoding"]:
        return int(view.workers[w]["decode_steps"] - request["joined_step"])
    return int(request["generated"])


def members(view: ClusterView, w: int) -> list[int]:
    return view.running(w) + view.waiting(w)


def step_after(view: ClusterView, request: RequestView, w: int) -> float:
    worker = view.workers[w]
    decoding = [i for i in view.running(w) if view.requests[i]["decoding"]]
    context = sum(int(view.requests[i]["prompt_tokens"]) + generated(view, i, w) for i in decoding)
    context += int(worker["waiting_prefill_tokens"])
    prompts = sum(int(view.requests[i]["prompt_tokens"]) for i in members(view, w))
    batch = len(members(view, w)) + 1
    return decode_s(view, w, batch, max(context, prompts) + request.prompt_tokens)


def whole_prompts(view: ClusterView, request: RequestView, w: int) -> tuple[float, list[list[int]]]:
    """Seconds until the first token, and the groups in which what waits would be prefilled; the new one is -1."""
    kind = view.types[int(view.workers[w]["type_index"])]
    groups: list[list[int]] = []
    needs = {i: int(view.requests[i]["prompt_tokens"] + view.requests[i]["generated"]) for i in view.waiting(w)}
    needs[-1] = request.prompt_tokens
    for i, need in needs.items():
        if not groups or sum(needs[k] for k in groups[-1]) + need > kind["max_num_batched_tokens"]:
            groups.append([])
        groups[-1].append(i)
    seconds = rest(view, w)
    for group in groups:
        tokens = [needs[i] for i in group]
        seconds += law(view, w).prefill_s(sum(tokens), sum(n * n for n in tokens))
    return seconds, groups


def promise(view: ClusterView, request: RequestView, w: int, stall: float, stall_steps: int, ahead: int) -> float:
    """Least time in hand of any decoding request, ``ahead`` tokens from the end of the current step on."""
    worker = view.workers[w]
    step = step_after(view, request, w)
    during = 1 if worker["step"] in (DECODING, MIXING) else 0
    after = max(0, ahead - stall_steps)
    least = math.inf
    for i in view.running(w):
        record = view.requests[i]
        if not record["decoding"]:
            continue
        tokens = generated(view, i, w) + during + stall_steps + after
        end = view.now_s + rest(view, w) + stall + after * step
        first = float(record["first_token_s"]) - law(view, w).overhead_s
        due = first + float(view.slo[int(record["klass"]), 1]) * (tokens - 1)
        least = min(least, due - end)
    return least


def kv_peak(view: ClusterView, request: RequestView, w: int) -> float:
    """Let all grow by a token at a time, each until its expected end; the most that is held."""
    sizes, rests = [float(request.prompt_tokens)], [request.predicted_tokens]
    for i in members(view, w):
        record = view.requests[i]
        done = generated(view, i, w)
        expected = expected_length(view.lengths, int(record["prompt_tokens"]), float(record["predicted_tokens"]), done)
        sizes.append(float(record["prompt_tokens"]) + done)
        rests.append(max(1.0, expected - done))
    return peak_of(sizes, rests)


def peak_of(sizes: list[float], rests: list[float]) -> float:
    """The same at the only instants that matter: when one of them ends."""
    return max(sum(s + at for s, r in zip(sizes, rests, strict=True) if r >= at) for at in rests)


def literal_promise(view: ClusterView, request: RequestView, w: int, stall: float, stall_steps: int) -> float:
    """Seconds over what is allowed until the expected end of each running request; the worst of them."""
    worker = view.workers[w]
    step = step_after(view, request, w)
    shares = [0.0]
    for i in view.running(w):
        record = view.requests[i]
        done = generated(view, i, w)
        expected = expected_length(view.lengths, int(record["prompt_tokens"]), float(record["predicted_tokens"]), done)
        tokens = done + (1 if not record["decoding"] or worker["step"] in (DECODING, MIXING) else 0)
        boundary = view.now_s + rest(view, w)
        has_first = not math.isnan(record["first_token_s"])
        first = float(record["first_token_s"]) - law(view, w).overhead_s if has_first else boundary
        left = max(1.0, expected - tokens)
        through_stall = min(left, stall_steps)
        stalled = stall * through_stall / stall_steps if stall_steps else stall
        end = boundary + stalled + (left - through_stall) * step
        shares.append((end - first) / (float(view.slo[int(record["klass"]), 1]) * (tokens + left - 1)))
    return max(shares)


def literal_loads(view: ClusterView, request: RequestView, w: int, theta: float, gamma: float) -> tuple[float, ...]:
    """Shares of time, memory and places that are taken with the request on ``w``."""
    worker, here = view.workers[w], [view.requests[i] for i in members(view, w)]
    prompts = sum(int(q["prompt_tokens"]) for q in here) + request.prompt_tokens
    final = prompts + sum(float(q["predicted_tokens"]) for q in here) + request.predicted_tokens
    held = int(worker["context_tokens"]) + int(worker["waiting_prefill_tokens"]) + request.prompt_tokens
    now = max(held, prompts)
    final = max(final, now)
    klasses = {request.klass} | {int(q["klass"]) for q in here if q["decoding"]}
    strictest = min(float(view.slo[k, 1]) for k in klasses)
    pace = decode_s(view, w, len(here) + 1, (now + final) / 2) / (theta * strictest)
    room = float(worker["kv_blocks"]) * float(worker["block_size"])
    return pace, final / (gamma * room), (len(here) + 1) / float(worker["max_num_seqs"])
