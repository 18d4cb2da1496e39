"""Live traffic in the simulator's arrays: what policies compare follows what was sent and what came back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.policy import HOLD, make_policy
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.setup import draw
from aladdin_traces import Workload


def scenario_of(workers: int, prompts: list[int], outputs: list[int]) -> Scenario:
    base = load_scenario("sharegpt-poisson").with_workers((workers,))
    arrival_s = np.arange(len(prompts), dtype=float)
    return replace(base, workload=Workload.from_arrays(arrival_s, prompts, outputs), horizon_s=None)


def live(scenario: Scenario, policy: str = "least_request") -> LiveCluster:
    return LiveCluster(scenario, draw(scenario, np.random.default_rng(0)), make_policy(policy, scenario))


def test_counts_follow_a_request_from_queue_to_end() -> None:
    cluster = live(scenario_of(1, [100, 50], [3, 2]))
    worker = cluster.view.workers[0]
    for r in (0, 1):
        cluster.arrive(r, float(r))
        assert cluster.place(r, float(r)) == 0
    assert (worker["members"], worker["waiting"], worker["running"]) == (2, 2, 0)
    assert worker["waiting_prefill_tokens"] == 150
    cluster.token(0, 2.0)
    assert (worker["waiting"], worker["running"], worker["decoding"]) == (1, 1, 1)
    assert (worker["waiting_prefill_tokens"], worker["context_tokens"]) == (50, 101)
    assert worker["kv_used_blocks"] == -(-100 // worker["block_size"])
    cluster.token(0, 2.1)
    assert worker["context_tokens"] == 102
    cluster.token(1, 2.2)
    cluster.token(1, 2.3)
    cluster.token(0, 2.3)
    assert worker["context_tokens"] == 103 + 52
    cluster.finish(0, 2.3)
    cluster.lose(1, 2.4)
    for name in (
        "members",
        "waiting",
        "running",
        "decoding",
        "context_tokens",
        "kv_used_blocks",
        "member_prompt_tokens",
    ):
        assert worker[name] == 0, name
    assert cluster.view.cluster["in_flight"] == 0
    assert cluster.view.lengths[..., 0].sum() == 2  # one bin and its bucket: only the one that finished


def test_true_lengths_are_not_there_to_read() -> None:
    cluster = live(scenario_of(1, [100], [77]))
    assert not cluster.world.truth["output_tokens"].any()


@pytest.mark.parametrize("policy", ["least_request", "round_robin", "aladdin", "most_headroom", "lmetric"])
def test_policies_spread_requests_over_live_workers(policy: str) -> None:
    cluster = live(scenario_of(2, [200] * 6, [20] * 6), policy)
    slots = []
    for r in range(6):
        cluster.arrive(r, float(r))
        slots.append(cluster.place(r, float(r)))
        if slots[-1] != HOLD:
            cluster.token(r, r + 0.5)
    assert set(slots) <= {0, 1, HOLD}
    assert {0, 1} <= set(slots)
    if policy in ("least_request", "round_robin"):
        assert sorted(slots) == [0, 0, 0, 1, 1, 1]


def test_answers_equal_the_simulators_where_both_see_the_same() -> None:
    """Requests so far apart that each finds an idle fleet: the same choices, request by request."""
    scenario = scenario_of(3, [100, 200, 300, 400], [5, 5, 5, 5])
    scenario = replace(scenario, workload=Workload.from_arrays(np.arange(4) * 50.0, [100, 200, 300, 400], [5, 5, 5, 5]))
    draws = draw(scenario, np.random.default_rng(1))
    for policy in ("least_request", "power_of_two", "random", "round_robin"):
        expected = Simulator(scenario, draws=draws).run(policy).requests["worker"].tolist()
        cluster = LiveCluster(scenario, draws, make_policy(policy, scenario))
        got = []
        for r in range(4):
            cluster.arrive(r, r * 50.0)
            got.append(cluster.place(r, r * 50.0))
            cluster.token(r, r * 50.0 + 1, count=5)
            cluster.finish(r, r * 50.0 + 2)
        assert got == expected, policy
