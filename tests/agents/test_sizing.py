"""Sizing: the formulas by hand, what binds, and the plan against simulation."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.metadata import entry_points

import numpy as np
import pytest

from aladdin_agents import aladdin
from aladdin_agents.sizing import (
    Capacity,
    LengthStatistics,
    Safety,
    capacity,
    pace,
    plan,
    prefill_seconds,
    prefill_use,
    workers_for,
)  # fmt: skip
from aladdin_env import SLO, Fleet, InputError, Scenario, WorkerType, Workload
from aladdin_env.latency import PrefillLaw
from aladdin_env.scenario import SLOClass
from aladdin_env.simulator.run import Simulator
from aladdin_traces import LENGTHS, Poisson

from .worlds import C1, C2, C3, K1, K2, OVERHEAD, OVERLAP, kind, profile, scenario_of

LENGTHS_HERE = LengthStatistics(prompt=200.0, prompt_square=60_000.0, prompt_p99=800.0, decoded=100.0, context=260.0)
ALL_OF_IT = Safety(theta=1.0, gamma=1.0, rho=1.0, prefill=1.0)
SLACK = SLO(1.0, 0.03)


def test_length_statistics_by_hand():
    found = LengthStatistics.of([100, 300], [11, 31])
    assert (found.prompt, found.prompt_square, found.decoded) == (200.0, 50_000.0, 20.0)
    assert found.context == pytest.approx(((100 + 5.5) * 10 + (300 + 15.5) * 30) / 2 / 20)
    with pytest.raises(InputError, match="prompt_tokens"):
        LengthStatistics.of([], [])


def test_length_statistics_from_the_clusters_sums():
    prompt, output = np.array([100, 300, 700]), np.array([11, 31, 2])
    sums = {
        "finished": 3,
        "finished_prompt_tokens": prompt.sum(),
        "finished_output_tokens": output.sum(),
        "finished_context_tokens": ((prompt + output / 2) * (output - 1)).sum(),
    }
    wanted = LengthStatistics.of(prompt, output)
    found = LengthStatistics.from_sums(sums, wanted.prompt_square, wanted.prompt_p99)
    assert found is not None
    for name in ("prompt", "prompt_square", "prompt_p99", "decoded", "context"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name))
    assert LengthStatistics.from_sums(dict.fromkeys(sums, 0), 1.0, 1.0) is None


def test_batch_in_the_linear_laws_is_the_closed_form():
    found = capacity(kind(max_num_seqs=2048, profile=profile(kv=10**9)), SLACK, LENGTHS_HERE, ALL_OF_IT)
    s, m, length = 200.0, 100.0, 260.0
    closed = (0.03 - C3) / (K2 * length + C2 + (K1 * s + C1) / m)
    assert found.batch == int(closed)
    tau = found.batch * (K2 * length + C2) + C3 + found.batch / m * (K1 * s + C1)
    assert found.pace_s == pytest.approx(tau)
    busiest = 1 / (K1 * s + C1)
    assert found.rate_rps == pytest.approx(min(found.batch / (m * tau), busiest))
    assert found.ttft_s == pytest.approx(
        found.batch * (K2 * length + C2) + C3 + K1 * 800 + C1 + OVERHEAD
    )  # fmt: skip
    assert found.binds == "pace"


def test_memory_places_prefill_and_ttft_bind():
    small = capacity(kind(kv_capacity_tokens=2600), SLACK, LENGTHS_HERE, ALL_OF_IT)
    assert (small.batch, small.binds) == (2592 // 260, "memory")
    few = capacity(kind(max_num_seqs=4), SLACK, LENGTHS_HERE, ALL_OF_IT)
    assert (few.batch, few.binds) == (4, "places")
    busy = capacity(kind(), SLACK, replace(LENGTHS_HERE, decoded=5.0), replace(ALL_OF_IT, prefill=0.2))
    assert busy.binds == "prefill"
    assert busy.rate_rps == pytest.approx(0.2 / (K1 * 200 + C1))
    late = capacity(kind(), SLO(0.09, 0.03), LENGTHS_HERE)
    assert (late.batch, late.rate_rps, late.binds) == (0, 0.0, "ttft")
    slow = capacity(kind(), SLO(1.0, 0.005), LENGTHS_HERE)
    assert (slow.batch, slow.binds) == (0, "pace")
    assert workers_for(10.0, slow) == 0


def test_roles_of_split():
    prefill = capacity(kind(scheduler="split", role="prefill"), SLACK, LENGTHS_HERE)
    share = prefill.rate_rps * prefill_seconds(kind(), LENGTHS_HERE)
    assert share == prefill_use(kind(), LENGTHS_HERE, SLACK.ttft_s - prefill.ttft_s)
    decode = kind(scheduler="split", role="decode")
    assert pace(decode, LENGTHS_HERE, 10) == pytest.approx(10 * (K2 * 260 + C2) + C3)
    assert capacity(decode, SLACK, LENGTHS_HERE).batch > capacity(kind(), SLACK, LENGTHS_HERE).batch
    late = capacity(kind(scheduler="split", role="prefill"), SLO(0.05, 0.03), LENGTHS_HERE)
    assert (late.rate_rps, late.binds) == (0.0, "ttft")


def test_chunked_saves_the_overlap():
    saved = pace(kind(), LENGTHS_HERE, 20) - pace(kind(scheduler="chunked"), LENGTHS_HERE, 20)
    assert saved == pytest.approx(20 / 100 * OVERLAP)


def test_short_prompts_cost_a_chunked_batch_their_work_or_what_is_left_of_the_launches():
    """Up to the floor decodes hide in the launches, 20 ms; beyond, 200 tokens are 200 of the 40 us that follow it."""
    law = PrefillLaw((500.0, 1000.0), (0.02, 0.04), floor_tokens=500.0)
    floored = kind(scheduler="chunked", profile=replace(profile(), prefill=law))
    few, many = (b * (K2 * 260 + C2) + C3 for b in (20, 400))
    assert few < 0.02 < many
    assert pace(floored, LENGTHS_HERE, 20) == pytest.approx(few + 20 / 100 * (0.02 - few))
    assert pace(floored, LENGTHS_HERE, 400) == pytest.approx(many + 400 / 100 * (200 * 40e-6 - OVERLAP))


def test_several_classes_count_as_the_strictest():
    classes = SLO(classes=(SLOClass("a", 1.0, 0.05), SLOClass("b", 0.5, 0.08)))
    assert capacity(kind(), classes, LENGTHS_HERE) == capacity(kind(), SLO(0.5, 0.05), LENGTHS_HERE)


def test_number_of_workers():
    each = Capacity(10, 5.0, 0.02, 0.1, "pace")
    assert workers_for(9.0, each, Safety(rho=0.9)) == 2
    assert workers_for(9.1, each, Safety(rho=0.9)) == 3
    assert workers_for(0.01, each) == 1
    with pytest.raises(InputError, match="rho"):
        Safety(rho=1.5)
    with pytest.raises(InputError, match=r"safety\.theta"):
        Safety(theta="a")


def h100(**changes):
    return WorkerType("h100", "llama-3.1-8b-h100-tp1", **changes)


def test_plan_sorts_by_cost_and_says_what_binds():
    slow = WorkerType("a100", "llama-3.1-8b-a100-tp1", price_per_gpu_hour=9.0)
    wide = WorkerType("wide", "llama-3.1-8b-h100-tp4")
    never = WorkerType("never", "llama-2-13b-a100-tp1")
    workload = Workload.generated(Poisson(40.0), LENGTHS["sharegpt"])
    scenario = Scenario("plan", workload, Fleet((slow, wide, never, h100())), slo=SLO(1.0, 0.02), horizon_s=300.0)
    found = plan(scenario)
    assert [c.type for c in found] == ["h100", "wide", "a100", "never"]
    assert [c.feasible for c in found] == [True, True, True, False]
    assert found[0].workers == found[0].gpus
    assert found[1].gpus == 4 * found[1].workers
    assert found[0].cost_per_hour == 2.0 * found[0].gpus
    assert found[3].binds == "pace"
    assert plan(scenario, 80.0)[0].workers > found[0].workers
    assert {c.profile for c in plan(scenario, all_profiles=True)} >= {"llama-3.1-8b-h200-tp1", "llama-3.1-8b-a100-tp8"}


def test_plan_takes_lengths_or_a_trace():
    scenario = scenario_of([(0.0, 100, 20), (1.0, 100, 20)], kind())
    by_lengths = plan(scenario, 100.0, prompt_tokens=[100], output_tokens=[20])
    assert by_lengths == plan(scenario, 100.0)
    assert by_lengths == plan(scenario, 100.0, scenario.workload.trace)
    with pytest.raises(InputError, match="rate_rps"):
        plan(scenario, 0.0)
    with pytest.raises(InputError, match="output_tokens"):
        plan(scenario, 1.0, prompt_tokens=[100])


def test_plan_of_a_split_fleet_has_both_pools():
    types = kind("p", scheduler="split", role="prefill"), kind("d", scheduler="split", role="decode")
    found = plan(scenario_of([(0.0, 100, 20)], *types), 50.0)
    assert {c.role: c.workers > 0 for c in found} == {"prefill": True, "decode": True}


def test_plan_is_registered():
    point = entry_points(group="aladdin.planners")["aladdin"]
    assert point.load() is plan


def test_prefill_pool_is_used_as_far_as_its_queue_allows():
    """The more time TTFT leaves, the fuller; at equal prompts the formula by hand."""
    shares = [prefill_use(kind(), LENGTHS_HERE, spare_s) for spare_s in (-1.0, 0.0, 0.1, 1.0, 10.0, 1000.0)]
    assert shares == sorted(shares) and shares[0] == shares[1] <= 0.005 and shares[-1] == pytest.approx(0.95)
    equal = replace(LENGTHS_HERE, prompt_square=LENGTHS_HERE.prompt**2)
    use, service_s = prefill_use(kind(), equal, 1.0), prefill_seconds(kind(), equal)
    assert use * math.exp(-2 * (1 - use) / service_s) <= 0.005 < (use + 0.02) * math.exp(-2 * (0.98 - use) / service_s)
    assert prefill_use(kind(), replace(equal, prompt_square=4 * equal.prompt_square), 1.0) < use


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
@pytest.mark.parametrize(("lengths", "slo"), [("sharegpt", SLO(1.0, 0.02)), ("azure-conv", SLO(1.0, 0.03))])
def test_planned_fleet_holds_the_slo_and_is_not_much_too_large(lengths, slo, scheduler):
    fleet = Fleet((h100(maximum=99, scheduler=scheduler),))
    workload = Workload.generated(Poisson(90.0), LENGTHS[lengths])
    scenario = Scenario("plan", workload, fleet, slo=slo, horizon_s=60.0)
    workers = plan(scenario)[0].workers
    held = {}
    for n in (workers, int(0.65 * workers)):
        fixed = scenario.with_workers((n,))
        held[n] = Simulator(fixed, 1).run(aladdin.make(fixed)).summary["slo_attainment"]
    assert held[workers] >= 0.99
    assert held[int(0.65 * workers)] < 0.99
