"""Scenarios: what they refuse and how they say it, and that the shipped ones can be served."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aladdin_env import SLO, Fleet, InputError, Scenario, WorkerType, Workload, load_profile
from aladdin_env.policy import Kernel, placement_kernel
from aladdin_env.presets import MISS_OVER_COST, PRESETS, load_scenario, scenario_names
from aladdin_env.scenario import (
    ColdStart,
    Failures,
    Predictor,
    RewardWeights,
    SLOClass,
    Transfer,
)
from aladdin_env.scenario_file import write_scenario
from aladdin_env.simulator import setup
from aladdin_env.simulator.router import can_place
from aladdin_env.simulator.run import simulate
from aladdin_traces import Diurnal, FixedLengths, Poisson, Trace

KIND = WorkerType("a", "llama-3.1-8b-h100-tp1")
SCENARIO = Scenario("s", Workload.generated(Poisson(5.0), "sharegpt"), Fleet((KIND,)))


@placement_kernel("fewest")
def fewest(workers, requests, cluster, types, laws, slo, lengths, memory, r):
    best = -1
    load = 1 << 60
    for w in range(workers.shape[0]):
        if can_place(workers, requests, w, r):
            here = workers[w].running + workers[w].waiting
            if here < load:
                load = here
                best = w
    return best


# --- what is refused ---

REFUSED: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: ColdStart(-1.0), "cold_start.mean_s", "0 or more"),
    (lambda: ColdStart(float("nan")), "cold_start.mean_s", "finite"),
    (lambda: ColdStart(law="lognormall"), "cold_start.law", "did you mean 'lognormal'"),
    (lambda: ColdStart(spread=0.1), "cold_start.spread", "'constant'"),
    (lambda: ColdStart(spread=0.6, law="uniform"), "cold_start.spread", "0 to 0.577"),
    (lambda: replace(KIND, profile="llama-3.1-8b-h10-tp1"), "profile", "did you mean 'llama-3.1-8b-h100-tp1'"),
    (lambda: replace(KIND, scheduler="chunk"), "scheduler", "did you mean 'chunked'"),
    (lambda: replace(KIND, role="decode"), "role", "with the scheduler 'split'"),
    (lambda: replace(KIND, scheduler="split"), "role", "with the scheduler 'split'"),
    (lambda: replace(KIND, initial=17), "initial", "minimum (0) to maximum (16)"),
    (lambda: replace(KIND, initial=1, minimum=2), "initial", "minimum (2)"),
    (lambda: replace(KIND, minimum=-1), "minimum", "0 or more"),
    (lambda: replace(KIND, initial=0, maximum=0), "maximum", "1 to 8192"),
    (lambda: replace(KIND, price_per_gpu_hour=float("inf")), "price_per_gpu_hour", "finite"),
    (lambda: replace(KIND, max_num_seqs=0), "max_num_seqs", "1 to 2048"),
    (lambda: replace(KIND, max_num_batched_tokens=255), "max_num_batched_tokens", "max_num_seqs (256)"),
    (lambda: replace(KIND, block_size=0), "block_size", "1 to 1024"),
    (lambda: replace(KIND, kv_capacity_tokens=15), "kv_capacity_tokens", "block_size (16)"),
    (lambda: Failures(mtbf_s=-1.0), "failures.mtbf_s", "0 or more"),
    (lambda: Failures(repair_s=0.0), "failures.repair_s", "above 0"),
    (lambda: Transfer(bandwidth_bytes_per_s=0.0), "transfer.bandwidth_bytes_per_s", "above 0"),
    (lambda: Fleet(()), "fleet.types", "at least one"),
    (lambda: Fleet((KIND, KIND)), "fleet.types", "name of its own"),
    (lambda: Fleet((replace(KIND, scheduler="split", role="decode"),)), "fleet.types", "both prefill and decode"),
    (lambda: Fleet((KIND, replace(KIND, name="b", scheduler="split", role="prefill"))), "fleet.types", "only mixed"),
    (lambda: Fleet((KIND,), max_gpus=3), "fleet.max_gpus", "at least the 4 GPUs"),
    (lambda: SLO(ttft_s=0.0), "slo.ttft_s", "above 0"),
    (lambda: SLO(atgt_s=-0.1), "slo.atgt_s", "above 0"),
    (lambda: SLOClass("x", 1.0, 0.0), "atgt_s", "above 0"),
    (lambda: SLO(classes=(SLOClass("x", 1.0, 1.0),) * 5), "slo.classes", "at most 4"),
    (lambda: RewardWeights(cost=-1.0), "reward.cost", "0 or more"),
    (lambda: Predictor(kind="bucket-mean"), "predictor.kind", "did you mean 'bucket_mean'"),
    (lambda: Predictor(prior_tokens=0.0), "predictor.prior_tokens", "above 0"),
    (lambda: Predictor("noisy_oracle", noise=-0.1), "predictor.noise", "0 to 10"),
    (lambda: Predictor("noisy_oracle", noise=float("nan")), "predictor.noise", "0 to 10"),
    (lambda: replace(SCENARIO, horizon_s=None), "horizon_s", "number of seconds"),
    (lambda: replace(SCENARIO, horizon_s=0.0), "horizon_s", "above 0"),
    (lambda: replace(SCENARIO, heartbeat_s=0.0), "heartbeat_s", "above 0"),
    (lambda: replace(SCENARIO, max_hold_s=-1.0), "max_hold_s", "0 or more"),
    (lambda: replace(SCENARIO, max_retries=-1), "max_retries", "0 to 1000"),
    (lambda: replace(SCENARIO, start_of_day_s=86400.0), "start_of_day_s", "0 to 86399"),
]


@pytest.mark.parametrize(("make", "field", "mend"), REFUSED, ids=[f"{i}-{row[1]}" for i, row in enumerate(REFUSED)])
def test_refuses(make: Callable[[], Any], field: str, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert caught.value.field.endswith(field)
    assert mend in caught.value.mend


def check(scenario: Scenario) -> None:
    setup.check(scenario, scenario.workload.sample(np.random.default_rng(0), scenario.horizon_s))


@pytest.mark.parametrize(("slo", "field"), [(SLO(ttft_s=0.02), "slo.ttft_s"), (SLO(atgt_s=0.001), "slo.atgt_s")])
def test_slo_that_an_idle_worker_misses_names_the_least_value(slo: SLO, field: str) -> None:
    scenario = replace(SCENARIO, workload=Workload.generated(Poisson(5.0), FixedLengths(300, 200)), slo=slo)
    with pytest.raises(InputError, match="infeasible") as caught:
        check(scenario)
    assert caught.value.field == field
    profile = load_profile("llama-3.1-8b-h100-tp1")
    best = {
        "slo.ttft_s": profile.overhead_s + profile.prefill_s(300),
        "slo.atgt_s": profile.decode_s(1, 300),
    }[field]
    named = float(caught.value.mend.rsplit(" ", 1)[1])
    assert best <= named <= best + 1e-4
    check(replace(scenario, slo=replace(slo, **{field.removeprefix("slo."): named})))


def test_infeasible_class_is_named() -> None:
    slo = SLO(classes=(SLOClass("a", 1.0, 0.05), SLOClass("b", 1.0, 0.0001)))
    workload = Workload.generated(Poisson(5.0), "sharegpt", (0.5, 0.5))
    with pytest.raises(InputError, match=r"slo\.atgt_s of class 1"):
        check(replace(SCENARIO, workload=workload, slo=slo))


def test_best_worker_type_decides_whether_an_slo_is_feasible() -> None:
    slow, fast = WorkerType("slow", "llama-2-13b-a100-tp1"), WorkerType("fast", "llama-3.1-8b-h200-tp1")
    slo = SLO(atgt_s=0.01)
    with pytest.raises(InputError, match="infeasible"):
        check(replace(SCENARIO, fleet=Fleet((slow,)), slo=slo))
    check(replace(SCENARIO, fleet=Fleet((slow, fast)), slo=slo))


def test_prompt_that_fits_nowhere_is_named() -> None:
    workload = Workload.from_arrays([0.0, 1.0], [10, 200], [5, 5])
    fleet = Fleet((replace(KIND, kv_capacity_tokens=160),))
    with pytest.raises(InputError, match=r"prompt_tokens of request 1: 200.*160 tokens"):
        check(replace(SCENARIO, workload=workload, fleet=fleet, horizon_s=None))


def test_prefilled_prompt_needs_a_decode_worker_with_room_for_one_more() -> None:
    prefill = replace(KIND, name="p", scheduler="split", role="prefill")
    decode = replace(KIND, name="d", scheduler="split", role="decode", kv_capacity_tokens=160)
    scenario = replace(
        SCENARIO, workload=Workload.from_arrays([0.0], [160], [5]), fleet=Fleet((prefill, decode)), horizon_s=None
    )
    with pytest.raises(InputError, match="159 tokens"):
        check(scenario)


def test_workload_without_requests_is_refused() -> None:
    empty = Trace.from_arrays([1.0], [1], [1]).window(2.0, 3.0)
    with pytest.raises(InputError, match="0 requests"):
        setup.check(SCENARIO, empty)


# --- what the parts mean ---


@given(st.floats(1.0, 500.0), st.floats(0.0, 0.57), st.sampled_from(["uniform", "lognormal"]))
def test_cold_starts_have_the_given_mean_and_spread(mean_s: float, spread: float, law: str) -> None:
    drawn = ColdStart(mean_s, spread, law).sample(np.random.default_rng(0), 20_000)
    assert drawn.min() >= 0
    assert drawn.mean() == pytest.approx(mean_s, rel=0.03)
    assert drawn.std() / drawn.mean() == pytest.approx(spread, rel=0.06, abs=0.002)


@pytest.mark.parametrize("law", ["constant", "uniform", "lognormal"])
def test_cold_start_of_no_time(law: str) -> None:
    assert ColdStart(0.0, 0.0, law).sample(np.random.default_rng(0), 3).tolist() == [0.0, 0.0, 0.0]


def test_price_counts_every_gpu() -> None:
    kind = WorkerType("big", "llama-3.1-70b-h100-tp4", price_per_gpu_hour=3.0)
    assert (kind.gpus, kind.price_per_s) == (4, pytest.approx(12.0 / 3600))


def test_kv_room_comes_from_the_profile_unless_given() -> None:
    assert KIND.kv_blocks == load_profile("llama-3.1-8b-h100-tp1").kv_capacity_tokens // 16
    assert replace(KIND, kv_capacity_tokens=1000, block_size=64).kv_blocks == 15


def test_fixed_fleet_keeps_only_the_workers_that_are_asked_for() -> None:
    scenario = load_scenario("mixed-fleet").with_workers((2, 0, 1))
    assert [(k.name, k.initial, k.minimum, k.maximum) for k in scenario.fleet.types] == [
        ("a100", 2, 2, 2),
        ("h200", 1, 1, 1),
    ]
    assert scenario.fleet.slots == 3


def test_workload_can_be_exchanged() -> None:
    trace = Workload.from_arrays([0.0, 9.0], [10, 10], [5, 5])
    assert SCENARIO.with_workload(trace).horizon_s is None
    assert SCENARIO.with_workload(trace, horizon_s=5.0).horizon_s == 5.0
    assert SCENARIO.with_workload(Workload.generated(Poisson(9.0), "sharegpt")).horizon_s == SCENARIO.horizon_s


def test_classes_beyond_the_given_ones_have_the_common_objectives() -> None:
    slo = SLO(ttft_s=2.0, atgt_s=0.1, classes=(SLOClass("fast", 0.5, 0.02),))
    assert slo.targets().tolist() == [[0.5, 0.02], [2.0, 0.1], [2.0, 0.1], [2.0, 0.1]]
    assert (slo.names(), SLO().names()) == (("fast",), ("default",))


# --- the shipped scenarios ---


def test_loads_by_name_from_a_file_and_as_it_is(tmp_path: Path) -> None:
    scenario = load_scenario("azure-code")
    assert scenario == PRESETS["azure-code"]()
    write_scenario(scenario, tmp_path / "mine.toml")
    assert load_scenario(tmp_path / "mine.toml") == load_scenario(str(tmp_path / "mine.toml")) == scenario
    assert load_scenario(scenario) is scenario


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'sharegpt-poisson'"):
        load_scenario("sharegpt-poison")


@pytest.mark.parametrize("name", scenario_names())
def test_preset_says_what_it_is(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.description.endswith(".")
    assert scenario.fleet.slots <= 16
    assert all(kind.minimum >= 1 for kind in scenario.fleet.types)


@pytest.mark.parametrize("name", scenario_names())
def test_miss_costs_ten_times_the_serving(name: str) -> None:
    scenario = load_scenario(name)
    cost_per_s = sum(kind.initial * kind.price_per_s for kind in scenario.fleet.types)
    per_request = cost_per_s / scenario.workload.mean_rate_rps
    weights = scenario.reward
    assert weights.ttft_miss == weights.atgt_miss == weights.unserved / 2
    assert weights.ttft_miss == pytest.approx(MISS_OVER_COST * weights.cost * per_request)


def attainment(scenario: Scenario, counts: tuple[int, ...], policy: Kernel = fewest) -> float:
    return float(simulate(scenario.with_workers(counts), policy).summary["slo_attainment"])


def busiest_hour(scenario: Scenario) -> Scenario:
    """The hour before the day's peak: the whole day is four million requests."""
    arrivals = scenario.workload.arrivals
    assert isinstance(arrivals, Diurnal)
    workload = replace(scenario.workload, arrivals=replace(arrivals, start_s=13.5 * 3600))
    return replace(scenario, workload=workload, horizon_s=3600.0)


@pytest.mark.parametrize("name", scenario_names())
def test_preset_can_be_served_and_is_not_for_free(name: str) -> None:
    scenario = load_scenario(name)
    if name == "diurnal":
        scenario = busiest_hour(scenario)
    kinds = scenario.fleet.types
    initial = tuple(kind.initial for kind in kinds)
    assert attainment(scenario, tuple(kind.maximum for kind in kinds)) > 0.99
    held = attainment(scenario, initial)
    assert held >= (0.98 if name == "diurnal" else 0.99)
    assert attainment(scenario, tuple(n // 2 for n in initial)) < 0.9
    if len(kinds) == 1:
        assert attainment(scenario, (initial[0] - 1,)) < min(held, 0.992)
