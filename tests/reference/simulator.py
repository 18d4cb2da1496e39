"""The oracle: LLM serving simulated step by step, as plainly as docs/simulator.md can be read.

Nothing is fast: every decode step is an event, every number that a phase needs is computed anew. One instant is one
call of the seven phases of "Order of events at the same instant"; when something more falls due at the same instant
(a duration of zero), the instant is run again.
"""

from __future__ import annotations

from collections.abc import Sequence

from .engine import begin_step
from .fleet import Fleet
from .model import (
    DRAINING,
    FAILED,
    HOLD,
    READY,
    REJECT,
    STARTING,
    STATUSES,
    Place,
    RefRequest,
    RefResult,
    RefScenario,
    RefType,
    RefWorker,
    Scale,
    SlotView,
    Snapshot,
    Step,
)

__all__ = [
    "HOLD",
    "REJECT",
    "RefRequest",
    "RefResult",
    "RefScenario",
    "RefType",
    "SlotView",
    "Snapshot",
    "simulate_reference",
]

MAX_INSTANTS = 5_000_000


def simulate_reference(
    scenario: RefScenario,
    arrival_s: Sequence[float],
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
    place: Place,
    scale: Scale | None = None,
    prefix_blocks: Sequence[Sequence[int]] | None = None,
) -> RefResult:
    """Serve the requests until the last one has ended. See :class:`RefResult` for what is counted up to when.

    ``prefix_blocks`` has the ids of each request's prompt blocks, of ``scenario.prefix_block_tokens`` tokens each.
    """
    requests = [
        RefRequest(index, float(arrival), int(p), int(o))
        for index, (arrival, p, o) in enumerate(zip(arrival_s, prompt_tokens, output_tokens, strict=True))
    ]
    if prefix_blocks is not None:
        for request, ids in zip(requests, prefix_blocks, strict=True):
            request.prefix = _whole_blocks(ids, request.prompt_tokens, scenario.prefix_block_tokens)
    return _Simulation(scenario, requests, place, scale).run()


def _whole_blocks(ids: Sequence[int], prompt_tokens: int, block_tokens: int) -> list[int]:
    """The ids of the f whole blocks of a prompt: those before the first repeated one, as far as the prompt goes."""
    if len(ids) == 0:
        return []
    assert block_tokens > 0, "ids of blocks that have no size"
    blocks: list[int] = []
    for block in ids:
        if int(block) in blocks or (len(blocks) + 1) * block_tokens > prompt_tokens:
            break
        blocks.append(int(block))
    return blocks


class _Simulation:
    def __init__(self, scenario: RefScenario, requests: list[RefRequest], place: Place, scale: Scale | None) -> None:
        self.scenario = scenario
        self.requests = requests
        self.place = place
        self.scale = scale
        self.now = 0.0
        self.fleet = Fleet(scenario)
        self.workers = self.fleet.workers
        self.arrivals = list(requests)  # those yet to come
        self.failures = list(scenario.failures)  # those yet to come
        self.back: list[RefRequest] = []  # returned and prefilled requests, in the order they came back
        self.held: list[RefRequest] = []  # the router's FIFO queue
        self.offer = False  # the held requests are to be offered again
        self.heartbeats: list[tuple[float, dict[str, int]]] = []
        self.steps = {"prefill": 0, "decode": 0, "mixed": 0}
        self.closest_s = float("inf")

    def run(self) -> RefResult:
        for _ in range(MAX_INSTANTS):
            if self.all_ended():
                break
            self.now = self.next_event_s()
            self.ends_of_steps_cold_starts_and_repairs()
            self.ends_of_transfers()
            self.fail_workers()
            self.hold_deadlines()
            self.heartbeat()
            self.route()
            self.begin_steps()
        else:
            raise RuntimeError("the simulation does not end")
        end = max((r.ended_s for r in self.requests if r.ended_s is not None), default=0.0)
        seconds = self.fleet.seconds(end)
        cost = sum(worker.type.price_per_s * s for worker, s in zip(self.workers, seconds, strict=True))
        hit, asked = sum(w.hit_tokens for w in self.workers), sum(w.asked_tokens for w in self.workers)
        return RefResult(self.requests, seconds, cost, end, self.heartbeats, self.steps, self.closest_s, hit, asked)

    def all_ended(self) -> bool:
        return all(request.ended for request in self.requests)

    def next_heartbeat_s(self) -> float:
        return (len(self.heartbeats) + 1) * self.scenario.heartbeat_s

    def next_event_s(self) -> float:
        times = [self.next_heartbeat_s()]
        times += [r.arrival_s for r in self.arrivals]
        times += [r.transfer_ends_s for w in self.workers for r in w.inbound if r.transfer_ends_s is not None]
        times += [self.deadline_s(r) for r in self.held]
        times += [w.step.ends_s for w in self.workers if w.step is not None]
        times += [w.until_s for w in self.workers if w.until_s is not None]
        times += [time for time, _ in self.failures]
        first, second = (*sorted(times)[:2], float("inf"))[:2]
        assert first >= self.now
        self.closest_s = min(self.closest_s, second - first)
        return first

    def deadline_s(self, request: RefRequest) -> float:
        assert request.held_since_s is not None
        return request.held_since_s + self.scenario.max_hold_s

    # 1. Ends of steps, workers becoming ready, ends of repairs: by slot.

    def ends_of_steps_cold_starts_and_repairs(self) -> None:
        for worker in self.workers:
            if worker.step is not None and worker.step.ends_s == self.now:
                step, worker.step = worker.step, None
                self.end_of_step(worker, step)
            elif worker.until_s == self.now:
                worker.until_s = None
                if worker.status == STARTING:
                    worker.status = READY
                    self.offer = True
                else:
                    self.fleet.start(worker, self.now)

    def end_of_step(self, worker: RefWorker, step: Step) -> None:
        self.steps[step.kind] += 1
        ended_decoding: list[RefRequest] = []
        ended_with_prefill: list[RefRequest] = []
        for request, tokens in step.work:
            ended = ended_decoding if request.decoding else ended_with_prefill
            request.computed += tokens
            if request.computed < request.prompt_tokens + request.generated:
                continue  # the prefill goes on in the next step
            request.decoding = True
            request.generated += 1
            if request.generated == 1:
                request.first_token_s = self.now + worker.type.overhead_s
            if worker.type.role == "prefill" and request.output_tokens > 1:
                worker.running.remove(request)
                worker.parked.append(request)
                request.kv_at = worker
                request.status = "returned"
                self.back.append(request)
            elif request.generated >= self.most_tokens(worker, request):
                ended.append(request)
        for request in sorted(ended_decoding, key=lambda r: r.index) + ended_with_prefill:
            worker.running.remove(request)
            worker.let_go(request)
            self.finish(worker, request)

    def most_tokens(self, worker: RefWorker, request: RefRequest) -> int:
        """Tokens that the worker generates for the request."""
        return min(request.output_tokens, worker.type.capacity - request.prompt_tokens + 1)

    def finish(self, worker: RefWorker, request: RefRequest) -> None:
        """The request made its last token now."""
        request.finish_s = self.now + worker.type.overhead_s
        self.end(request, "finished" if request.generated == request.output_tokens else "truncated")
        self.request_left(worker)

    def end(self, request: RefRequest, status: str) -> None:
        request.status = status
        request.ended_s = self.now
        assert request.blocks == 0 and not request.held

    def request_left(self, worker: RefWorker) -> None:
        """One of the worker's requests (running, waiting, inbound or parked) is none of its requests any more."""
        self.offer = True
        if worker.status == DRAINING and worker.empty:
            worker.turn_off(self.now)

    # 2. Ends of KV transfers: by request index.

    def ends_of_transfers(self) -> None:
        done = [r for worker in self.workers for r in worker.inbound if r.transfer_ends_s == self.now]
        for request in sorted(done, key=lambda r: r.index):
            source, destination = request.kv_at, request.destination
            assert source is not None and destination is not None
            source.parked.remove(request)
            source.let_go(request)
            destination.inbound.remove(request)
            request.kv_at = request.destination = request.transfer_ends_s = None
            destination.waiting.append(request)
            self.request_left(source)

    # 3. Failures: in the order drawn.

    def fail_workers(self) -> None:
        due = [slot for time, slot in self.failures if time == self.now]
        self.failures = [(time, slot) for time, slot in self.failures if time != self.now]
        for slot in due:
            if self.workers[slot].status in (READY, DRAINING):
                self.fail(self.workers[slot])

    def fail(self, worker: RefWorker) -> None:
        lost = worker.running + worker.waiting
        lost += sorted(worker.parked + worker.inbound, key=lambda request: request.index)
        was_draining = worker.status == DRAINING
        worker.status = FAILED
        worker.until_s = self.now + self.scenario.repair_s
        worker.step = None
        worker.forget_prefixes()
        worker.running, worker.waiting = [], []
        for request in lost:
            source, destination = request.kv_at, request.destination
            if source is not None:
                source.let_go(request)
            request.forget()
            request.retries += 1
            if destination is not None:
                destination.inbound.remove(request)
                self.request_left(destination)
            if source is not None:
                source.parked.remove(request)
                self.request_left(source)
            if request in self.back:
                self.back.remove(request)
            if request in self.held:
                self.held.remove(request)
                request.held_since_s = None
            self.offer = True
            if request.retries > self.scenario.max_retries:
                self.end(request, "failed")
            else:
                request.status = "returned"
                self.back.append(request)
        if was_draining:
            worker.turn_off(self.now)

    # 4. Hold deadlines: in queue order.

    def hold_deadlines(self) -> None:
        for request in list(self.held):
            if self.deadline_s(request) == self.now:
                self.held.remove(request)
                self.reject(request)

    def reject(self, request: RefRequest) -> None:
        request.held_since_s = None
        source, request.kv_at = request.kv_at, None
        if source is not None:
            source.parked.remove(request)
            source.let_go(request)
        self.end(request, "rejected")
        if source is not None:
            self.request_left(source)

    # 5. The heartbeat (scale decision).

    def heartbeat(self) -> None:
        if self.next_heartbeat_s() != self.now or self.all_ended():
            return
        if self.scale is not None:
            self.fleet.scale(self.scale(self.snapshot([])), self.now)
        self.offer = True
        counts = {status: sum(w.status == status for w in self.workers) for status in STATUSES}
        self.heartbeats.append((self.now, counts))

    # 6. The router: those that came back, then held ones if they are to be offered again, then new arrivals.

    def route(self) -> None:
        while self.back:
            self.decide_or_hold(self.back.pop(0))
        if self.offer:
            while self.held:
                answer = self.decide(self.held[0])
                if answer == HOLD:
                    break
                request = self.held.pop(0)
                request.held_since_s = None
                self.apply(request, answer)
            self.offer = False
        new = [request for request in self.arrivals if request.arrival_s == self.now]
        self.arrivals = [request for request in self.arrivals if request.arrival_s != self.now]
        for request in new:
            self.decide_or_hold(request)

    def decide_or_hold(self, request: RefRequest) -> None:
        answer = self.decide(request)
        if answer != HOLD:
            self.apply(request, answer)
        elif self.scenario.max_hold_s == 0.0:
            self.reject(request)
        else:
            request.status = "held"
            request.held_since_s = self.now
            self.held.append(request)

    def decide(self, request: RefRequest) -> int:
        """The policy's answer; HOLD without asking when no worker is a candidate."""
        roles = ("decode",) if request.prefilled else ("mixed", "prefill")
        candidates = [
            worker.slot
            for worker in self.workers
            if worker.status == READY
            and worker.type.role in roles
            and request.prompt_tokens + request.prefilled <= worker.type.capacity  # room for one more token
        ]
        if not candidates:
            return HOLD
        answer = int(self.place(self.snapshot(candidates, request), request))
        if answer not in (HOLD, REJECT) and answer not in candidates:
            raise ValueError(f"request {request.index} at {self.now} s: {answer} is not one of {candidates}")
        return answer

    def apply(self, request: RefRequest, answer: int) -> None:
        if answer == REJECT:
            self.reject(request)
            return
        worker = self.workers[answer]
        request.status = "placed"
        request.worker = worker.slot
        if request.kv_at is None:
            request.prefill_worker = worker.slot
            worker.waiting.append(request)
            return
        kv_bytes = request.prompt_tokens * request.kv_at.type.kv_bytes_per_token
        seconds = kv_bytes / self.scenario.transfer_bandwidth_bytes_per_s + self.scenario.transfer_latency_s
        request.destination = worker
        request.transfer_ends_s = self.now + seconds
        worker.inbound.append(request)

    def snapshot(self, candidates: list[int], request: RefRequest | None = None) -> Snapshot:
        slots = [
            SlotView(
                worker.status,
                worker.type_index,
                [request.index for request in worker.running],
                [request.index for request in worker.waiting],
                len(worker.inbound),
                worker.blocks_used,
                worker.hit(request) if request is not None and worker.slot in candidates else 0,
            )
            for worker in self.workers
        ]
        return Snapshot(self.now, slots, candidates)

    # 7. Engines at a boundary begin their next step.

    def begin_steps(self) -> None:
        for worker in self.workers:
            if worker.status in (READY, DRAINING) and worker.step is None:
                begin_step(worker, self.now)
            worker.check()
