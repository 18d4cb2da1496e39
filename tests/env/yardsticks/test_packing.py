"""The exact packing: against brute force, with proofs and without, and its limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from aladdin_env.errors import InputError
from aladdin_env.latency import DecodeLaw
from aladdin_env.scenario import SLO, WorkerType
from aladdin_env.simulator.run import Simulator
from aladdin_env.yardsticks import Packing, fewest_bins, least_workers, lower_bound
from aladdin_env.yardsticks.packing import room_for
from tests.env.yardsticks.cases import at_once, profile, scenario_of, worker

ATGT_S = 0.012
LINEAR = worker(max_num_seqs=5, kv_capacity_tokens=3000)
FALLING = worker(  # beta falls over the batch: two have more room than one
    profile(decode=DecodeLaw((1, 2, 4, 8), (0.01, 0.0101, 0.0103, 0.0107), (2e-6, 1.2e-6, 8e-7, 6e-7))),
    max_num_seqs=6, kv_capacity_tokens=4000,
)  # fmt: skip


def groupings(count: int) -> Iterator[list[int]]:
    """Every way to share ``count`` requests out among like workers, as worker numbers."""

    def rest(given: list[int]) -> Iterator[list[int]]:
        if len(given) == count:
            yield given
            return
        for number in range(max(given, default=-1) + 2):
            yield from rest([*given, number])

    return rest([])


def is_packed(
    kind: WorkerType, assignment: list[int], context: np.ndarray, kv: np.ndarray, theta: float, gamma: float
) -> bool:
    """Whether pace, memory and places hold on every worker."""
    alpha, beta = kind.latency.decode.tables(len(assignment))
    for number in set(assignment):
        mine = np.array(assignment) == number
        b = int(mine.sum())
        step_s = alpha[b] + beta[b] * context[mine].sum()
        held = kv[mine].sum() + kind.latency.kv_overhead_tokens * b
        if b > kind.max_num_seqs or step_s > theta * ATGT_S * (1 + 1e-12):
            return False
        if held > gamma * kind.kv_blocks * kind.block_size + 1e-9:
            return False
    return True


def brute_force(kind: WorkerType, context: np.ndarray, kv: np.ndarray, theta: float, gamma: float) -> int:
    return min(
        max(assignment) + 1
        for assignment in groupings(len(context))
        if is_packed(kind, assignment, context, kv, theta, gamma)
    )


@pytest.mark.parametrize("kind", [LINEAR, FALLING])
@pytest.mark.parametrize("seed", range(12))
def test_as_few_as_brute_force_finds(kind: WorkerType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 7))
    context = rng.integers(20, 690, count).astype(float)
    kv = context + rng.integers(0, 600, count) * (seed % 2)
    theta, gamma = (1.0, 1.0) if seed < 6 else (0.95, 0.7)
    found = fewest_bins(kind, ATGT_S, context, kv, theta=theta, gamma=gamma)
    assert found.is_proven
    assert found.workers == brute_force(kind, context, kv, theta, gamma)
    assert is_packed(kind, found.assignment.tolist(), context, kv, theta, gamma)
    assert sorted(set(found.assignment.tolist())) == list(range(found.workers))


def test_kv_is_the_context_where_it_is_not_given() -> None:
    tight = worker(max_num_seqs=8, kv_capacity_tokens=1000)
    assert fewest_bins(tight, 1.0, [500.0] * 6).workers == 3
    assert fewest_bins(tight, 1.0, [500.0] * 6, [100.0] * 6).workers == 1


def test_places_bind() -> None:
    assert fewest_bins(worker(max_num_seqs=4), 1.0, [10.0] * 9).workers == 3


def test_theta_and_gamma_shrink_the_room() -> None:
    context = [150.0] * 8
    by_pace = [fewest_bins(LINEAR, ATGT_S, context, theta=theta).workers for theta in (1.0, 0.9, 0.86)]
    assert by_pace == [2, 3, 8]
    by_memory = [fewest_bins(LINEAR, 1.0, [600.0] * 8, gamma=gamma).workers for gamma in (1.0, 0.6, 0.2)]
    assert by_memory == [2, 3, 8]


def test_room_is_what_the_pace_leaves() -> None:
    assert room_for(LINEAR, ATGT_S, 2, theta=0.9).tolist() == pytest.approx(
        [(0.0108 - 0.0101) / 1e-6, (0.0108 - 0.0102) / 1e-6]
    )


def test_context_may_cost_nothing() -> None:
    kind = worker(profile(decode=DecodeLaw.linear(0.0, 1e-3, 0.01)), max_num_seqs=8)
    found = fewest_bins(kind, 0.0155, [100.0] * 12)
    assert found.workers == 3
    assert found.is_proven


def test_context_may_cost_nothing_where_nothing_is_left() -> None:
    kind = worker(profile(decode=DecodeLaw.linear(0.0, 0.0, 0.01)), max_num_seqs=8)
    assert fewest_bins(kind, 0.01, [100.0] * 12).workers == 2


def test_overhead_of_requests_takes_memory() -> None:
    laws = profile(kv_tokens=1000)
    heavy = worker(replace(laws, kv_bytes_per_request=200_000.0), max_num_seqs=8)  # 200 tokens each
    assert fewest_bins(worker(laws, max_num_seqs=8), 1.0, [100.0] * 6).workers == 1
    assert fewest_bins(heavy, 1.0, [100.0] * 6).workers == 2


def test_without_time_first_fit_answers() -> None:
    rng = np.random.default_rng(1)
    context = rng.integers(200, 700, 48).astype(float)
    found: Packing = fewest_bins(LINEAR, ATGT_S, context, time_limit_s=1e-6)
    assert not found.is_proven
    assert len(found.assignment) == 48
    assert is_packed(LINEAR, found.assignment.tolist(), context, context, 1.0, 1.0)
    assert found.workers == len(set(found.assignment.tolist()))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"context_tokens": [10.0], "theta": 0.0}, "theta"),
        ({"context_tokens": [10.0], "theta": 1.1}, "theta"),
        ({"context_tokens": [10.0], "gamma": -1.0}, "gamma"),
        ({"context_tokens": [10.0], "gamma": "a"}, "gamma"),
        ({"context_tokens": [10.0], "time_limit_s": -1}, "time_limit_s"),
        ({"context_tokens": []}, "context_tokens"),
        ({"context_tokens": [10.0] * 65}, "context_tokens"),
        ({"context_tokens": [10.0, 10.0], "kv_tokens": [10.0]}, "context_tokens"),
        ({"context_tokens": [10.0, 5000.0]}, r"context_tokens\[1\]"),
        ({"context_tokens": [10.0], "kv_tokens": [4000.0]}, r"context_tokens\[0\]"),
    ],
)
def test_mistakes(arguments: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        fewest_bins(LINEAR, ATGT_S, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
def test_the_clairvoyant_bound_is_below_the_exact_packing(seed: int) -> None:
    """All come at time 0 with as many outputs: each on its worker of the packing, in one prefill and without stalls."""
    rng = np.random.default_rng(seed)
    count, output = int(rng.integers(4, 12)), int(rng.integers(2, 60))
    prompt = rng.integers(20, 700, count)
    kind = worker(max_num_seqs=5, kv_capacity_tokens=3000, max_num_batched_tokens=8192)
    packed = fewest_bins(kind, ATGT_S, prompt + output - 1)
    assert packed.is_proven
    trace, slo = at_once(prompt.tolist(), [output] * count), SLO(0.5, ATGT_S)
    fixed = scenario_of(trace, kind, slo=slo).with_workers((packed.workers,))
    result = Simulator(fixed).run(_Assigned(packed.assignment))
    assert result.summary["slo_attainment"] == 1.0
    busy_s = sum(_alone_s(kind, prompt[packed.assignment == w], output) for w in range(packed.workers))
    free = scenario_of(trace, kind, slo=slo)
    bound = lower_bound(free, trace, 1.0, "gpu_seconds").value
    assert 0.5 * busy_s < bound <= busy_s * (1 + 1e-9)
    assert least_workers(free, trace, 1.0) <= packed.workers


class _Assigned:
    name = "assigned"

    def __init__(self, slots: np.ndarray) -> None:
        self._slots = slots

    def place(self, view: object, request: object) -> int:
        return int(self._slots[request.index])  # type: ignore[attr-defined]


def _alone_s(kind: WorkerType, prompt: np.ndarray, output: int) -> float:
    """Seconds of a worker that serves these together."""
    laws, b = kind.latency, len(prompt)
    decoding_s = sum(laws.decode_s(b, float((prompt + k).sum())) for k in range(1, output))
    return laws.prefill_s(float(prompt.sum())) + decoding_s


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"context_tokens": [float("nan"), 10.0]}, r"context_tokens\[0\]"),
        ({"context_tokens": [10.0, -5.0]}, r"context_tokens\[1\]"),
        ({"context_tokens": [10.0], "kv_tokens": [float("nan")]}, r"kv_tokens\[0\]"),
        ({"context_tokens": [10.0], "atgt_s": float("nan")}, "atgt_s"),
    ],
)
def test_numbers_that_are_none_are_named(changes: dict[str, object], field: str) -> None:
    given: dict[str, object] = {"kind": LINEAR, "atgt_s": ATGT_S, **changes}
    with pytest.raises(InputError, match=field):
        fewest_bins(**given)  # type: ignore[arg-type]
