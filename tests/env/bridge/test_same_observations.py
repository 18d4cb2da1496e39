"""The same events through the simulator and through a live cluster: the same observations, number for number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.observation import blank, encode
from aladdin_env.policy import make_policy
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.core import ASK, DONE, TIME, advance, sync_all
from aladdin_env.simulator.setup import Room, draw, load, one, shape_of, write_static
from aladdin_env.simulator.state import FINISHED, READY, RUNNING, allocate
from aladdin_env.view import ClusterView, RequestView
from aladdin_traces import Workload

TICK_S = 0.0005  # shorter than any step: at most one ends within it


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


def observed(world, scenario: Scenario, r: int) -> dict[str, np.ndarray]:
    seen = blank(scenario.fleet.slots, len(scenario.fleet.types))
    encode(
        world.workers, world.requests, world.cluster, world.types, world.laws, world.slo, world.history, r, False,
        float("inf"), seen["workers"], seen["request"], seen["cluster"],
    )  # fmt: skip
    return {name: array.copy() for name, array in seen.items() if name != "mask"}


def simulated(chosen: Scenario, policy_name: str) -> list[tuple[float, int, str, int, object]]:
    """(time, order at that time, event, request, what) of a simulation; observations at its decisions."""
    policy, unused = make_policy(policy_name, chosen), make_policy("least_request", chosen).kernel.function
    draws = draw(chosen, np.random.default_rng(0))
    world = one(allocate(1, shape_of(chosen, Room.of(chosen, draws), 1, log=False)), 0)
    write_static(world, chosen)
    load(world, chosen, draws, np.zeros(0))
    view = ClusterView(world, chosen)
    events: list[tuple[float, int, str, int, object]] = []
    counts = np.zeros(len(draws.trace), dtype=int)
    ends_s = np.zeros(chosen.fleet.slots)
    ended: set[int] = set()
    beats = 0
    until_s = 0.0
    while True:
        why = advance(world, until_s, unused, False, True)
        now_s = float(world.cluster[0]["now_s"])
        if why == ASK:
            r = int(world.control[0]["asked"])
            slot = policy.place(view, RequestView(view.requests, r))
            events.append((now_s, 3, "place", r, (slot, observed(world, chosen, r))))
            world.control[0]["answer"] = slot
            continue
        assert why in (TIME, DONE)
        sync_all(world, now_s)
        while beats < world.cluster[0]["beats"]:
            beats += 1
            events.append((beats * chosen.heartbeat_s, 2, "beat", -1, None))
        for r in range(len(counts)):
            request = world.requests[r]
            if r in ended or request["worker"] < 0:
                continue
            w = int(request["worker"])
            if request["status"] == RUNNING and request["decoding"]:
                have = int(world.workers[w]["decode_steps"] - request["joined_step"])
            else:
                have = int(request["generated"])
            if have > counts[r]:
                assert have == counts[r] + 1
                at_s = float(request["first_token_s"]) if counts[r] == 0 else ends_s[w]
                events.append((at_s, 0, "token", r, None))
                counts[r] = have
            if request["status"] == FINISHED:
                events.append((float(request["finish_s"]), 1, "finish", r, None))
                ended.add(r)
        ends_s = world.workers["step_end_s"].copy()
        if why == DONE:
            return sorted(events, key=lambda event: event[:2])
        until_s += TICK_S


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
