"""The Aladdin placement: what it chooses, that it chooses only what is allowed, and what it is worth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aladdin_agents import aladdin, placements
from aladdin_env import SLO, Fleet, InputError, Scenario, WorkerType, Workload
from aladdin_env.policy import HOLD, REJECT
from aladdin_env.scenario import ColdStart, Failures, Predictor, SLOClass
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.state import PREFILLED
from aladdin_traces import LENGTHS, LognormalMixture

from .test_baselines import NAMES, Checked
from .worlds import OVERHEAD, kind, profile, put_running, put_waiting, random_requests, scenario_of, state


def cluster(requests=20, workers=3, prompt=100, make=aladdin.make, **changes):
    return state(scenario_of([(0.0, prompt, 200)] * requests, kind(workers=workers, **changes)), make)


def relaxed(s, now_s=20.0):
    """Let time pass, so that running requests are far ahead of their pace; the newcomers arrive now."""
    s.world.cluster["now_s"] = now_s
    s.world.requests["arrival_s"] = now_s


def test_takes_the_fullest_that_keeps_its_promises():
    s = cluster()
    relaxed(s)
    put_running(s.world, 1, 10, generated=150, first_token_s=18.0)
    for r in range(11, 16):
        put_running(s.world, 2, r, generated=150, first_token_s=18.0)
    assert s.choose() == 2


def test_leaves_out_a_worker_whose_requests_have_no_time_in_hand():
    s = cluster(prompt=2000)
    relaxed(s)
    put_running(s.world, 1, 10, generated=150, first_token_s=18.0)
    put_running(s.world, 2, 11, generated=66, first_token_s=18.0)  # 66 tokens in 2 s: on its pace to the token
    put_running(s.world, 2, 12, generated=150, first_token_s=18.0)
    assert s.choose() == 1


def test_leaves_out_a_worker_whose_queue_would_be_late():
    s = cluster(prompt=3000)
    s.world.requests["prompt_tokens"][10:13] = 1500
    for r in (10, 11, 12):
        put_waiting(s.world, 2, r)
    s.world.requests["arrival_s"] = -0.4  # with 0.755 s of prefill for all four nobody would be in time
    assert s.choose() == 0


def test_memory_is_looked_at_in_the_future():
    s = cluster(kv_capacity_tokens=2000, make=lambda x: aladdin.make(x, aladdin.Settings(hold_share=0.0)))
    relaxed(s)
    s.world.requests["predicted_tokens"] = 900.0
    put_running(s.world, 2, 10, generated=5, first_token_s=19.99)
    assert s.choose() == 0  # 2 x (100 + 900) is beyond 0.95 of 2000
    s.world.requests["predicted_tokens"] = 200.0
    assert s.choose() == 2


def test_re_balancing_breaks_ties():
    for rebalance, wanted in ((1.0, 1), (0.0, 0)):
        s = cluster(workers=2, make=lambda x, weight=rebalance: aladdin.make(x, aladdin.Settings(rebalance=weight)))
        s.world.workers["prediction_error_tokens"] = 0.0, 300.0
        assert s.choose() == wanted


def test_long_run_speaks_against_all_but_the_present_does_not():
    tight = aladdin.Settings(theta=0.2)
    s = cluster(workers=2, make=lambda x: aladdin.make(x, tight))
    relaxed(s)
    put_running(s.world, 0, 10, generated=150, first_token_s=18.0)
    assert s.choose() == 1  # 0.2 x 30 ms is less than an empty worker needs: the least loaded one
    s = cluster(workers=2, make=lambda x: aladdin.make(x, dataclasses.replace(tight, stretch=0.0)))
    relaxed(s)
    put_running(s.world, 0, 10, generated=150, first_token_s=18.0)
    assert s.choose() == HOLD


def tense(**changes):
    """One worker, a request exactly on its pace there, and a long newcomer."""
    s = cluster(workers=1, prompt=3000, make=lambda x: aladdin.make(x, aladdin.Settings(**changes)))
    relaxed(s)
    put_running(s.world, 0, 10, generated=66, first_token_s=18.0)
    return s


def test_holds_while_ttft_leaves_time_then_places():
    s = tense()
    assert s.choose() == HOLD
    s.world.requests["arrival_s"][0] = 19.5
    assert s.choose() == 0  # 0.5 s gone and 0.3 s of prefill: more than 0.7 of TTFT
    assert tense(hold_share=0.0).choose() == 0


def test_never_holds_where_holding_is_rejecting():
    requests = [(0.0, 3000, 200)] * 20
    s = state(scenario_of(requests, kind(workers=1), max_hold_s=0.0), aladdin.make)
    relaxed(s)
    put_running(s.world, 0, 10, generated=66, first_token_s=18.0)
    assert s.choose() == 0


def test_an_impatient_class_is_not_kept_behind_a_patient_one():
    """The hold queue is first come first served: the strictest TTFT in use limits everybody's stay."""
    slo = SLO(classes=(SLOClass("fast", 0.2, 0.03), SLOClass("slow", 20.0, 0.03)))
    s = state(scenario_of([(0.0, 3000, 200, 1)] * 20, kind(workers=1), slo=slo), aladdin.make)
    relaxed(s)
    put_running(s.world, 0, 10, generated=66, first_token_s=18.0)
    assert s.choose() == HOLD
    s.world.requests["arrival_s"][0] = 19.8
    assert s.choose() == 0


def test_a_prefilled_request_is_not_held():
    types = kind("p", 1, scheduler="split", role="prefill"), kind("d", 2, scheduler="split", role="decode")
    s = state(scenario_of([(0.0, 3000, 200)] * 20, *types), aladdin.make)
    relaxed(s)
    s.world.workers["accepts"] = 1, 2, 2
    s.world.requests["stage"][0], s.world.requests["generated"][0] = PREFILLED, 1
    for w in (1, 2):
        put_running(s.world, w, 9 + w, generated=60, first_token_s=18.0)  # behind its pace already
    put_running(s.world, 2, 15, generated=150, first_token_s=18.0)
    assert s.choose() in (1, 2)


def test_prefill_pool_is_not_packed():
    types = kind("p", 3, scheduler="split", role="prefill"), kind("d", 1, scheduler="split", role="decode")
    s = state(scenario_of([(0.0, 500, 200)] * 20, *types), aladdin.make)
    relaxed(s)
    s.world.workers["accepts"] = 1, 1, 1, 2
    for w, waiting in ((0, (10, 11)), (1, (12,)), (2, (13, 14, 15))):
        for r in waiting:
            put_waiting(s.world, w, r)
    assert s.choose() == 1  # all three would be in time
    s.world.requests["prompt_tokens"][0] = 2000
    assert s.choose() == 1


def at_home(affinity):
    s = cluster(prompt=1000, make=lambda x: aladdin.make(x, aladdin.Settings(affinity=affinity)))
    relaxed(s)
    for r in range(11, 16):
        put_running(s.world, 2, r, generated=150, first_token_s=18.0)
    s.world.workers["prefix_hit_tokens"] = 0, 400, 100
    return s


def test_home_comes_before_the_fullest():
    assert at_home(affinity=0.0).choose() == 2
    assert at_home(affinity=0.3).choose() == 1
    assert at_home(affinity=0.5).choose() == 2


def test_home_must_keep_its_promises():
    s = at_home(affinity=0.3)
    put_running(s.world, 1, 17, generated=66, first_token_s=18.0)  # on its pace to the token
    assert s.choose() == 2


def test_cached_prefixes_make_a_promise_that_could_not_be_kept_otherwise():
    s = cluster(prompt=3000, workers=2)
    relaxed(s)
    put_running(s.world, 1, 10, generated=73, first_token_s=18.0)  # 0.16 s in hand; a prefill of 3,000 takes 0.3 s
    assert s.choose() == 0
    s.world.workers["prefix_hit_tokens"] = 0, 2500
    assert s.choose() == 1


def test_least_broken_comes_last():
    s = cluster(workers=2, prompt=4000, make=lambda x: aladdin.make(x, aladdin.Settings(hold_share=0.0)))
    relaxed(s)
    for r in range(10, 16):
        put_running(s.world, 0, r, generated=66, first_token_s=18.0)
    put_running(s.world, 1, 16, generated=66, first_token_s=18.0)
    assert s.choose() == 1


@pytest.mark.parametrize(("shed", "chosen"), [(0.0, 1), (0.5, REJECT), (2.5, 1)])
def test_sheds_what_would_break_others(shed, chosen):
    s = cluster(workers=2, prompt=4000, make=lambda x: aladdin.make(x, aladdin.Settings(hold_share=0.0, shed=shed)))
    relaxed(s)
    for r in range(10, 16):
        put_running(s.world, 0, r, generated=66, first_token_s=18.0)
    for r in (16, 17, 18):
        put_running(s.world, 1, r, generated=66, first_token_s=18.0)
    assert s.choose() == chosen


def test_shedding_keeps_the_goodput_of_an_overloaded_fleet():
    requests = random_requests(3000, 60.0, seed=5)
    scenario = scenario_of(requests, kind(workers=2))
    goodput = [
        Simulator(scenario, 0).run(make(scenario)).summary["goodput_rps"]
        for make in (aladdin.make, placements.make_aladdin_plus)
    ]
    assert goodput[1] > 2 * goodput[0]


def test_a_worker_without_a_place_comes_last_of_all():
    s = cluster(workers=2, max_num_seqs=2, make=lambda x: aladdin.make(x, aladdin.Settings(hold_share=0.0)))
    relaxed(s)
    for r in (10, 11):
        put_running(s.world, 1, r, generated=150, first_token_s=18.0)
    for r in range(12, 18):
        s.world.requests["arrival_s"][r] = 10.0
    put_running(s.world, 0, 12, generated=20, first_token_s=11.0)
    assert s.choose() == 0


def test_settings_are_checked_and_shown():
    scenario = scenario_of([(0.0, 10, 10)], kind())
    assert aladdin.make(scenario).settings()["theta"] == 0.9
    with pytest.raises(InputError, match="theta"):
        aladdin.Settings(theta=0.0)
    with pytest.raises(InputError, match="hold_share"):
        aladdin.Settings(hold_share=-1.0)
    for name in aladdin.Settings.__dataclass_fields__:
        for bad in ("x", None, float("nan")):
            with pytest.raises(InputError, match=f"aladdin.{name}"):
                aladdin.Settings(**{name: bad})


def test_oracle_predictions_are_used():
    requests = random_requests(150, 20.0, seed=2)
    scenario = scenario_of(requests, kind(workers=3, kv_capacity_tokens=6000), predictor=Predictor("oracle"))
    assert Simulator(scenario, 1).run(aladdin.make(scenario)).summary["finished"] == 150


KINDS = st.sampled_from(["prefill_first", "chunked", "two types", "split"])


@st.composite
def scenarios(draw):
    seed = draw(st.integers(0, 1000))
    requests = random_requests(draw(st.integers(1, 60)), draw(st.sampled_from([5.0, 30.0, 200.0])), seed)
    requests = [(a, min(p, 1500), o, i % 4) for i, (a, p, o) in enumerate(requests)]
    budget = draw(st.sampled_from([64, 512, 4096]))
    sizes = {
        "kv_capacity_tokens": draw(st.sampled_from([1600, 4000, 40_000])),
        "max_num_seqs": draw(st.sampled_from([1, 4, 64])),
        "max_num_batched_tokens": budget,
        "initial": 1,
        "minimum": 1,
    }
    schedule = draw(KINDS)
    if schedule == "split":
        types = [kind(role, 2, scheduler="split", role=role, **sizes) for role in ("prefill", "decode")]
    elif schedule == "two types":
        types = [kind("a", 2, **sizes), kind("b", 2, scheduler="chunked", profile=profile("b", 2.0, 2), **sizes)]
    else:
        types = [kind("a", draw(st.integers(1, 4)), scheduler=schedule, **sizes)]
    classes = (SLOClass("a", 0.3, 0.02), SLOClass("b", 5.0, 0.1), SLOClass("c", 1.0, 0.05), SLOClass("d", 60.0, 1.0))
    failures = Failures(draw(st.sampled_from([0.0, 5.0])), 1.0)
    scenario = scenario_of(
        requests, *types, slo=SLO(classes=classes), max_hold_s=draw(st.sampled_from([0.0, 1.0, 1e4])),
        heartbeat_s=1.0, predictor=Predictor(draw(st.sampled_from(["bucket_mean", "oracle", "noisy_oracle"]))),
    )  # fmt: skip
    return dataclasses.replace(scenario, fleet=dataclasses.replace(scenario.fleet, failures=failures))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios())
def test_no_policy_ever_names_a_worker_that_is_none(scenario):
    for name in NAMES:
        checked = Checked(getattr(placements, f"make_{name}")(scenario), may_hold=name in ("aladdin", "pack_to_cap"))
        found = Simulator(scenario, 1).run(checked).summary
        assert found["unfinished"] == 0


def mixed_lengths(n, rate, seed, share):
    """ShareGPT, and in part the long prompts of Mooncake's conversations (lognormal around 6,600 tokens)."""
    rng = np.random.default_rng(seed)
    long = LognormalMixture((1.0,), (8.8,), (0.9,), minimum=100, maximum=60000)
    prompt, output = LENGTHS["sharegpt"].sample(rng, n)
    arrival = np.cumsum(rng.exponential(1 / rate, n))
    is_long = rng.random(n) < share
    answer = LognormalMixture((1.0,), (5.5,), (0.8,), minimum=4, maximum=2000).sample(rng, n)
    return arrival, np.where(is_long, long.sample(rng, n), prompt), np.where(is_long, answer, output)


def attainment(make, workers, requests, slo, scheduler):
    fleet = Fleet((
        WorkerType("h100", "llama-3.1-8b-h100-tp1", workers, workers, workers, cold_start=ColdStart(1.0),
                   scheduler=scheduler),
    ))  # fmt: skip
    scenario = Scenario("mixed", Workload.from_arrays(*requests), fleet, slo=slo, horizon_s=None)
    return Simulator(scenario, 1).run(make(scenario)).summary["slo_attainment"]


@pytest.mark.parametrize(
    ("rate", "slo", "share", "scheduler", "workers"),
    [
        (40.0, SLO(1.5, 0.025), 0.1, "prefill_first", 5),
        (12.0, SLO(4.0, 0.05), 1.0, "prefill_first", 7),
        (40.0, SLO(1.5, 0.025), 0.1, "chunked", 5),
        (12.0, SLO(4.0, 0.05), 1.0, "chunked", 7),
    ],
)
def test_holds_the_slo_where_the_shortest_queue_does_not(rate, slo, share, scheduler, workers):
    requests = mixed_lengths(2500, rate, 7, share)
    assert attainment(aladdin.make, workers, requests, slo, scheduler) >= 0.99
    assert attainment(placements.make_least_request, workers, requests, slo, scheduler) < 0.99


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
@pytest.mark.parametrize("make", [aladdin.make, placements.make_aladdin_plus])
@pytest.mark.parametrize("outputs", [(2, 4), (4, 12)])
def test_short_answers_keep_their_pace_where_there_are_workers_enough(make, outputs, scheduler):
    """A prompt that stalls others just after their first token breaks the pace of those that end soon."""
    n, rng = 1500, np.random.default_rng(7)
    prompt = LognormalMixture((1.0,), (8.0,), (0.7,), minimum=100, maximum=16_000).sample(rng, n)
    requests = np.cumsum(rng.exponential(1 / 30.0, n)), prompt, rng.integers(*outputs, n)
    assert attainment(make, 48, requests, SLO(1.0, 0.05), scheduler) >= 0.99
    assert attainment(_blind_to_the_new, 48, requests, SLO(1.0, 0.05), scheduler) < 0.99


def _blind_to_the_new(scenario):
    return aladdin.make(scenario, aladdin.Settings(fresh_ahead=8.0))


def test_overhead_is_part_of_the_first_token():
    """A newcomer whose first token would be late by less than the front end's overhead is late."""
    s = cluster(workers=1, make=lambda x: aladdin.make(x, aladdin.Settings(stretch=0.0, hold_share=0.95)))
    s.world.requests["arrival_s"] = 0.0
    s.world.cluster["now_s"] = 1.0 - 0.015 - OVERHEAD / 2
    assert s.choose() == 0  # late in any case: no use in holding it
