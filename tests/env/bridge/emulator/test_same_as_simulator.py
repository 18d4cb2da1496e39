"""A trace that is replayed through the emulated worker gives the simulator's times."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aladdin_env.bridge.emulator.engine import Engine
from aladdin_env.latency import load_profile
from aladdin_env.scenario import SLO, Fleet, Scenario, WorkerType
from aladdin_env.simulator.run import Simulator
from aladdin_traces import Trace, Workload
from tests.env.bridge.emulator.cases import Case, one_worker, replay

CASES = int(os.environ.get("ALADDIN_REFERENCE_CASES", "100"))
SCHEDULERS = ("chunked", "prefill_first")


class OnlyWorker:
    name = "only"

    def place(self, view, request) -> int:
        return 0


def simulated(case: Case):
    scenario = Scenario(
        "one", Workload.from_trace(case.trace), Fleet((case.kind,)).fixed((1,)), SLO(1e6, 1e6), None, max_hold_s=0.0
    )
    return Simulator(scenario).run(OnlyWorker()).requests


def compare(case: Case) -> None:
    expected = simulated(case)
    worker, seen = replay(case)
    overhead_s = case.kind.latency.overhead_s
    for r, one in enumerate(seen):
        want, times = expected.iloc[r], one.answer.times
        assert times is not None, f"request {r} has not ended"
        assert one.answer.generated == want["generated_tokens"], f"request {r}"
        assert times.first_token_s == pytest.approx(want["first_token_s"], rel=1e-9, abs=1e-12), f"request {r}"
        assert times.finish_s == pytest.approx(want["finish_s"], rel=1e-9, abs=1e-12), f"request {r}"
        queue_s = times.admitted_s - times.arrival_s
        assert queue_s == pytest.approx(want["queue_s"], rel=1e-9, abs=1e-9), f"request {r}"
        assert times.preemptions == want["preemptions"], f"request {r}"
        assert times.hit_tokens == want["prefix_hit_tokens"], f"request {r}"
        assert len(one.token_s) == one.answer.generated
        assert one.token_s[0] == pytest.approx(times.first_token_s, rel=1e-9, abs=1e-12), "its client saw it then"
        assert one.token_s[-1] == pytest.approx(times.finish_s, rel=1e-9, abs=1e-12), "its client saw it then"
        assert all(a < b for a, b in zip(one.token_s, one.token_s[1:], strict=False)), "a token at a time"
        assert times.first_token_s - times.admitted_s >= overhead_s
    load = worker.load()
    assert (load.running, load.waiting, load.kv_used_blocks) == (0, 0, 0)
    assert load.preemptions == expected["preemptions"].sum()


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=CASES, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_time_agrees(scheduler: str, seed: int) -> None:
    compare(one_worker(seed, scheduler))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=CASES, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_requests_that_arrive_at_the_end_of_a_step_are_part_of_the_next(scheduler: str, seed: int) -> None:
    compare(one_worker(seed, scheduler, dyadic=True))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_real_profile_with_preemption_and_chunked_prefill(scheduler: str) -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(20, 1500, (2, 120))
    trace = Trace.from_arrays(np.sort(rng.uniform(0, 20, 120)), *lengths)
    kind = WorkerType(
        "one", load_profile("llama-3.1-8b-a100-tp1"), 1, 1, 1, scheduler=scheduler, max_num_seqs=32,
        max_num_batched_tokens=512, kv_capacity_tokens=9_000, prefix_cache=False,
    )  # fmt: skip
    case = Case(kind, trace)
    compare(case)
    expected = simulated(case)
    assert expected["preemptions"].sum() > 0
    assert (expected["prompt_tokens"] > 512).any()


def test_rows_are_used_again() -> None:
    case = one_worker(5, "chunked")
    ended: list[int] = []
    engine = Engine(replace(case.kind, prefix_cache=False), lambda heard: ended.extend(h.ended for h in heard), rows=3)
    times = []
    for round_s in range(0, 1000, 100):
        rows = {engine.enter(float(round_s), 5, 4) for _ in range(3)}
        assert rows == {0, 1, 2}
        while engine.next_s < np.inf:
            engine.advance(engine.next_s)
        times.append(engine.now_s - round_s)
    assert sum(ended) == 30
    assert times == pytest.approx([times[0]] * 10, rel=1e-9), "a worker that was empty is as new"
