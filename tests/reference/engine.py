"""How a worker forms its next step at a boundary. Contract: docs/simulator.md, "Steps" and "Prefix caching"."""

from __future__ import annotations

from .model import RefRequest, RefWorker, Step


def begin_step(worker: RefWorker, now: float) -> None:
    """At a boundary: change the membership and begin the next step, if there is anything to do."""
    assert worker.step is None
    if worker.type.scheduler == "chunked":
        work = _chunked(worker)
    elif worker.type.scheduler == "prefill_first" or worker.type.role == "prefill":
        work = _prefill_first(worker)
    else:
        work = _split_decode(worker)
    for request in worker.running:
        if request.admitted_s is None:
            request.admitted_s = now
    assert work or not worker.running, "nothing is scheduled though a request runs"
    assert len(worker.running) <= worker.type.max_num_seqs
    worker.check()
    if work:
        kind, duration = _law(worker, work)
        worker.step = Step(kind, now + duration, work)


def _law(worker: RefWorker, work: list[tuple[RefRequest, int]]) -> tuple[str, float]:
    """Kind and seconds of a step. Called before the step's tokens are counted as computed."""
    tokens = squares = batch = context = 0
    for request, chunk in work:
        if request.decoding:
            batch += 1
            context += request.prompt_tokens + request.generated
        else:
            tokens += chunk
            squares += chunk * (2 * request.computed + chunk)
    if batch == 0:
        return "prefill", worker.type.prefill(tokens, squares)
    if tokens == 0:
        return "decode", worker.type.decode(batch, context)
    prefill = worker.type.prefill(tokens, squares)
    decode = worker.type.decode(batch, context)
    saved = worker.type.mixed_overlap_s + worker.type.hidden(tokens)
    return "mixed", max(prefill + decode - saved, prefill, decode)


def _all_tokens(request: RefRequest) -> int:
    """Those that are computed when its prefill has ended."""
    return request.prompt_tokens + request.generated


def _admit(worker: RefWorker, request: RefRequest, tokens: int) -> None:
    """From the head of `waiting` to the tail of `running`, with the memory for `tokens`."""
    assert worker.waiting[0] is request and request.blocks == 0 and not request.held
    worker.waiting.pop(0)
    worker.running.append(request)
    worker.hold(request, tokens)


def _admit_for_prefill(worker: RefWorker, request: RefRequest, hit: int, chunk: int) -> None:
    """Starts with `hit` tokens computed; `chunk` more are computed in this step."""
    assert request.computed == 0 and hit == worker.hit(request)
    _admit(worker, request, hit + chunk)
    request.computed = hit
    if request.preemptions == 0:
        request.hit_tokens = hit
        if worker.type.keeps_prefixes:
            worker.asked_tokens += request.prompt_tokens
            worker.hit_tokens += hit


def _preempt_last(worker: RefWorker) -> RefRequest:
    request = worker.running.pop()
    worker.let_go(request)
    request.computed = 0
    request.decoding = False
    request.preemptions += 1
    worker.waiting.insert(0, request)
    return request


def _take_blocks(worker: RefWorker, request: RefRequest, tokens: int) -> bool:
    """Memory for `tokens` more tokens of a running request; False when it had to preempt itself."""
    while worker.blocks_free < worker.growth(request, request.computed + tokens):
        if _preempt_last(worker) is request:
            return False
    worker.hold(request, request.computed + tokens)
    return True


def _decode_everybody(worker: RefWorker) -> list[tuple[RefRequest, int]]:
    """One token of every running request that gets its block, in admission order."""
    work: list[tuple[RefRequest, int]] = []
    position = 0
    while position < len(worker.running):
        request = worker.running[position]
        assert request.decoding and request.computed == request.prompt_tokens + request.generated - 1
        if _take_blocks(worker, request, 1):
            work.append((request, 1))
        position += 1
    return work


def _prefill_first(worker: RefWorker) -> list[tuple[RefRequest, int]]:
    limits = worker.type
    taken: list[tuple[RefRequest, int]] = []
    while worker.waiting:
        request = worker.waiting[0]
        hit = worker.hit(request)
        need = _all_tokens(request) - hit
        if len(worker.running) >= limits.max_num_seqs:  # the taken ones are in `running` already
            break
        if taken and sum(tokens for _, tokens in taken) + need > limits.max_num_batched_tokens:
            break
        if worker.growth(request, hit + need) > worker.blocks_free:
            break
        _admit_for_prefill(worker, request, hit, need)
        taken.append((request, need))
    return taken or _decode_everybody(worker)


def _split_decode(worker: RefWorker) -> list[tuple[RefRequest, int]]:
    limits = worker.type
    recomputed: list[tuple[RefRequest, int]] = []
    while worker.waiting:
        request = worker.waiting[0]
        if len(worker.running) >= limits.max_num_seqs:
            break
        if request.computed > 0:  # transferred: its KV came with it
            if worker.growth(request, request.computed) > worker.blocks_free:
                break
            _admit(worker, request, request.computed)
            request.decoding = True
        else:  # preempted here
            need = _all_tokens(request)  # decode workers keep no prefix blocks
            if recomputed and sum(tokens for _, tokens in recomputed) + need > limits.max_num_batched_tokens:
                break
            if worker.growth(request, need) > worker.blocks_free:
                break
            _admit_for_prefill(worker, request, 0, need)
            recomputed.append((request, need))
    return recomputed or _decode_everybody(worker)


def _chunked(worker: RefWorker) -> list[tuple[RefRequest, int]]:
    limits = worker.type
    assert limits.max_num_batched_tokens >= limits.max_num_seqs
    budget = limits.max_num_batched_tokens
    work: list[tuple[RefRequest, int]] = []
    preempted = False
    position = 0
    while position < len(worker.running):
        request = worker.running[position]
        tokens = min(_all_tokens(request) - request.computed, budget)
        assert tokens >= 1 and (tokens == 1 or not request.decoding)
        assert request.decoding or request is worker.running[-1]
        running = len(worker.running)
        if _take_blocks(worker, request, tokens):
            work.append((request, tokens))
            budget -= tokens
        preempted = preempted or len(worker.running) < running
        position += 1
    while worker.waiting and not preempted:
        request = worker.waiting[0]
        if len(worker.running) >= limits.max_num_seqs or budget == 0:
            break
        hit = worker.hit(request)
        if worker.growth(request, _all_tokens(request)) > worker.blocks_free:  # of the whole, not of its first chunk
            break
        chunk = min(_all_tokens(request) - hit, budget)
        _admit_for_prefill(worker, request, hit, chunk)
        work.append((request, chunk))
        budget -= chunk
    return work
