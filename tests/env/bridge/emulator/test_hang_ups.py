"""Clients that go: their place and memory are free for the next step, against the plain reference simulator."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from aladdin_traces import Trace
from tests.env.bridge.emulator.cases import Case, one_worker, replay, toy_kind
from tests.reference.laws import row_decode, row_hidden, row_prefill
from tests.reference.model import RefRequest, RefScenario, RefType, RefWorker, Step
from tests.reference.simulator import _Simulation, _whole_blocks

CASES = int(os.environ.get("ALADDIN_REFERENCE_CASES", "150"))
CLOSEST_S = 1e-9  # nearer events may come in another order on the other side, for rounding
SCHEDULERS = ("chunked", "prefill_first")


class Reference(_Simulation):
    """The plain simulator with clients that hang up; it notes the time of every token."""

    def __init__(self, case: Case, hang_up_s: dict[int, float]) -> None:
        trace = case.trace
        requests = [
            RefRequest(r, float(trace.arrival_s[r]), int(trace.prompt_tokens[r]), int(trace.output_tokens[r]))
            for r in range(len(trace))
        ]
        scenario = ref_scenario(case)
        for r, request in enumerate(requests):
            request.prefix = _whole_blocks(case.blocks_of(r), request.prompt_tokens, scenario.prefix_block_tokens)
        super().__init__(scenario, requests, lambda snapshot, request: 0, None)
        self.going = sorted((time_s, r) for r, time_s in hang_up_s.items())
        self.token_s: list[list[float]] = [[] for _ in requests]

    def next_event_s(self) -> float:
        soonest = super().next_event_s()
        times = [time_s for time_s, _ in self.going]
        self.closest_s = min([self.closest_s, *(abs(time_s - soonest) for time_s in times)])
        return min([soonest, *times])

    def end_of_step(self, worker: RefWorker, step: Step) -> None:
        before = [request.generated for request in self.requests]
        super().end_of_step(worker, step)
        for request in self.requests:
            new = request.generated - before[request.index]
            self.token_s[request.index] += [self.now + worker.type.overhead_s] * new

    def fail_workers(self) -> None:
        while self.going and self.going[0][0] == self.now:
            self.hang_up(self.requests[self.going.pop(0)[1]])

    def hang_up(self, request: RefRequest) -> None:
        (worker,) = self.workers
        if request.ended:
            return
        if request in worker.waiting:
            worker.waiting.remove(request)
        else:
            worker.running.remove(request)
            worker.let_go(request)
            assert worker.step is not None
            worker.step.work = [(other, tokens) for other, tokens in worker.step.work if other is not request]
        self.end(request, "gone")


def ref_scenario(case: Case) -> RefScenario:
    kind = case.kind
    row = kind.latency.row(kind.max_num_seqs).tolist()
    worker = RefType(
        scheduler=kind.scheduler, role="mixed", count=1, initial=1, minimum=1, gpus=1, price_per_s=0.0,
        max_num_seqs=kind.max_num_seqs, max_num_batched_tokens=kind.max_num_batched_tokens, kv_blocks=kind.kv_blocks,
        block_size=kind.block_size, kv_overhead_tokens=kind.latency.kv_overhead_tokens,
        overhead_s=kind.latency.overhead_s, prefill=row_prefill(row), decode=row_decode(row),
        mixed_overlap_s=kind.latency.mixed_overlap_s, kv_bytes_per_token=1.0, cold_starts_s=[1.0],
        prefix_cache=kind.prefix_cache, hidden=row_hidden(row),
    )  # fmt: skip
    blocks = 0 if case.blocks is None else case.blocks.block_size
    return RefScenario([worker], 1, 1e9, 0.0, 0, 1.0, 1.0, 0.0, [], prefix_block_tokens=blocks)


def hang_ups(case: Case, seed: int) -> dict[int, float]:
    """Half of the clients go, early or late; some after their answer has ended."""
    rng = np.random.default_rng(seed)
    patience_s = float(rng.choice([0.3, 1.0, 4.0]))
    waits = rng.exponential(patience_s, len(case.trace)).tolist()
    going = (rng.random(len(case.trace)) < 0.5).tolist()
    arrivals = case.trace.arrival_s.tolist()
    return {r: arrivals[r] + waits[r] for r in range(len(waits)) if going[r]}


def compare(case: Case, hang_up_s: dict[int, float], *, ties: bool = True) -> Reference:
    """Run both. Unless ``ties`` do not matter, a case in which two events are too near is not judged."""
    reference = Reference(case, hang_up_s)
    expected = reference.run()
    if not ties:
        assume(reference.closest_s > CLOSEST_S)
    worker, seen = replay(case, hang_up_s)
    gone = 0
    for r, (want, one) in enumerate(zip(expected.requests, seen, strict=True)):
        heard = reference.token_s[r]
        if want.status == "gone":
            gone += 1
            assert one.answer.times is None, f"request {r} ended although its client had gone"
            heard = [time_s for time_s in heard if time_s <= hang_up_s[r]]
            assert len(one.token_s) >= len(heard), f"request {r}"
        else:
            assert one.answer.times is not None, f"request {r}"
            assert one.answer.times.preemptions == want.preemptions
            assert len(one.token_s) == len(heard), f"request {r}"
        assert one.token_s[: len(heard)] == pytest.approx(heard, rel=1e-9, abs=1e-12), f"request {r}"
    assert worker.measures.ended["abort"] == gone
    check_empty(worker)
    return reference


def check_empty(worker) -> None:
    """Nothing of those who went is left anywhere."""
    world = worker._engine._world
    assert worker.in_flight == 0
    for name in ("running", "waiting", "members", "decoding", "waiting_prefill_tokens", "context_tokens"):
        assert world.workers[0][name] == 0, name
    assert world.workers[0]["kv_used_blocks"] == 0
    assert world.engines[0]["free_blocks"] == world.workers[0]["kv_blocks"]
    assert world.engines[0]["finishing"] == 0
    assert not world.phases.any()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=CASES, deadline=None, derandomize=True)
@example(seed=77)  # the step under way of the one who goes has made the cache forget a block
@example(seed=945)
@given(seed=st.integers(0, 2**32 - 1))
def test_those_who_stay_are_served_as_if_the_others_had_never_wanted_more(scheduler: str, seed: int) -> None:
    case = one_worker(seed, scheduler)
    compare(case, hang_ups(case, seed), ties=False)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=CASES // 3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_token_has_its_time(scheduler: str, seed: int) -> None:
    compare(one_worker(seed, scheduler), {}, ties=False)


def three() -> Case:
    """Room for two at once: the third waits."""
    trace = Trace.from_arrays([0.0, 0.0, 0.05], [64, 16, 16], [50, 50, 50])
    return Case(toy_kind(max_num_seqs=2, max_num_batched_tokens=64, kv_tokens=512), trace)


@pytest.mark.parametrize(
    ("r", "hang_up_s", "phase"), [(2, 0.15, "queue"), (0, 0.05, "prefill"), (1, 0.15, "prefill"), (0, 0.55, "decode")]
)
def test_in_every_phase_the_place_is_free_at_once(r: int, hang_up_s: float, phase: str) -> None:
    case = three()
    reference = compare(case, {r: hang_up_s})
    others = [request for request in reference.requests if request.index != r]
    assert all(request.status == "finished" for request in others)
    alone = compare(case, {})
    if phase != "queue":
        third, patient = reference.requests[2].admitted_s, alone.requests[2].admitted_s
        assert third is not None and patient is not None and third < patient


def test_memory_of_the_one_who_went_lets_the_queue_in() -> None:
    trace = Trace.from_arrays([0.0, 0.01], [200, 200], [40, 40])
    kind = replace(toy_kind(kv_tokens=256), max_num_batched_tokens=1024)
    stuck = compare(Case(kind, trace), {})
    freed = compare(Case(kind, trace), {0: 0.31})
    assert stuck.requests[1].admitted_s == pytest.approx(0.1 + 39 * 0.02)
    assert freed.requests[1].admitted_s == pytest.approx(0.32), "the step that ends after the hang-up"
