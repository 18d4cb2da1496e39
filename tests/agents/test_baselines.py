"""Every baseline's choice on small states, and what all of them owe a simulation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from aladdin_agents import placements
from aladdin_agents.tunable import type_weights
from aladdin_env.policy import HOLD, Combined
from aladdin_env.scenario import Failures
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.state import PREFILLED
from aladdin_env.view import ClusterView, RequestView

from .worlds import kind, profile, put_counts, random_requests, scenario_of, state

NAMES = ("random", "round_robin", "least_request", "power_of_two", "least_tokens", "least_kv", "prefix_affinity",
         "lmetric", "least_headroom", "most_headroom", "pack_to_cap", "aladdin", "aladdin_literal")  # fmt: skip


def made(name):
    return getattr(placements, f"make_{name}")


def idle(name, workers=3, n=40, **changes):
    requests = [(float(i), 100, 50) for i in range(n)]
    return state(scenario_of(requests, kind(workers=workers, **changes)), made(name))


def test_least_request_counts_running_waiting_and_inbound():
    s = idle("least_request")
    put_counts(s.world, running=(3, 0, 1), waiting=(0, 4, 0), inbound=(0, 0, 1))
    assert s.choose() == 2


@pytest.mark.parametrize("name", ["least_request", "least_tokens", "least_kv", "lmetric", "pack_to_cap", "aladdin"])
def test_ties_go_to_the_lowest_slot(name):
    assert idle(name).choose() == 0


@pytest.mark.parametrize("name", NAMES)
def test_only_workers_that_accept_are_chosen(name):
    s = idle(name, workers=4)
    s.world.workers["accepts"][:] = 0, 0, 1, 0
    assert {s.choose(r) for r in range(10)} == {2}


@pytest.mark.parametrize("name", [n for n in NAMES if n != "aladdin"])
def test_no_candidate_is_a_hold(name):
    s = idle(name)
    s.world.workers["accepts"] = 0
    assert s.choose() == HOLD


def test_least_request_weighs_types_by_speed():
    slow, fast = kind("slow", 1), kind("fast", 1, profile=profile("fast", speed=4.0))
    scenario = scenario_of([(0.0, 100, 50)], slow, fast)
    np.testing.assert_allclose(type_weights(scenario), [4.0, 1.0])
    s = state(scenario, made("least_request"))
    assert s.choose() == 1
    put_counts(s.world, (0, 4))
    assert s.choose() == 0


def test_weights_compare_types_of_one_role_only():
    prefill = kind("p", 1, scheduler="split", role="prefill", profile=profile("fast", speed=4.0))
    decode = kind("d", 1, scheduler="split", role="decode")
    np.testing.assert_allclose(type_weights(scenario_of([(0.0, 100, 50)], prefill, decode)), [1.0, 1.0])


def test_least_tokens_takes_off_what_is_done():
    s = idle("least_tokens", workers=2)
    s.world.workers["member_prompt_tokens"] = 1000, 500
    s.world.workers["member_predicted_tokens"] = 400, 300
    assert s.choose() == 1
    s.world.workers["context_tokens"] = 1350, 0
    assert s.choose() == 0


def test_least_tokens_does_not_fall_for_outlived_predictions():
    s = idle("least_tokens", workers=2)
    put_counts(s.world, (5, 1))
    s.world.workers["member_prompt_tokens"] = 500, 100
    s.world.workers["context_tokens"] = 5000, 100
    assert s.choose() == 1


def test_least_kv_counts_waiting_prompts():
    s = idle("least_kv", workers=2)
    s.world.workers["kv_used_blocks"] = 100, 90
    assert s.choose() == 1
    s.world.workers["waiting_prefill_tokens"] = 0, 16 * 11
    assert s.choose() == 0


def test_lmetric_multiplies_prefill_tokens_and_batch():
    s = idle("lmetric", workers=2)
    put_counts(s.world, (9, 1))
    s.world.workers["waiting_prefill_tokens"] = 0, 300
    assert s.choose() == 1  # 100 * 10 against 400 * 2
    s.world.workers["waiting_prefill_tokens"] = 0, 500
    assert s.choose() == 0  # against 600 * 2


def test_lmetric_counts_only_what_is_not_cached():
    s = idle("lmetric")
    s.world.workers["waiting_prefill_tokens"] = 50, 80, 200
    s.world.workers["prefix_hit_tokens"] = 0, 60, 99
    assert s.choose() == 1


def test_prefix_affinity_goes_where_the_prompt_is_cached():
    s = idle("prefix_affinity", workers=4)  # prompts of 100 tokens; 0.3 of one makes a home
    s.world.workers["waiting_prefill_tokens"] = 0, 700, 500, 100
    s.world.workers["prefix_hit_tokens"] = 29, 96, 32, 29
    assert s.choose() == 2  # of the two homes the one with fewer tokens
    s.world.workers["prefix_hit_tokens"] = 29, 0, 16, 29
    assert s.choose() == 0  # no home: fewest tokens


def test_prefix_affinity_gives_way_to_balance():
    s = idle("prefix_affinity")
    s.world.workers["prefix_hit_tokens"] = 0, 96, 0
    put_counts(s.world, running=(10, 74, 0))
    assert s.choose() == 2  # 74 requests more than the idlest, and more than 1.5 times as many
    put_counts(s.world, running=(60, 74, 50))
    assert s.choose() == 1


def test_round_robin_goes_round_by_stage():
    s = idle("round_robin", workers=3)
    assert [s.choose(r) for r in range(4)] == [0, 1, 2, 0]
    s.world.requests["stage"][9] = PREFILLED
    s.world.workers["accepts"] = 3
    assert s.choose(9) == 0
    assert s.choose(5) == 1


def test_random_is_even_and_power_of_two_never_takes_the_fullest():
    n, workers = 4000, 5
    s = idle("random", workers, n)
    counts = np.array(list(Counter(s.choose(r) for r in range(n)).values()))
    assert counts.min() > 0.85 * n / workers
    s = idle("power_of_two", workers, n)
    put_counts(s.world, range(workers))
    counts = Counter(s.choose(r) for r in range(n))
    assert counts[workers - 1] == 0
    np.testing.assert_allclose([counts[w] / n for w in range(4)], [0.4, 0.3, 0.2, 0.1], atol=0.03)


def test_power_of_two_with_one_candidate():
    assert idle("power_of_two", workers=1).choose() == 0


def fleets():
    mixed = {"kv_capacity_tokens": 6000, "max_num_seqs": 24, "max_num_batched_tokens": 2048}
    split = {**mixed, "scheduler": "split"}
    return {
        "prefill_first": (kind(workers=3, **mixed),),
        "chunked": (kind(workers=3, scheduler="chunked", **mixed),),
        "two types": (
            kind("slow", 2, **mixed),
            kind("fast", 1, scheduler="chunked", profile=profile("fast", 3.0, 2), **mixed),
        ),
        "split": (kind("p", 2, role="prefill", **split), kind("d", 2, role="decode", **split)),
    }


class Checked:
    """A compiled placement, asked from Python: whatever it answers must be allowed."""

    def __init__(self, kernel, may_hold):
        self.name, self.kernel, self.may_hold, self.asked = kernel.name, kernel, may_hold, 0

    def place(self, view: ClusterView, request: RequestView) -> int:
        answer = self.kernel.place(view, request)
        self.asked += 1
        if answer == HOLD:
            assert self.may_hold
        else:
            assert answer in view.candidates(request)
        return answer


@pytest.mark.parametrize("fleet", fleets())
@pytest.mark.parametrize("name", NAMES)
def test_all_requests_end_and_runs_repeat(name, fleet):
    scenario = scenario_of(random_requests(250, 25.0, seed=3), *fleets()[fleet], max_hold_s=1e6, max_retries=1000)
    scenario = replace(scenario, fleet=replace(scenario.fleet, failures=Failures(mtbf_s=40.0, repair_s=2.0)))
    runs = [Simulator(scenario, 5).run(made(name)(scenario)) for _ in range(2)]
    assert runs[0].summary["finished"] == 250
    assert runs[0].requests.equals(runs[1].requests)


@pytest.mark.parametrize("name", ["random", "power_of_two"])
def test_another_seed_gives_another_run(name):
    scenario = scenario_of(random_requests(200, 25.0, seed=3), *fleets()["prefill_first"])
    workers = [Simulator(scenario, seed).run(made(name)(scenario)).requests["worker"] for seed in (1, 2)]
    assert not workers[0].equals(workers[1])


@pytest.mark.parametrize("name", NAMES)
def test_every_placement_says_what_it_runs_with(name):
    scenario = scenario_of([(0.0, 10, 10)], kind())
    settings = made(name)(scenario).settings()
    assert settings["policy"] == name
    assert all(isinstance(value, float | int | str) for value in settings.values())
    assert Combined(made(name)(scenario)).kernel is not None
