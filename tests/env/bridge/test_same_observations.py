"""The same events through the simulator and through a live cluster: the same observations, number for number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.policy import make_policy
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.setup import draw
from aladdin_env.simulator.state import READY
from aladdin_traces import Workload

from .simulated_events import observed, simulated


def scenario() -> Scenario:
    """Requests that begin to decode before the next one comes, and decode beside many others."""
    rng = np.random.default_rng(3)
    n = 30
    arrival_s = np.cumsum(rng.uniform(0.15, 0.4, n))
    base = load_scenario("sharegpt-poisson").with_workers((3,))
    kind = base.fleet.types[0]
    at_once = replace(kind.latency, overhead_s=0.0)  # tokens are at the client when they are made
    base = replace(base, fleet=replace(base.fleet, types=(replace(kind, profile=at_once),)))
    workload = Workload.from_arrays(arrival_s, rng.integers(50, 600, n), rng.integers(20, 250, n))
    return replace(base, workload=workload, horizon_s=None, heartbeat_s=2.0)


@pytest.mark.parametrize("policy", ["least_request", "aladdin", "power_of_two"])
def test_the_same_events_give_the_same_observations(policy):
    chosen = scenario()
    events = simulated(chosen, policy)
    trace = chosen.workload.trace
    cluster = LiveCluster.open(chosen, make_policy(policy, chosen), 64)
    for slot in range(3):
        cluster.set_worker(slot, READY, 0.0)
    coins = draw(chosen, np.random.default_rng(0)).coins
    rows: dict[int, int] = {}
    decisions = 0
    for now_s, _, kind, r, what in events:
        if kind == "beat":
            cluster.heartbeat(now_s)
        elif kind == "token":
            cluster.token(rows[r], now_s)
        elif kind == "finish":
            cluster.finish(rows[r], now_s)
            cluster.forget(rows.pop(r))
        else:
            rows[r] = cluster.enter(int(trace.prompt_tokens[r]), 0, float(coins[r]), now_s)
            slot, expected = what
            found = observed(cluster.world, chosen, rows[r])
            for name, array in expected.items():
                np.testing.assert_allclose(found[name], array, rtol=2e-5, atol=2e-5, err_msg=f"{name}, request {r}")
            assert cluster.place(rows[r], now_s) == slot
            decisions += 1
    assert decisions == 30
    assert cluster.view.cluster["finished"] == 30 and cluster.view.cluster["in_flight"] == 0
