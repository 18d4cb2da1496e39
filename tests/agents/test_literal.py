"""The literal placement against plain Python, and where it differs from the one that is built on it."""

from __future__ import annotations

import numpy as np
import pytest

from aladdin_agents import aladdin, literal
from aladdin_agents.expectations import TABLE, renew_table
from aladdin_agents.predictions import first_token_after
from aladdin_env.policy import HOLD
from aladdin_env.scenario import Predictor
from aladdin_env.simulator.run import Simulator

from . import plain
from .test_constraints import CLASSES, SIZES, near, watch
from .worlds import C2, C3, K2, OVERHEAD, kind, put_running, put_waiting, random_requests, scenario_of, state

THETA, GAMMA = 0.9, 0.95


def stall_of(view, request, w):
    """Seconds until the first token of ``request`` and its TTFT spare, seconds of stall, and its steps."""
    x = view._world
    first_s, queue_spare_s = first_token_after(
        x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, w, request.index
    )
    limits = view.types[int(view.workers[w]["type_index"])]
    steps = 0
    if limits["scheduler"] == 1:
        room = int(limits["max_num_batched_tokens"]) - int(view.workers[w]["decoding"])
        steps = -(-(int(view.workers[w]["waiting_prefill_tokens"]) + request.prompt_tokens) // room)
    return first_s, queue_spare_s, first_s - plain.rest(view, w), steps


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
def test_promise_over_the_expected_remainder(scheduler):
    memory, seen = np.zeros(TABLE), []

    def check(view, request, w):
        x = view._world
        renew_table(x.lengths, memory, 0)
        first_s, _, stall, steps = stall_of(view, request, w)
        wanted = plain.literal_promise(view, request, w, stall, steps)
        found = literal.promise_load(
            x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, memory, 0, w, request.index, first_s
        )
        near(found, wanted, 1e-6)
        seen.append(wanted > 1)

    watch(scheduler, check, rate=30.0)
    assert set(seen) == {True, False}


def test_promise_on_workers_of_one_role():
    memory = np.zeros(TABLE)

    def check(view, request, w):
        x = view._world
        renew_table(x.lengths, memory, 0)
        args = (x.workers, x.requests, x.cluster, x.types, x.laws, x.slo, memory, 0, w, request.index)
        if view.workers[w]["role"] == 1:
            assert literal.promise_load(*args, 0.5) == 0.0
        elif view.workers[w]["inbound"] == 0:
            wanted = plain.literal_promise(view, request, w, 0.0, 0)
            assert literal.promise_load(*args, 0.5) == pytest.approx(wanted, rel=2e-3)  # sums stand for contexts

    watch("split", check, roles=("prefill", "decode"))


class Beside:
    """The literal placement, each of its choices beside that of plain Python."""

    name = "beside"

    def __init__(self, kernel):
        self.kernel, self.seen = kernel, []

    def place(self, view, request):
        found = self.kernel.place(view, request)
        excess, fill = {}, {}
        for w in view.candidates(request).tolist():
            pace, kv, places = plain.literal_loads(view, request, w, THETA, GAMMA)
            first_s, queue_spare_s, stall, steps = stall_of(view, request, w)
            ttft_s = float(view.slo[request.klass, 0])
            own_spare_s = request.arrival_s + ttft_s - view.now_s - first_s - OVERHEAD
            worker = view.workers[w]
            error = float(worker["prediction_error_tokens"])
            room = GAMMA * float(worker["kv_blocks"]) * float(worker["block_size"]) - max(0.0, -error)
            excess[w] = max(
                pace - 1,
                places - 1,
                -min(own_spare_s, queue_spare_s) / ttft_s,
                plain.literal_promise(view, request, w, stall, steps) - 1,
                plain.kv_peak(view, request, w) / room - 1 if places <= 1 else 0,
            )
            fill[w] = (max(pace, kv, places), pace**2 + kv**2 + places**2, error)
        feasible = [w for w in excess if excess[w] <= 0]
        if feasible:
            wanted = max(feasible, key=lambda w: (*fill[w], -w))
            assert found == wanted or fill[found] == pytest.approx(fill[wanted], rel=1e-6)
        else:
            wanted = min(excess, key=lambda w: (excess[w], w))
            assert found == wanted or excess[found] == pytest.approx(excess[wanted], rel=1e-6)
        self.seen.append(bool(feasible))
        return found


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked"])
def test_choice_is_that_of_the_formulas(scheduler):
    """With an oracle nobody outlives a prediction, so that the kernel's table, which may lag, says nothing."""
    requests = [(*r, i % 2) for i, r in enumerate(random_requests(400, 45.0, seed=5))]
    types = kind(workers=3, scheduler=scheduler, **SIZES)
    scenario = scenario_of(requests, types, slo=CLASSES, predictor=Predictor("oracle"))
    beside = Beside(literal.make(scenario, THETA, GAMMA))
    Simulator(scenario, 2).run(beside)
    assert set(beside.seen) == {True, False}


def cluster(make=literal.make, workers=2, prompt=3000, requests=20, **changes):
    """A cluster at 20 s, in which the newcomers arrive now."""
    s = state(scenario_of([(0.0, prompt, 200)] * requests, kind(workers=workers, **changes)), make)
    s.world.cluster["now_s"], s.world.requests["arrival_s"] = 20.0, 20.0
    return s


def test_it_trusts_the_remainder_where_the_guard_does_not():
    """A request on its pace to the token has 34 predicted tokens left, and time to make up for a stall of 0.1 s."""
    for make, wanted in ((literal.make, 1), (aladdin.make, 0)):
        s = cluster(make, prompt=1000)
        put_running(s.world, 1, 10, generated=66, first_token_s=18.0)
        s.world.requests["predicted_tokens"][10] = 100.0
        assert s.choose() == wanted
    s = cluster(prompt=1000)
    put_running(s.world, 1, 10, generated=66, first_token_s=18.0)
    s.world.requests["predicted_tokens"][10] = 68.0  # two tokens make up for nothing
    assert s.choose() == 0


def test_it_never_holds_and_takes_the_least_violation():
    s = cluster(prompt=3000)
    put_running(s.world, 0, 10, generated=66, first_token_s=18.0)
    put_running(s.world, 1, 11, generated=66, first_token_s=18.4)
    s.world.requests["predicted_tokens"][10:12] = 68.0
    assert s.choose() == 1
    s.world.requests["arrival_s"] = 10.0  # and late by 9 s on either
    put_waiting(s.world, 1, 12)
    assert s.choose() == 0


def test_it_holds_only_where_nobody_may_take_the_request():
    s = cluster()
    s.world.workers["accepts"] = 0
    assert s.choose() == HOLD


def test_pace_knows_no_prefills():
    x = cluster(workers=1, prompt=1000).world
    args = x.workers, x.requests, x.laws, x.slo, 0, 0
    alone = literal.pace_of_decodes(*args, 1.0)
    assert alone == pytest.approx((K2 * 1050 + C2 + C3) / 0.03)
    assert literal.pace_of_decodes(*args, 0.5) == pytest.approx(2 * alone)
