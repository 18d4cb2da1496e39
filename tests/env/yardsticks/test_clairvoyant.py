"""The clairvoyant bound: closed forms, how it moves with what is asked, and mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aladdin_env.errors import InputError
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import SLO, Scenario, WorkerType
from aladdin_env.yardsticks import least_workers, lower_bound
from aladdin_traces import PrefixBlocks, Trace
from tests.env.yardsticks.cases import at_once, profile, scenario_of, worker


def served_s(kind: WorkerType, prompt: int, output: int, count: int = 1) -> float:
    """Seconds of a worker that prefills so many like requests at once and decodes them together."""
    decoding_s = sum(kind.latency.decode_s(count, count * (prompt + k)) for k in range(1, output))
    return kind.latency.prefill_s(count * prompt) + decoding_s


@pytest.fixture(scope="module")
def minute() -> tuple[Scenario, Trace]:
    scenario = replace(load_scenario("sharegpt-poisson"), horizon_s=60.0)
    return scenario, scenario.workload.sample(np.random.default_rng(0), 60.0)


# --- closed forms ---


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
@pytest.mark.parametrize("gpus", [1, 2])
def test_one_request_alone_costs_its_busy_time(scheduler: str, gpus: int) -> None:
    kind = worker(profile(gpus=gpus), scheduler=scheduler, max_num_seqs=1, max_num_batched_tokens=700)
    trace = at_once([700], [50])
    exact_s = served_s(kind, 700, 50)
    for unit in ("cost", "gpu_seconds"):
        bound = lower_bound(scenario_of(trace, kind), trace, 1.0, unit)
        assert (bound.unit, bound.requests, bound.misses) == (unit, 1, 0)
        assert exact_s * gpus * 0.998 < bound.value <= exact_s * gpus * (1 + 1e-12)


def test_one_at_a_time_adds_up() -> None:
    kind = worker(max_num_seqs=1)
    lengths = [(100, 1), (700, 50), (120, 300)]
    trace = at_once([p for p, _ in lengths], [o for _, o in lengths])
    exact_s = sum(served_s(kind, p, o) for p, o in lengths)
    assert exact_s * 0.998 < lower_bound(scenario_of(trace, kind), trace, 1.0).value <= exact_s * (1 + 1e-12)


def test_equal_requests_that_come_together_fill_a_batch() -> None:
    kind = worker(max_num_seqs=16, max_num_batched_tokens=8000)
    trace = at_once([500] * 16, [100] * 16)
    exact_s = served_s(kind, 500, 100, 16)
    assert 0.995 * exact_s < lower_bound(scenario_of(trace, kind), trace, 1.0).value <= exact_s * (1 + 1e-12)


def test_the_pace_limits_the_batch() -> None:
    kind = worker(max_num_seqs=64, max_num_batched_tokens=8000)
    trace = at_once([500] * 16, [100] * 16)
    exact_s = served_s(kind, 500, 100, 16)
    pace_s = (exact_s - kind.latency.prefill_s(16 * 500)) / 99
    loose, tight = (
        lower_bound(scenario_of(trace, kind, slo=SLO(1e6, goal_s)), trace, 1.0).value for goal_s in (1.0, pace_s)
    )
    assert loose < 0.75 * exact_s
    assert 0.97 * exact_s < tight <= exact_s * (1 + 1e-9)


def test_the_memory_limits_the_batch() -> None:
    kind = worker(max_num_seqs=64, max_num_batched_tokens=8000, kv_capacity_tokens=16 * 549)
    trace = at_once([500] * 16, [50] * 16)
    exact_s = served_s(kind, 500, 50, 16)
    assert 0.97 * exact_s < lower_bound(scenario_of(trace, kind), trace, 1.0).value <= exact_s * (1 + 1e-9)


def test_the_cheaper_type_serves() -> None:
    cheap, dear = (
        replace(worker(max_num_seqs=1, name=name), price_per_gpu_hour=3600.0 * price)
        for name, price in (("a", 1.0), ("b", 2.0))
    )
    trace = at_once([700], [50])
    both, one = (lower_bound(scenario_of(trace, *kinds), trace, 1.0).value for kinds in ((dear, cheap), (cheap,)))
    assert both == pytest.approx(one, rel=1e-3)


def test_what_always_runs_is_paid_for() -> None:
    kind = replace(worker(), minimum=1, maximum=1)
    trace = Trace.from_arrays([0.0, 1000.0], [10, 10], [2, 2])
    assert lower_bound(scenario_of(trace, kind), trace, 1.0).value == pytest.approx(1000.0)


def test_the_dearest_may_miss() -> None:
    kind = worker(max_num_seqs=1)
    trace = at_once([100] * 99 + [5000], [10] * 99 + [900])
    scenario = scenario_of(trace, kind)
    found = lower_bound(scenario, trace, 0.99)
    assert found.misses == 1
    assert 99 * served_s(kind, 100, 10) * 0.99 < found.value <= 99 * served_s(kind, 100, 10) * (1 + 1e-12)


def test_who_fits_nowhere_is_free() -> None:
    kind = worker(max_num_seqs=1, kv_capacity_tokens=1000)
    alone, with_giant = at_once([500], [100]), at_once([500, 900], [100, 500])
    values = [
        lower_bound(scenario_of(trace, kind), trace, share).value for trace, share in ((alone, 1.0), (with_giant, 1.0))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    nobody = at_once([900], [500])
    assert lower_bound(scenario_of(nobody, kind), nobody, 1.0).value == 0.0


def test_a_shared_prefix_is_computed_by_nobody() -> None:
    kind = worker(max_num_seqs=1, block_size=100)
    blocks = PrefixBlocks.from_lists([[0, 1, 2, 3, 4], [0, 1, 2, 3, 5]], 100)
    trace = Trace.from_arrays([0.0, 0.0], [500, 500], [1, 1], prefix_blocks=blocks)
    shared, alone = (
        lower_bound(scenario_of(trace, one), trace, 1.0).value for one in (kind, replace(kind, prefix_cache=False))
    )
    assert alone == pytest.approx(2 * kind.latency.prefill_s(500), rel=1e-6)
    assert shared == pytest.approx(2 * kind.latency.prefill_s(100), rel=1e-6)


# --- how it moves ---


def test_it_falls_with_the_attainment(minute: tuple[Scenario, Trace]) -> None:
    values = [lower_bound(*minute, share).value for share in (1.0, 0.99, 0.9, 0.5, 0.1)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 1.05 * values[2] > 1.05 * values[3] > 0


def test_it_scales_with_prices(minute: tuple[Scenario, Trace]) -> None:
    scenario, trace = minute
    kind = scenario.fleet.types[0]
    dearer = replace(kind, price_per_gpu_hour=7 * kind.price_per_gpu_hour)
    values = [
        lower_bound(replace(scenario, fleet=replace(scenario.fleet, types=(one,))), trace).value
        for one in (kind, dearer)
    ]
    assert values[1] == pytest.approx(7 * values[0], rel=2e-3)
    seconds = lower_bound(scenario, trace, unit="gpu_seconds").value
    assert values[0] == pytest.approx(seconds * kind.price_per_gpu_hour / 3600, rel=2e-3)


def test_more_requests_never_lower_it(minute: tuple[Scenario, Trace]) -> None:
    scenario, trace = minute
    values = [lower_bound(scenario, trace.take(np.arange(n)), 1.0).value for n in (200, 400, 800, 1200)]
    assert values == sorted(values)
    tight = replace(scenario, slo=SLO(0.2, 0.02))
    workers = [least_workers(tight, trace.take(np.arange(n)), 1.0) for n in (20, 200)]
    assert 1 <= workers[0] <= workers[1]


def test_a_tighter_pace_costs_more(minute: tuple[Scenario, Trace]) -> None:
    scenario, trace = minute
    values = [lower_bound(replace(scenario, slo=SLO(1.0, pace_s)), trace).value for pace_s in (0.2, 0.05, 0.035)]
    assert values[0] <= values[1] * 1.001 and values[1] < values[2]


# --- mistakes ---


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan"), "a"])
def test_a_share_that_is_none(minute: tuple[Scenario, Trace], share: object) -> None:
    for asked in (lower_bound, least_workers):
        with pytest.raises(InputError, match="attainment"):
            asked(*minute, share)


def test_an_unknown_unit(minute: tuple[Scenario, Trace]) -> None:
    with pytest.raises(InputError, match="gpu_seconds"):
        lower_bound(*minute, unit="gpu_second")


def test_least_workers_is_of_one_type() -> None:
    trace = at_once([10], [10])
    with pytest.raises(InputError, match="one worker type"):
        least_workers(scenario_of(trace, worker(name="a"), worker(name="b")), trace)
