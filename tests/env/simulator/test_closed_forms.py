"""Physics against closed forms: what a single worker must do, worked out by hand or by queueing theory."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from aladdin_env.latency import DecodeLaw, LatencyProfile, PrefillLaw, Provenance
from aladdin_env.metrics import Result
from aladdin_env.policy import make_policy, placement_kernel
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import SLO, ColdStart, Fleet, Scenario, WorkerType
from aladdin_env.simulator.run import Simulator, simulate
from aladdin_env.simulator.state import Array
from aladdin_traces import Workload

K1, C1 = 1e-4, 0.02
K2, C2, C3 = 1e-6, 1e-4, 0.01
OVERHEAD, OVERLAP = 0.015, 0.005
PROFILE = LatencyProfile(
    "hand", PrefillLaw.linear(K1, C1), DecodeLaw.linear(K2, C2, C3), OVERLAP, OVERHEAD, 1000.0, 0.0, 16_000, 1,
    Provenance("none", "none", 1, "none", "0", "2026", "by hand", "by hand", {}),
)  # fmt: skip


@placement_kernel("first")
def first(
    workers: Array, requests: Array, cluster: Array, types: Array, laws: Array, slo: Array, lengths: Array,
    memory: Array, r: int,
) -> int:  # fmt: skip
    for w in range(workers.shape[0]):
        if workers[w].accepts & requests[r].stage:
            return w
    return -1


def serve(arrival: list[float], prompt: list[int], output: list[int], **limits: object) -> Result:
    """One worker, one queue."""
    kind = WorkerType("w", PROFILE, initial=1, minimum=1, maximum=1, **{"scheduler": "prefill_first", **limits})  # type: ignore[arg-type]
    scenario = Scenario("hand", Workload.from_arrays(arrival, prompt, output), Fleet((kind,)), SLO(9.0, 9.0), None)
    return simulate(scenario, first)


def prefill(tokens: int) -> float:
    return K1 * tokens + C1


def decode(batch: int, context: int) -> float:
    return K2 * context + C2 * batch + C3


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
def test_one_request_alone(scheduler: str) -> None:
    p, o = 700, 50
    row = serve([1.0], [p], [o], scheduler=scheduler).requests.iloc[0]
    first_s = 1.0 + prefill(p) + OVERHEAD
    # token k + 1 attends to p + k tokens: an arithmetic series
    series = (o - 1) * (C2 + C3) + K2 * sum(p + k for k in range(1, o))
    assert row["first_token_s"] == pytest.approx(first_s, rel=1e-12)
    assert row["finish_s"] == pytest.approx(first_s + series, rel=1e-12)
    assert row["queue_s"] == 0.0


def test_a_prompt_longer_than_the_budget_is_prefilled_in_chunks() -> None:
    row = serve([0.0], [1000], [1], scheduler="chunked", max_num_batched_tokens=400, max_num_seqs=8).requests.iloc[0]
    assert row["finish_s"] == pytest.approx(2 * prefill(400) + prefill(200) + OVERHEAD, rel=1e-12)


def test_prefill_first_stalls_a_running_request() -> None:
    # the second prompt arrives during the first decode step and is prefilled before anybody decodes again
    result = serve([0.0, prefill(100) + 1e-6], [100, 200], [3, 2]).requests
    t1 = prefill(100)
    t2 = t1 + decode(1, 101)
    t3 = t2 + prefill(200)
    t4 = t3 + decode(2, 102 + 201)
    assert result["first_token_s"].tolist() == pytest.approx([t1 + OVERHEAD, t3 + OVERHEAD], rel=1e-12)
    assert result["finish_s"].tolist() == pytest.approx([t4 + OVERHEAD, t4 + OVERHEAD], rel=1e-12)


def test_chunked_mixes_prefill_and_decode_in_one_step() -> None:
    result = serve([0.0, prefill(100) + 1e-6], [100, 200], [3, 2], scheduler="chunked").requests
    t2 = prefill(100) + decode(1, 101)
    t3 = t2 + prefill(200) + decode(1, 102) - OVERLAP
    t4 = t3 + decode(1, 201)
    assert result["finish_s"].tolist() == pytest.approx([t3 + OVERHEAD, t4 + OVERHEAD], rel=1e-12)


def test_preemption_frees_the_youngest_and_recomputes_it() -> None:
    # 4 blocks of 4 tokens: prompts of 7 take two each; both need a third block for their 9th token
    result = serve(
        [0.0, 0.0], [7, 7], [4, 4], kv_capacity_tokens=16, block_size=4, max_num_seqs=4, max_num_batched_tokens=64
    )
    t1 = prefill(14)
    t2 = t1 + decode(2, 8 + 8)  # 8 tokens each, 2 blocks each
    t3 = t2 + decode(1, 9)  # the first takes the third block; the second has been preempted
    t4 = t3 + decode(1, 10)
    t5 = t4 + prefill(7 + 2)  # prompt and the two tokens it has
    t6 = t5 + decode(1, 10)
    assert result.requests["finish_s"].tolist() == pytest.approx([t4 + OVERHEAD, t6 + OVERHEAD], rel=1e-12)
    assert result.requests["preemptions"].tolist() == [0, 1]


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_mean_wait_of_an_m_d_1_queue(load: float) -> None:
    # single-token answers, one at a time: service is deterministic, arrivals are Poisson (Pollaczek-Khinchine)
    service = prefill(100)
    n = 150_000
    rng = np.random.default_rng(5)
    arrival = np.cumsum(rng.exponential(service / load, n))
    wait = serve(arrival.tolist(), [100] * n, [1] * n, max_num_seqs=1).requests["queue_s"].mean()
    assert wait == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


def test_work_is_conserved_at_saturation() -> None:
    # a full queue at time 0: the steps that the laws give, back to back
    result = serve([0.0] * 64, [50] * 64, [5] * 64, max_num_seqs=16, max_num_batched_tokens=800)
    one_wave = prefill(800) + sum(decode(16, 16 * (50 + k)) for k in range(1, 5))
    assert result.requests["finish_s"].max() == pytest.approx(4 * one_wave + OVERHEAD, rel=1e-12)


def test_gpu_time_is_paid_from_start_to_drained() -> None:
    class TwoThenOne:
        name = "two-then-one"

        def place(self, view, request):  # type: ignore[no-untyped-def]
            return int(view.candidates(request)[0])

        def scale(self, view):  # type: ignore[no-untyped-def]
            return [2] if view.now_s < 25 else [1]

    kind = WorkerType(
        "w", PROFILE, initial=1, minimum=1, maximum=2, cold_start=ColdStart(7.0), price_per_gpu_hour=3600.0
    )
    n = 400
    workload = Workload.from_arrays(np.arange(n) * 0.1, [10] * n, [2] * n)
    result = simulate(Scenario("pay", workload, Fleet((kind,)), SLO(9.0, 9.0), None, heartbeat_s=10.0), TwoThenOne())
    # the second worker is paid from 10 s (its cold start included) until it is drained at 30 s
    busy = result.summary["gpu_seconds"] - result.summary["duration_s"]
    assert busy == pytest.approx(20.0, abs=0.1)
    assert result.summary["cost"] == pytest.approx(result.summary["gpu_seconds"], rel=1e-12)


def test_a_policy_in_python_and_a_kernel_give_the_same_simulation() -> None:
    class First:
        name = "first"

        def place(self, view, request):  # type: ignore[no-untyped-def]
            return int(view.candidates(request)[0])

    rng = np.random.default_rng(0)
    workload = Workload.from_arrays(
        np.cumsum(rng.exponential(0.05, 500)), rng.integers(1, 900, 500), rng.integers(1, 90, 500)
    )
    scenario = Scenario("both", workload, Fleet((WorkerType("w", PROFILE, initial=2),)), SLO(9.0, 9.0), None)
    simulator = Simulator(scenario)
    assert simulator.run(First()).requests.equals(simulator.run(first).requests)


def test_hooks_are_called_in_order_before_the_next_decision() -> None:
    class Watch:
        name = "watch"

        def __init__(self) -> None:
            self.seen: list[tuple[str, int, float]] = []

        def place(self, view, request):  # type: ignore[no-untyped-def]
            assert all(time_s <= view.now_s + OVERHEAD for _, _, time_s in self.seen)
            return int(view.candidates(request)[0])

        def on_first_token(self, view, request, time_s):  # type: ignore[no-untyped-def]
            self.seen.append(("first", request.index, time_s))

        def on_finish(self, view, request, time_s):  # type: ignore[no-untyped-def]
            self.seen.append(("finish", request.index, time_s))

    watch = Watch()
    kind = WorkerType("w", PROFILE, initial=1, maximum=1)
    n = 3000
    workload = Workload.from_arrays(np.arange(n) * 0.02, [10] * n, [3] * n)
    simulate(Scenario("hooks", workload, Fleet((kind,)), SLO(9.0, 9.0), None), watch)
    assert len(watch.seen) == 2 * n
    times = [time_s for _, _, time_s in watch.seen]
    assert times == sorted(times)


def test_copies_of_kernels_share_compiled_code() -> None:
    kernel = make_policy("least_request", load_scenario("azure-conv")).kernel
    assert kernel is not None
    for again in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
        assert again.function is kernel.function
        assert again.memory.tolist() == kernel.memory.tolist()
