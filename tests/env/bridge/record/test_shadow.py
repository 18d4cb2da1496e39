"""What a policy that only watched would have changed: known where the recorded workers are the simulator's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aladdin_env.bridge.record.log import Log, read_logs
from aladdin_env.bridge.record.outcome import MEASURES
from aladdin_env.bridge.record.shadow import Line, ShadowReport, ShadowSettings, shadow_report, simulations
from aladdin_env.errors import InputError
from tests.env.bridge.record.simulated import record_simulation, served_scenario
from tests.env.bridge.record.traffic import BEGAN

QUICK = ShadowSettings(seeds=2, resamples=200)
Recorded = Callable[..., list[Log]]


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """Record a simulation and read it again."""

    def run(acting: str = "random", policy: str = "least_request", name: str = "log.jsonl", **how) -> list[Log]:
        scenario = how.pop("scenario", served_scenario(8.0, 200.0))
        record_simulation(tmp_path / name, scenario, acting, policy, **how)
        return read_logs([tmp_path / name])

    return run


def line(found: ShadowReport, measure: str) -> Line:
    return next(one for one in found.lines if one.measure == measure)


def test_a_better_policy_would_have_gained(recorded: Recorded) -> None:
    scenario = served_scenario(9.0, 200.0)
    found = shadow_report(recorded("random", "least_request", scenario=scenario), QUICK)
    assert (found.policy, found.baseline) == ("least_request", "random")
    assert [one.measure for one in found.lines] == list(MEASURES)
    met, tail = line(found, "slo_attainment"), line(found, "ttft_p99_s")
    assert met.gain.value == pytest.approx(met.shadow - met.acting) and met.gain.low > 0.0
    assert tail.gain.high < 0.0 and tail.shadow < tail.acting
    for one in (met, tail):
        assert one.gain.low <= one.gain.value <= one.gain.high
    assert line(found, "gpu_seconds").gain.value == pytest.approx(0.0, abs=1e-6)


def test_the_simulator_has_no_error_about_its_own_workers(recorded: Recorded) -> None:
    found = shadow_report(recorded("least_request", "random"), QUICK)  # draws no coins
    for one in found.lines:
        assert one.acting == pytest.approx(one.recorded, rel=1e-6), one.measure
        assert one.error.value == pytest.approx(0.0, abs=1e-5)
        assert not one.is_doubtful or one.gain.value == pytest.approx(0.0, abs=1e-5)


def test_the_simulators_error_is_what_it_gets_wrong(recorded: Recorded) -> None:
    """Workers that were slower than their profile says: every first token a second later."""

    def slower(ticket) -> None:
        ticket.first_s += 1.0
        ticket.ended_s += 1.0

    found = shadow_report(recorded("least_request", "power_of_two", change=slower), QUICK)
    error = line(found, "ttft_p50_s").error
    assert error.value == pytest.approx(-1.0, abs=1e-3) and error.low <= -0.99 and error.high >= -1.01
    assert line(found, "ttft_p50_s").is_doubtful
    assert line(found, "slo_attainment").recorded == 0.0 and line(found, "slo_attainment").error.low > 0.5


def test_the_same_policy_changes_nothing(recorded: Recorded) -> None:
    found = shadow_report(recorded("power_of_two", "power_of_two"), QUICK)
    assert all((one.gain.value, one.gain.low, one.gain.high) == (0.0, 0.0, 0.0) for one in found.lines)


def test_a_scaler_saves_workers(recorded: Recorded) -> None:
    """Four workers where one would do: the policy that was asked scales, the one that acted does not."""
    scenario = served_scenario(0.5, 1200.0, initial=4)
    found = shadow_report(recorded("least_request", "least_request+aladdin", scenario=scenario), QUICK)
    gpus, cost = line(found, "gpu_seconds"), line(found, "cost")
    assert gpus.recorded == pytest.approx(4 * found.span_s)
    assert gpus.gain.high < -0.1 * gpus.recorded
    assert cost.gain.value == pytest.approx(gpus.gain.value * 3.6 / 3600)


# --- agreement -------------------------------------------------------------------------------------------------------


def test_agreement_is_a_share_with_its_interval(recorded: Recorded) -> None:
    logs = recorded("least_request", "random", shadow=lambda row, slot: slot if row % 4 else 1 - slot)
    found = shadow_report(logs, QUICK)
    assert found.asked == len(logs[0].requests)
    assert found.agreement.value == pytest.approx(0.75, abs=1e-3)
    assert 0.70 < found.agreement.low < 0.75 < found.agreement.high < 0.80


def test_only_requests_about_which_both_were_asked_count(recorded: Recorded) -> None:
    logs = recorded("least_request", "random", shadow=lambda row, slot: slot if row % 2 else None)
    found = shadow_report(logs, QUICK)
    assert found.asked == len(logs[0].requests) // 2 and found.agreement.value == 1.0


@pytest.mark.parametrize("mode", ["active", "canary"])
def test_a_log_without_shadow_answers_is_refused(recorded: Recorded, mode: str) -> None:
    logs = recorded("least_request", "random", mode=mode, shadow=lambda row, slot: None)
    with pytest.raises(InputError, match=rf"no shadow answers, mode {mode}.*mode 'shadow'"):
        shadow_report(logs, QUICK)


def test_a_policy_that_always_failed_gave_no_answers(recorded: Recorded) -> None:
    logs = recorded("least_request", "random", shadow=lambda row, slot: None)
    with pytest.raises(InputError, match="no shadow answers, mode shadow"):
        shadow_report(logs, QUICK)


# --- which requests --------------------------------------------------------------------------------------------------


def test_what_came_under_another_mode_is_left_out(recorded: Recorded) -> None:
    switched = []

    def around(recorder, now_s: float) -> None:
        if now_s > 120.0 and not switched:
            switched.append(now_s)
            recorder.switched(replace(recorder._regime, mode="active"), now_s)

    (log,) = recorded("least_request", "random", around=around)
    found = shadow_report([log], QUICK)
    before = int((log.requests["arrival_s"] < switched[0]).sum())
    assert found.requests == before < len(log.requests)
    assert any(note.startswith(f"{len(log.requests) - before} of {len(log.requests)} requests") for note in found.notes)
    assert found.span_s == pytest.approx(switched[0] - log.requests["arrival_s"][0])


def test_runs_are_taken_together(recorded: Recorded, tmp_path: Path) -> None:
    counts = []
    for minute in (1, 2):
        how = {"began": BEGAN.replace(minute=minute), "seed": minute, "scenario": served_scenario(8.0, 100.0)}
        counts.append(len(recorded("least_request", "random", f"{minute}.jsonl", **how)[0].requests))
    both = read_logs([tmp_path / "1.jsonl", tmp_path / "2.jsonl"])
    found = shadow_report(both, ShadowSettings(1, 10.0, 100))
    assert found.requests == sum(counts)
    spans = [log.end_s - log.requests["arrival_s"][0] for log in both]
    assert found.span_s == pytest.approx(sum(spans))
    assert found.blocks == sum(round(span_s / 10.0) for span_s in spans)
    assert line(found, "slo_attainment").acting == pytest.approx(line(found, "slo_attainment").recorded)


def test_of_several_pairs_of_policies_that_with_most_time_is_taken(recorded: Recorded, tmp_path: Path) -> None:
    recorded("least_request", "random", "a.jsonl", scenario=served_scenario(8.0, 60.0))
    began = BEGAN.replace(minute=59)
    recorded("least_request", "power_of_two", "b.jsonl", scenario=served_scenario(8.0, 120.0), began=began)
    found = shadow_report(read_logs([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]), QUICK)
    assert found.policy == "power_of_two"
    assert any("other policies than power_of_two and least_request" in note for note in found.notes)


def test_a_short_log_has_no_intervals(recorded: Recorded) -> None:
    found = shadow_report(recorded(scenario=served_scenario(8.0, 30.0)), QUICK)
    assert found.blocks < 8
    assert all(np.isnan(one.gain.low) and not np.isnan(one.gain.value) for one in found.lines)
    assert any(note.startswith("No intervals") for note in found.notes)


def test_damage_is_told_of(recorded: Recorded, tmp_path: Path) -> None:
    recorded()
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    found = shadow_report(read_logs([path]), QUICK)
    assert "1 lines were cut off at the end of a file." in found.notes


def test_the_report_is_the_same_every_time_and_progress_is_told(recorded: Recorded) -> None:
    logs, told = recorded(), []
    one, two = shadow_report(logs, QUICK, told.append), shadow_report(logs, QUICK)
    assert one == two
    assert told == [1, 2, 3, 4] and simulations(logs, QUICK) == 4


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"block_s": 0.0}, {"resamples": 3}])
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(InputError):
        ShadowSettings(**wrong)
