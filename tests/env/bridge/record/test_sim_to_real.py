"""Recorded requests in the simulator: it meets them exactly where the recorded workers were its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aladdin_env import SLO
from aladdin_env.bridge.record.episode import Episode
from aladdin_env.bridge.record.fleet_seen import FleetSeen
from aladdin_env.bridge.record.log import Log, read_logs
from aladdin_env.bridge.record.outcome import MEASURES
from aladdin_env.bridge.record.periods import periods
from aladdin_env.bridge.record.recorder import RecordSettings
from aladdin_env.bridge.record.sim_to_real import sim_to_real
from aladdin_env.errors import InputError
from aladdin_env.latency import load_profile
from aladdin_env.scenario import SLOClass
from aladdin_env.simulator.state import FAILED, OFF, READY, STARTING
from tests.env.bridge.record.simulated import record_simulation, served_scenario
from tests.env.bridge.record.traffic import Bridge


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def read(path: Path) -> Log:
    (log,) = read_logs([path])
    return log


@pytest.mark.parametrize("policy", ["least_request", "aladdin", "round_robin", "power_of_two", "random"])
def test_the_simulators_own_workers_are_met_exactly(path: Path, policy: str) -> None:
    requests = record_simulation(path, served_scenario(8.0, 120.0), policy, "aladdin")
    found = sim_to_real(read(path))
    assert found.policy == policy and found.requests == len(requests)
    assert 0.05 < found.recorded["slo_attainment"] == pytest.approx(requests["met_slo"].mean())
    for name in MEASURES:
        assert found.simulated[name] == pytest.approx(found.recorded[name], rel=1e-6), name


def test_another_policy_is_another_simulation(path: Path) -> None:
    record_simulation(path, served_scenario(8.0, 120.0), "least_request", "aladdin")
    log = read(path)
    found = sim_to_real(log, "random")
    assert found.policy == "random" and found.recorded == sim_to_real(log).recorded
    assert found.simulated["ttft_p99_s"] > 1.2 * found.recorded["ttft_p99_s"]


def test_objectives_count_by_class(path: Path) -> None:
    scenario = served_scenario(14.0, 60.0)
    workload = replace(scenario.workload, class_shares=(0.5, 0.5))
    classes = SLOClass("chat", 0.5, 0.02), SLOClass("batch", 20.0, 0.5)
    scenario = replace(scenario, workload=workload, slo=SLO(0.5, 0.02, classes))
    requests = record_simulation(path, scenario, "least_request", "aladdin")
    found = sim_to_real(read(path))
    assert requests.groupby("klass")["met_slo"].mean()[1] > requests.groupby("klass")["met_slo"].mean()[0]
    assert found.recorded["slo_attainment"] == pytest.approx(requests["met_slo"].mean())
    assert found.simulated["slo_attainment"] == pytest.approx(requests["met_slo"].mean())


def test_a_class_that_clients_stated_is_part_of_the_scenario(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests"))
    bridge.ready(1)
    bridge.promise(1, 3.0, 0.3)
    for klass in (0, 1):
        ticket = bridge.enter(klass=klass)
        bridge.dispatcher.place(ticket)
        bridge.clock.now_s += 2.0  # in time for one class only
        bridge.dispatcher.grew(ticket, 1)
        bridge.dispatcher.finish(ticket)
    bridge.recorder.close()
    log = read(path)
    episode = Episode(log, periods(log)[0])
    assert [(one.ttft_s, one.atgt_s) for one in episode.scenario.slo.classes] == [(0.5, 0.02), (3.0, 0.3)]
    assert episode.recorded.met.tolist() == [False, True]


# --- requests that were not served -----------------------------------------------------------------------------------


def unserved(path: Path, outcomes: dict[str, str]) -> Episode:
    def change(ticket) -> None:
        ticket.outcome = outcomes.get(ticket.id, "finished")
        if ticket.outcome in ("shed", "failed"):
            ticket.tokens, ticket.first_s = 0, float("nan")
        if ticket.outcome == "left":
            ticket.tokens = 3

    record_simulation(path, served_scenario(4.0, 60.0), "least_request", "aladdin", change=change)
    log = read(path)
    return Episode(log, periods(log)[0])


def test_lengths_that_nobody_knows_are_those_of_others(path: Path) -> None:
    episode = unserved(path, {"r3": "shed", "r5": "failed", "r9": "left"})
    served = set(episode.requests.loc[episode.requests["outcome"] == "finished", "output_tokens"])
    traces = [episode._trace(np.random.default_rng(seed)) for seed in range(6)]
    for row in (3, 5):
        lengths = {int(trace.output_tokens[row]) for trace in traces}
        assert lengths <= served and len(lengths) > 1
    assert {int(trace.output_tokens[9]) for trace in traces} == {3}
    assert all(np.array_equal(trace.prompt_tokens, traces[0].prompt_tokens) for trace in traces)


def test_what_was_shed_missed_its_objectives_and_who_left_counts_for_nothing(path: Path) -> None:
    episode = unserved(path, {"r3": "shed", "r5": "failed", "r9": "left"})
    recorded = episode.recorded
    assert not recorded.met[[3, 5]].any() and recorded.counted[[3, 5]].all()
    assert not recorded.counted[9] and recorded.counted.sum() == len(recorded.met) - 1
    assert np.isnan(recorded.ttft_s[[3, 5, 9]]).all()
    assert not episode.simulate("least_request", 0).counted[9]


def test_who_was_turned_away_at_the_door_is_part_of_the_load(path: Path) -> None:
    refused = iter([("too_many_requests", 300, 0), ("shutting_down", 5, 0), ("too_long", 10**6, 0)])

    def around(recorder, now_s: float) -> None:
        for reason, prompt_tokens, klass in [one] if (one := next(refused, None)) else []:
            recorder.refused(reason, prompt_tokens, klass, now_s)

    requests = record_simulation(path, served_scenario(4.0, 60.0), "least_request", "aladdin", around=around)
    log = read(path)
    episode = Episode(log, periods(log)[0])
    assert len(episode.requests) == len(requests) + 1
    (row,) = np.flatnonzero(episode.requests["outcome"] == "refused")
    assert not episode.recorded.met[row] and episode.recorded.counted[row]
    assert episode.scenario.workload.sample(np.random.default_rng(0), None).prompt_tokens[row] == 300
    assert episode.simulate("least_request", 0).met[row]


def test_an_answer_that_came_whole_has_no_times_of_its_own(path: Path) -> None:
    def whole(ticket) -> None:
        ticket.streams = ticket.id != "r3"

    record_simulation(path, served_scenario(4.0, 30.0), "least_request", "aladdin", change=whole)
    log = read(path)
    episode = Episode(log, periods(log)[0])
    for outcome in (episode.recorded, episode.simulate("least_request", 0)):
        assert np.isnan(outcome.ttft_s[3]) and not np.isnan(outcome.ttft_s[4])
        assert outcome.met[3]


def test_a_log_in_which_nobody_was_served_is_refused(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests"))
    ticket = bridge.enter()
    bridge.dispatcher.place(ticket)
    bridge.clock.now_s = 1.0
    bridge.dispatcher.leave(ticket)
    bridge.recorder.close()
    with pytest.raises(InputError, match="0 of 1 finished"):
        sim_to_real(read(path))


# --- the fleet -------------------------------------------------------------------------------------------------------


def fleet_of(path: Path, *moves: tuple[float, int, int], end_s: float = 100.0) -> FleetSeen:
    bridge = Bridge(path, settings=RecordSettings("requests"))
    for time_s, slot, status in moves:
        bridge.clock.now_s = time_s
        bridge.move(slot, status)
    bridge.recorder.close()
    log = read(path)
    return FleetSeen(log, replace(periods(log)[0], end_s=end_s))


def test_gpus_are_paid_for_from_start_to_end(path: Path) -> None:
    fleet = fleet_of(path, (0.0, 0, READY), (10.0, 1, STARTING), (30.0, 1, READY), (50.0, 0, FAILED), (80.0, 0, OFF))
    times, gpus, cost = fleet.steps()
    assert times.tolist() == [0.0, 10.0, 30.0, 50.0, 80.0]
    assert gpus.tolist() == [1.0, 2.0, 2.0, 2.0, 1.0]
    assert cost == pytest.approx(gpus * 2.0 / 3600)


def test_a_simulation_begins_with_those_that_served(path: Path) -> None:
    moves = (1.0, 0, STARTING), (5.0, 0, READY), (6.0, 1, READY), (7.0, 2, READY), (98.0, 2, OFF)
    fleet = fleet_of(path, *moves)
    assert fleet.at_first(scales=True) == [1]
    assert fleet.at_first(scales=False) == [3]


def test_a_fleet_that_never_served_begins_with_one(path: Path) -> None:
    assert fleet_of(path, (1.0, 0, STARTING)).at_first(scales=False) == [1]


def test_cold_starts_are_those_that_were_seen(path: Path) -> None:
    moves = (
        (0.0, 0, STARTING),
        (4.0, 0, READY),
        (5.0, 1, STARTING),
        (15.0, 1, READY),
        (16.0, 2, STARTING),
        (17.0, 2, OFF),
    )
    (kind,) = fleet_of(path, *moves).types()
    assert kind.cold_start.mean_s == pytest.approx(7.0)


def test_laws_and_memory_are_those_that_were_told_last(path: Path) -> None:
    profile = load_profile("llama-2-13b-a100-tp1")
    bridge = Bridge(path, settings=RecordSettings("requests"))
    bridge.ready(1)
    bridge.look(0, 1600, 32, 0.5)
    bridge.learn(load_profile("llama-2-13b-h100-tp1"))
    bridge.learn(profile)
    for _ in range(3):
        bridge.serve(3)
    bridge.recorder.close()
    log = read(path)
    (kind,) = Episode(log, periods(log)[0]).scenario.fleet.types
    assert kind.profile == profile
    assert (kind.kv_capacity_tokens, kind.block_size, kind.kv_blocks) == (1600, 32, 50)


def test_a_fleet_that_told_nothing_is_as_it_was_thought_to_be(path: Path) -> None:
    scenario = served_scenario(4.0, 30.0)
    record_simulation(path, scenario, "least_request", "aladdin")
    log = read(path)
    assert Episode(log, periods(log)[0]).scenario.fleet == scenario.fleet


# --- modes -----------------------------------------------------------------------------------------------------------


def test_the_longest_stretch_under_one_mode_is_simulated(path: Path) -> None:
    switched = []

    def around(recorder, now_s: float) -> None:
        if now_s > 20.0 and not switched:
            switched.append(now_s)
            recorder.switched(replace(recorder._regime, mode="active"), now_s)

    requests = record_simulation(path, served_scenario(4.0, 100.0), "least_request", "aladdin", around=around)
    log = read(path)
    assert [period.acting for period in periods(log)] == ["least_request", "aladdin"]
    found = sim_to_real(log)
    assert found.policy == "aladdin" and any("longest stretch of 2" in note for note in found.notes)
    assert found.requests == (requests["arrival_s"] >= switched[0]).sum()


def test_a_canary_is_told_of(path: Path) -> None:
    record_simulation(path, served_scenario(4.0, 30.0), "least_request", "aladdin", mode="canary")
    found = sim_to_real(read(path))
    assert found.policy == "least_request"
    assert found.notes == ["aladdin decided about 50% of the requests; least_request is simulated for all."]
