"""Each of Aladdin's constraints against plain Python, over the states that simulations run through."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aladdin_agents import aladdin
from aladdin_agents import constraints as c
from aladdin_agents import predictions as p
from aladdin_agents.baselines import least_request
from aladdin_agents.expectations import TABLE, expected_output, renew_table
from aladdin_agents.harm import broken_promises, chance_of_a_miss
from aladdin_agents.kv_peak import kv_peak, sort_by_rest
from aladdin_agents.placements import make_aladdin_plus
from aladdin_env.latency import load_profile
from aladdin_env.scenario import SLO, SLOClass
from aladdin_env.simulator.predictor import expected_length, observe_length
from aladdin_env.simulator.run import Simulator, simulate
from aladdin_env.simulator.state import LENGTH_BINS

from . import plain
from .worlds import (
    C1,
    C2,
    C3,
    K1,
    K2,
    OVERHEAD,
    Watcher,
    kind,
    put_running,
    put_waiting,
    random_requests,
    scenario_of,
    state,
)  # fmt: skip

CLASSES = SLO(classes=(SLOClass("fast", 0.5, 0.02), SLOClass("slow", 3.0, 0.06)))
SIZES = {"kv_capacity_tokens": 12_000, "max_num_seqs": 48, "max_num_batched_tokens": 2048}


def watch(scheduler, check, n=250, rate=22.0, roles=("mixed",)):
    """Run a simulation and let ``check`` see every candidate of every decision."""
    requests = [(*r, i % 2) for i, r in enumerate(random_requests(n, rate, seed=11))]
    types = [kind(role, 2, scheduler=scheduler, role=role, **SIZES) for role in roles]
    watcher = Watcher(check)
    Simulator(scenario_of(requests, *types, slo=CLASSES), 3).run(watcher)
    assert watcher.seen >= 2 * n


def world(view):
    return view._world


def near(found, wanted, tolerance=1e-9):
    if math.isinf(wanted):
        assert found == wanted
    else:
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance)


def first_token(view, r, w):
    x = world(view)
    return p.first_token_after(x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, w, r)


def test_cached_prefixes_are_not_prefilled():
    """A prompt of 1000 tokens, 600 of them cached; then a queue of which half is usually cached."""
    scenario = scenario_of([(0.0, 1000, 10)] * 3, kind(workers=1))
    x = state(scenario, lambda _: least_request).world

    def seconds():
        return p.first_token_after(x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, 0, 0)[0]

    assert seconds() == pytest.approx(1000 * K1 + C1)
    x.workers["prefix_hit_tokens"] = 600
    assert seconds() == pytest.approx(400 * K1 + C1)
    x.workers["prefix_hit_tokens"] = 0
    x.cluster["prefix_asked_tokens"], x.cluster["prefix_hit_tokens"] = 800, 400
    put_waiting(x, 0, 1)
    assert seconds() == pytest.approx(1500 * K1 + C1)
    decode_s = float(p.steady_pace(x.workers, x.requests, x.cluster, x.types, x.laws, 0, 0))
    x.cluster["prefix_hit_tokens"] = 0
    assert decode_s < float(p.steady_pace(x.workers, x.requests, x.cluster, x.types, x.laws, 0, 0))


def test_first_token_in_whole_prompts():
    seen = []

    def check(view, request, w):
        seconds, spare = first_token(view, request.index, w)
        wanted, groups = plain.whole_prompts(view, request, w)
        near(seconds, wanted)
        last = [view.requests[i] for i in groups[-1] if i >= 0]
        due = [float(q["arrival_s"] + view.slo[int(q["klass"]), 0]) for q in last if math.isnan(q["first_token_s"])]
        done = view.now_s + seconds + OVERHEAD
        in_time = [d for d in due if d >= done]
        if spare < 0:  # somebody becomes late through the newcomer
            assert any(d < done for d in due)
            seen.append("late")
        elif in_time:
            near(spare, min(in_time) - done)
            seen.append("spare")

    watch("prefill_first", check, rate=45.0)
    assert set(seen) == {"late", "spare"}


def test_first_token_through_chunks():
    def check(view, request, w):
        seconds, _ = first_token(view, request.index, w)
        worker = view.workers[w]
        law = plain.law(view, w)
        room = 2048 - int(worker["decoding"])
        left = int(worker["waiting_prefill_tokens"]) + request.prompt_tokens
        wanted = plain.rest(view, w)
        while left > 0:
            tokens = min(left, room)
            if worker["decoding"] > 0:
                wanted += law.mixed_s(tokens, int(worker["decoding"]), float(worker["context_tokens"]))
            else:
                wanted += law.prefill_s(tokens)
            left -= tokens
        near(seconds, wanted)

    watch("chunked", check)


def test_first_token_of_a_very_long_queue_is_close():
    scenario = scenario_of([(0.0, 100, 10)] * 301, kind(workers=1, max_num_batched_tokens=2048))
    s = state(scenario, lambda _: least_request)
    for r in range(1, 301):
        put_waiting(s.world, 0, r)
    x = s.world
    seconds, spare = p.first_token_after(x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, 0, 0)
    wanted = 15 * (K1 * 2000 + C1) + K1 * 100 + C1
    assert seconds == pytest.approx(wanted, rel=0.1)
    assert spare == np.inf


def test_ttft_spare_is_what_is_left_of_it():
    def check(view, request, w):
        x = world(view)
        found = c.ttft_spare(x.requests, x.cluster, x.laws, x.slo, 0, request.index, 0.25)
        near(found, request.arrival_s + view.slo[request.klass, 0] - view.now_s - 0.25 - OVERHEAD)

    watch("prefill_first", check, n=40)


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
def test_pace_is_the_decode_step_and_the_share_of_prefills(scheduler):
    def check(view, request, w):
        x = world(view)
        worker, cluster = view.workers[w], view.cluster
        members = plain.members(view, w)
        records = [view.requests[i] for i in members]
        batch = len(members) + 1
        prompts = sum(int(q["prompt_tokens"]) for q in records)
        context = int(worker["context_tokens"]) + int(worker["waiting_prefill_tokens"])
        now = max(context, prompts) + request.prompt_tokens
        predicted = sum(float(q["predicted_tokens"]) for q in records)
        final = max(prompts + predicted + request.prompt_tokens + request.predicted_tokens, now)
        n = int(cluster["finished"]) + 50
        s = (float(cluster["finished_prompt_tokens"]) + 50 * request.prompt_tokens) / n
        m = max(1.0, (float(cluster["finished_output_tokens"]) + 50 * request.predicted_tokens) / n - 1)
        law = plain.law(view, w)
        prefill = law.prefill_s(s) - (law.mixed_overlap_s if scheduler == "chunked" else 0.0)
        tau = law.decode_s(batch, (now + final) / 2) + batch * max(0.0, prefill) / m
        klasses = {request.klass} | {int(view.requests[i]["klass"]) for i in members if view.requests[i]["decoding"]}
        strictest = min(float(view.slo[k, 1]) for k in klasses)
        found = c.pace_load(
            x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, w, request.index, 0.8
        )  # fmt: skip
        near(found, tau / (0.8 * strictest), 1e-6)

    watch(scheduler, check)


def test_pace_of_one_request_by_hand():
    scenario = scenario_of([(0.0, 1000, 101)], kind(workers=1))
    s = state(scenario, lambda _: least_request, 101.0)
    x = s.world
    found = c.pace_load(x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, 0, 0, 1.0)
    assert found == pytest.approx((K2 * 1050.5 + C2 + C3 + (K1 * 1000 + C1) / 100) / 0.03)


@pytest.mark.parametrize("ahead", [1, 3])
def test_promise_where_prefill_goes_first(ahead):
    seen = []

    def check(view, request, w):
        x = world(view)
        seconds, _ = first_token(view, request.index, w)
        stall = seconds - plain.rest(view, w)
        wanted = plain.promise(view, request, w, stall, 0, ahead)
        args = (x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, w, request.index, seconds, float(ahead))
        near(c.promise_spare(*args, 0.0), wanted)
        seen.append(wanted < 0)
        fresh = c.promise_spare(*args, 5.0)
        worker = view.workers[w]
        if worker["running"] > worker["decoding"]:
            klasses = {int(view.requests[i]["klass"]) for i in view.running(w) if view.requests[i]["decoding"]}
            strictest = min(float(view.slo[k, 1]) for k in klasses | {request.klass})
            near(fresh, min(wanted, 5 * (strictest - plain.step_after(view, request, w)) - stall))
        else:
            near(fresh, wanted)

    watch("prefill_first", check)
    assert set(seen) == {True, False}


@pytest.mark.parametrize("ahead", [1, 2, 6])
def test_promise_through_chunks(ahead):
    def check(view, request, w):
        x = world(view)
        worker = view.workers[w]
        seconds, _ = first_token(view, request.index, w)
        room = 2048 - int(worker["decoding"])
        tokens = int(worker["waiting_prefill_tokens"]) + request.prompt_tokens
        steps = -(-tokens // room)
        wanted = plain.promise(view, request, w, seconds - plain.rest(view, w), steps, ahead)
        if steps > ahead and worker["decoding"] > 0:
            full = plain.law(view, w).mixed_s(room, int(worker["decoding"]), float(worker["context_tokens"]))
            wanted = min(wanted, plain.promise(view, request, w, ahead * full, ahead, ahead))
        args = (x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, w, request.index, seconds)
        near(c.promise_spare(*args, float(ahead), 0.0), wanted)

    watch("chunked", check)


@pytest.mark.parametrize("fresh", [1, 5])
def test_promise_to_the_new_through_chunks(fresh):
    """At 1: whoever ends with the very step in which the newcomer is prefilled is in time."""
    seen = []

    def check(view, request, w):
        x = world(view)
        worker = view.workers[w]
        seconds, _ = first_token(view, request.index, w)
        args = (x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, w, request.index, seconds, 1.0)
        running = c.promise_spare(*args, 0.0)
        if worker["running"] == worker["decoding"]:
            near(c.promise_spare(*args, float(fresh)), running)
            return
        klasses = {int(view.requests[i]["klass"]) for i in view.running(w) if view.requests[i]["decoding"]}
        strictest = min(float(view.slo[k, 1]) for k in klasses | {request.klass})
        stall = seconds - plain.rest(view, w)
        step = plain.step_after(view, request, w)
        if fresh == 1:
            law, decoding = plain.law(view, w), int(worker["decoding"])
            counted = law.decode_s(decoding, int(worker["context_tokens"])) if decoding else law.mixed_overlap_s
            step = max(0.0, step - counted)
        wanted = fresh * (strictest - step) - stall
        near(c.promise_spare(*args, float(fresh)), min(running, wanted))
        seen.append(wanted < 0)

    watch("chunked", check)
    assert set(seen) == {True, False}


def test_the_new_count_in_the_step_that_prefills_another():
    """30 requests get their first token in one step, and their second and last in the one that a prompt of 500 joins.

    That step is longer than the prompt's prefill alone: who places the prompt there breaks 30 promises.
    """
    profile = load_profile("llama-2-13b-a100-tp1")
    prefill_s, step_s = profile.prefill_s(500), profile.mixed_s(500, 30, 30 * 31)
    assert prefill_s < step_s - 0.004
    pace_s = 0.5 * (prefill_s + step_s)
    workers = kind(workers=2, scheduler="chunked", profile=profile)
    requests = [(0.0, 30, 2)] * 30 + [(0.005, 500, 2)]
    scenario = scenario_of(requests, workers, slo=SLO(10.0, pace_s))
    for make in (aladdin.make, make_aladdin_plus):
        assert simulate(scenario, make(scenario), 0).summary["slo_attainment"] == 1.0


def test_promise_on_a_decode_worker_has_no_stall():
    def check(view, request, w):
        x = world(view)
        if view.workers[w]["role"] != 2 or view.workers[w]["inbound"] > 0:
            return
        seconds, _ = first_token(view, request.index, w)
        near(seconds, plain.rest(view, w))
        args = (x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, w, request.index, seconds)
        wanted = plain.promise(view, request, w, 0.0, 0, 1)
        found = c.promise_spare(*args, 1.0, 0.0)
        assert found == pytest.approx(wanted, abs=2e-4)  # sums stand for the contexts of requests that wait

    watch("split", check, roles=("prefill", "decode"))


def test_promise_by_hand():
    """One request with 10 tokens in 0.15 s (ATGT 0.03): 9 gaps allow 0.27 s, the next token makes it 10 gaps."""
    scenario = scenario_of([(0.0, 1000, 101), (0.0, 100, 101)], kind(workers=1))
    s = state(scenario, lambda _: least_request)
    put_running(s.world, 0, 1, generated=10, first_token_s=1.0 + OVERHEAD)
    s.world.cluster["now_s"] = 1.15
    x = s.world
    stall = K1 * 1000 + C1
    step = K2 * (110 + 1000) + 2 * C2 + C3
    found = c.promise_spare(x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, 0, 0, stall, 1.0, 0.0)
    assert found == pytest.approx(10 * 0.03 - (0.15 + stall + step))


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
def test_kv_peak_is_that_of_growing_token_by_token_and_below_its_bound(scheduler):
    memory = np.zeros(TABLE + 2 * 128)
    seen = []

    def check(view, request, w):
        x = world(view)
        rest = renew_table(x.lengths, memory, 0)
        found = kv_peak(x.workers, x.requests, x.laws, memory, 0, TABLE, 128, w, request.index)
        near(found, plain.kv_peak(view, request, w), 1e-6)
        longest = max(rest, 256.0, request.predicted_tokens)
        bound = c.kv_bound(x.workers, x.requests, x.laws, w, request.index, longest)
        seen.append(bound / found)

    watch(scheduler, check, rate=35.0)
    assert np.mean(np.array(seen) >= 0.999) > 0.995  # all but those that outlived whatever was seen
    assert np.median(seen) < 2.5


def test_kv_peak_of_too_many_is_infinite():
    scenario = scenario_of([(0.0, 10, 10)] * 5, kind(workers=1))
    s = state(scenario, lambda _: least_request)
    for r in range(1, 5):
        put_waiting(s.world, 0, r)
    x = s.world
    assert kv_peak(x.workers, x.requests, x.laws, np.zeros(TABLE + 8), 0, TABLE, 4, 0, 0) > 1e200


def test_kv_room_shrinks_where_outputs_run_long():
    scenario = scenario_of([(0.0, 10, 10)], kind(workers=2))
    s = state(scenario, lambda _: least_request)
    s.world.workers["prediction_error_tokens"] = -300.0, 500.0
    assert c.kv_room(s.world.workers, 0, 0.9, 1.0) == pytest.approx(0.9 * 40_000 - 300)
    assert c.kv_room(s.world.workers, 1, 0.9, 1.0) == pytest.approx(0.9 * 40_000)
    assert c.kv_room(s.world.workers, 0, 0.9, 0.5) == pytest.approx(0.9 * 40_000 - 150)
    assert c.kv_room(s.world.workers, 0, 0.9, 0.0) == pytest.approx(0.9 * 40_000)


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 500)), min_size=1, max_size=60))
def test_sorted_prefixes_give_the_peak(pairs):
    """The closed form of the docstring against the definition."""
    n = len(pairs)
    memory = np.zeros(2 * n)
    memory[:n] = [rest for _, rest in pairs]
    memory[n:] = [size for size, _ in pairs]
    sort_by_rest(memory, 0, n, n)
    assert sorted(zip(memory[:n], memory[n:], strict=True)) == sorted((float(r), float(s)) for s, r in pairs)
    assert (np.diff(memory[:n]) <= 0).all()
    found = max(memory[n : n + k + 1].sum() + (k + 1) * memory[k] for k in range(n))
    assert found == plain.peak_of([s for s, _ in pairs], [r for _, r in pairs])


def test_longest_expected_rest_of_a_table():
    lengths, memory = np.zeros((16, LENGTH_BINS + 1, 2)), np.zeros(TABLE)
    assert renew_table(lengths, memory, 0) == 0.0
    lengths[3, 32] = 4, 4 * 300.0  # bin 32 is 256 to 304 tokens
    assert renew_table(lengths, memory, 0) == pytest.approx(300.0)
    lengths[3, 8] = 96, 96 * 4.0  # bin 8 is 4 tokens: who has outlived those is expected at 300
    assert renew_table(lengths, memory, 0) == pytest.approx(300.0 - 4.0)


@given(st.lists(st.tuples(st.integers(1, 30_000), st.integers(1, 5000)), max_size=50), st.integers(1, 30_000))
def test_table_says_what_the_predictor_says(seen, prompt):
    lengths, memory = np.zeros((16, LENGTH_BINS + 1, 2)), np.zeros(3 + TABLE)
    for pair in seen:
        observe_length(lengths, *pair)
    renew_table(lengths, memory, 3)
    for predicted in (1.0, 50.5):
        for generated in (0, 1, 2, 7, 50, 51, 300, 2000, 9000):
            wanted = expected_length(lengths, prompt, predicted, generated)
            assert expected_output(memory, 3, prompt, predicted, generated) == pytest.approx(wanted)


@given(st.floats(-1, 10), st.floats(-1, 1), st.floats(1, 1000))
def test_chance_of_a_miss_is_a_chance(late, gain, rest):
    assert 0.0 <= chance_of_a_miss(late, gain, rest) <= 1.0
    if late <= 0:
        assert chance_of_a_miss(late, gain, rest) == 0.0


def test_broken_promises_count_the_delayed():
    """A long prefill breaks what a short one does not, and more with more requests in the batch."""
    scenario = scenario_of([(0.0, 4000, 100), (0.0, 10, 100)] + [(0.0, 50, 100)] * 6, kind(workers=3))
    s = state(scenario, lambda _: least_request)
    s.world.cluster["now_s"] = 1.0
    s.world.requests["arrival_s"] = 1.0
    put_running(s.world, 1, 2, generated=1, first_token_s=1.0)
    for r in range(3, 8):
        put_running(s.world, 2, r, generated=1, first_token_s=1.0)
    x = s.world

    def broken(w, r, limit=np.inf):
        return broken_promises(
            x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, np.zeros(TABLE), 0, w, r, limit
        )

    assert broken(0, 0) == 0.0
    assert 0.0 < broken(1, 0) < broken(2, 0)
    assert broken(1, 0) <= broken(2, 0, limit=broken(1, 0)) < broken(2, 0)
    assert broken(2, 1) == 0.0
    s.world.requests["arrival_s"][0] = 0.0
    assert broken(0, 0) > 1.0  # its own first token is late
