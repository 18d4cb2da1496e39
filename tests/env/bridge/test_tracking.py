"""Laws that follow the workers: simulated ones, which are slower or faster than the profile says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aladdin_env.bridge.decider import Decider
from aladdin_env.bridge.dispatcher import Dispatcher, Queueing
from aladdin_env.bridge.events import Beat, Ticket, Watchers
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.tracking import Tracking
from aladdin_env.latency import LatencyProfile
from aladdin_env.policy import combine
from aladdin_env.presets import load_scenario
from aladdin_env.profile_tracker import ProfileTracker
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import READY
from aladdin_traces import Workload

from .live import Answers, Clock, Heard
from .simulated_events import simulated


class Laws(Heard):
    """Remembers the laws it was told of."""

    def __init__(self) -> None:
        super().__init__()
        self.profiles: list[LatencyProfile] = []

    def learnt(self, type_index: int, profile: LatencyProfile, now_s: float) -> None:
        self.profiles.append(profile)


def served(factor: float, max_num_seqs: int) -> tuple[Scenario, Scenario]:
    """What the bridge believes, and what is so: the same workers, but for all their times."""
    rng = np.random.default_rng(5)
    n = 150
    workload = Workload.from_arrays(
        np.cumsum(rng.uniform(0.05, 0.2, n)), rng.integers(50, 1500, n), rng.integers(20, 150, n)
    )
    base = load_scenario("sharegpt-poisson").with_workers((2,))
    kind = replace(base.fleet.types[0], scheduler="chunked", max_num_seqs=max_num_seqs)
    believed = replace(base, workload=workload, horizon_s=None, heartbeat_s=2.0)
    believed = replace(believed, fleet=replace(base.fleet, types=(kind,)))
    tracker = ProfileTracker(kind.latency)  # only to have a profile all of whose times are others
    tracker._factors = [factor] * 3
    slow = replace(kind, profile=tracker.profile())
    return believed, replace(believed, fleet=replace(base.fleet, types=(slow,)))


def tracked(factor: float, max_num_seqs: int = 256) -> tuple[Tracking, Laws, LiveCluster]:
    """A bridge's parts that have heard of all that happened."""
    believed, real = served(factor, max_num_seqs)
    answers, clock, laws, watchers = Answers(), Clock(), Laws(), Watchers()
    policy = combine(answers)
    cluster = LiveCluster.open(believed, policy, 256)
    decider = Decider(cluster, policy, policy, watchers.fell_back, deadline_s=1e9)
    dispatcher = Dispatcher(cluster, decider, watchers, Queueing(), clock)
    tracking = Tracking(cluster, watchers.learnt)
    watchers.add(tracking)
    watchers.add(laws)
    for slot in range(2):
        cluster.set_worker(slot, READY, 0.0)
    tickets: dict[int, Ticket] = {}
    for now_s, _, kind, r, what in simulated(real, "least_request"):
        clock.now_s = now_s
        if kind == "beat":
            watchers.beat(Beat(now_s, "active", (2,), None, (2,), ()))
        elif kind == "token":
            dispatcher.grew(tickets[r], 1)
        elif kind == "finish":
            dispatcher.finish(tickets[r])
        else:
            tickets[r] = dispatcher.enter(str(r), int(real.workload.trace.prompt_tokens[r]), 0, True)
            answers.answer = what[0]
            assert dispatcher.place(tickets[r])
    return tracking, laws, cluster


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.6])
def test_the_laws_become_those_of_the_workers(factor: float) -> None:
    tracking, laws, cluster = tracked(factor)
    (found,) = tracking.status()
    assert found is not None and found.observations > 100
    assert found.decode_alpha == pytest.approx(factor, rel=0.06)
    assert found.prefill == pytest.approx(factor, rel=0.15)
    assert found.drifted == (factor != 1.0)
    used = laws.profiles[-1] if laws.profiles else cluster.view.scenario.fleet.types[0].latency
    np.testing.assert_array_equal(cluster.world.laws[0], used.row(int(cluster.world.types[0]["max_num_seqs"])))


def test_who_waits_for_a_place_in_the_batch_says_nothing_of_prefill() -> None:
    """Full batches: most requests wait for another's end before their prefill begins."""
    tracking, _, _ = tracked(1.0, max_num_seqs=4)
    (found,) = tracking.status()
    assert found is not None and found.observations > 50
    assert found.prefill == pytest.approx(1.0, rel=0.15) and not found.drifted


def test_nothing_is_kept_of_requests_that_have_ended() -> None:
    tracking, _, _ = tracked(1.0)
    assert not tracking._begun
