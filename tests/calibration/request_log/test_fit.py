"""Fits: known laws and KV room come back, what a log cannot say is said to be unknown, the same seed gives the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aladdin_calibration.request_log import EngineLimits, LogFit, RequestLog, fit_request_log
from aladdin_calibration.request_log.judged import Unqueued, figures
from aladdin_calibration.request_log.report import write_log_report
from aladdin_env.latency import LatencyProfile
from aladdin_traces.errors import InputError

from .logs import AMPLE, LAWS, LIMITS, served, workload

SHORT_KV = 12_000


@pytest.fixture(scope="module")
def unloaded() -> LogFit:
    return fit_request_log(served(workload(120, 0.8), AMPLE), LIMITS)


@pytest.fixture(scope="module")
def overloaded() -> LogFit:
    return fit_request_log(served(workload(200, 8.0), SHORT_KV), LIMITS)


def within(fit: LogFit) -> dict[str, bool]:
    """Whether the true value of each coefficient is in its 95 % interval."""
    found = fit.coefficients.items()
    return {name: e.low <= getattr(LAWS, name) <= e.high for name, e in found if getattr(LAWS, name) > 0}


def test_a_short_kv_room_is_found(overloaded: LogFit) -> None:
    assert overloaded.kv.identified
    assert overloaded.kv.tokens == pytest.approx(SHORT_KV, rel=0.01)
    assert overloaded.kv.low <= SHORT_KV <= overloaded.kv.high < np.inf


def test_without_a_shortage_the_kv_room_is_unknown(unloaded: LogFit) -> None:
    assert not unloaded.kv.identified and unloaded.kv.high == np.inf
    assert 0 < unloaded.kv.low <= unloaded.kv.tokens < AMPLE
    assert "lower bound" in profile_of(unloaded).provenance.method


def test_laws_come_back_within_their_intervals(unloaded: LogFit, overloaded: LogFit) -> None:
    """Of 14 intervals of 95 % all but two at most must hold the truth (more misses: once in 200 times)."""
    inside = [*within(unloaded).values(), *within(overloaded).values()]
    assert len(inside) == 14 and sum(inside) >= 12, (within(unloaded), within(overloaded))
    step = unloaded.laws.decode.tables(4)[0][2]
    assert step == pytest.approx(LAWS.decode.tables(4)[0][2], rel=0.03)


def test_unseen_requests_are_predicted(unloaded: LogFit, overloaded: LogFit) -> None:
    for fit in (unloaded, overloaded):
        assert abs(fit.held_out["ttft_mean"]) < 0.05
        assert abs(fit.held_out["tpot_mean"]) < 0.02
        assert abs(fit.held_out["latency_mean"]) < 0.02
        assert fit.train_requests == fit.test_requests


def profile_of(fit: LogFit) -> LatencyProfile:
    return fit.to_profile("fitted", model="m", gpu="g", kv_bytes_per_token=131072.0, date="2026-11-22", source="a test")


def test_the_profile_carries_laws_room_and_errors_out_of_sample(overloaded: LogFit) -> None:
    profile = profile_of(overloaded)
    assert LatencyProfile.from_dict(profile.to_dict()) == profile
    assert profile.kv_capacity_tokens == overloaded.kv.tokens
    assert profile.decode_s(2, 0.0) == pytest.approx(overloaded.laws.c3 + 2 * overloaded.laws.c2)
    assert profile.provenance.errors["tpot_mean"] == pytest.approx(abs(overloaded.held_out["tpot_mean"]), abs=1e-4)


def test_the_same_seed_gives_the_same_fit_and_progress_only_rises() -> None:
    log, shares = served(workload(60, 1.0), AMPLE), []
    limits = EngineLimits(LIMITS.max_num_seqs, LIMITS.max_num_batched_tokens, kv_capacity_tokens=AMPLE)
    once = fit_request_log(log, limits, train_share=1.0, seed=3, progress=shares.append)
    assert once == fit_request_log(log, limits, train_share=1.0, seed=3)
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert once.kv.tokens == AMPLE and once.held_out == {} and once.test_requests == 0


def test_a_refit_keeps_the_errors_of_the_first_fit() -> None:
    log = served(workload(80, 1.0), AMPLE)
    limits = EngineLimits(LIMITS.max_num_seqs, LIMITS.max_num_batched_tokens, kv_capacity_tokens=AMPLE)
    alone, again = fit_request_log(log, limits), fit_request_log(log, limits, refit=True)
    assert again.held_out == alone.held_out and again.laws != alone.laws
    assert again.refitted and "then fitted to all 80" in profile_of(again).provenance.method


def test_an_interrupt_reaches_the_caller() -> None:
    def stop(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_request_log(served(workload(80, 1.0), AMPLE), LIMITS, progress=stop)


def test_too_little_to_fit_and_impossible_limits() -> None:
    log = served(workload(60, 1.0), AMPLE)
    with pytest.raises(InputError, match="log: '60 requests' is not valid; give at least 80: 40 to fit to"):
        fit_request_log(log, LIMITS)
    with pytest.raises(InputError, match="train_share"):
        fit_request_log(log, LIMITS, train_share=1.5)
    with pytest.raises(InputError, match=r"kv_capacity_tokens: 160 .* the longest request"):
        fit_request_log(log, EngineLimits(64, 2048, kv_capacity_tokens=160), train_share=1.0)


def test_limits_that_the_log_contradicts_are_refused() -> None:
    log = served(workload(80, 8.0), AMPLE)
    with pytest.raises(InputError, match=r"max_num_seqs: 4 is not valid; give at least \d\d, what .* decode at once"):
        fit_request_log(log, EngineLimits(4, 2048))
    told = replace(log, told={"max_num_seqs": "64", "max_num_batched_tokens": "512"})
    with pytest.raises(InputError, match=r"max_num_batched_tokens: 2048 .* own column .* says 512: give that"):
        fit_request_log(told, LIMITS)


def test_requests_that_hardly_queued_are_judged_apart() -> None:
    """A mean over all hides them where the others wait for long."""
    wait = np.repeat([0.1, 60.0], [10, 90])
    log = RequestLog.from_arrays(np.zeros(100), wait, wait + 1.0, [5] * 100, [51] * 100)
    simulated = np.stack([np.where(wait < 1.0, 0.5, wait), log.tpot_s, log.latency_s])
    found = figures(log, simulated, np.ones(100, dtype=bool))
    assert abs(found["ttft_mean"]) < 0.01 and found["ttft_unqueued_mean"] == pytest.approx(4.0)
    assert not any("unqueued" in key for key in figures(log, simulated, wait > 1.0))
    soon = Unqueued.of(log, simulated)
    assert soon == pytest.approx((10, 1.0, 0.1, 0.5)) and "after 0.100 s in the mean, 0.500 s simulated" in str(soon)
    late = Unqueued.of(RequestLog.from_arrays([0.0], [60.0], [61.0], [5], [51]), simulated[:, :1])
    assert late.requests == 0 and "is a guess" in str(late)


def test_hardly_queued_requests_that_were_all_fitted_are_told_in_sample(unloaded: LogFit) -> None:
    held_out = {key: value for key, value in unloaded.held_out.items() if "unqueued" not in key}
    assert len(held_out) < len(unloaded.held_out)
    errors = profile_of(replace(unloaded, held_out=held_out)).provenance.errors
    assert errors["ttft_unqueued_in_sample_mean"] == round(abs(unloaded.in_sample["ttft_unqueued_mean"]), 4)
    assert "ttft_unqueued_mean" not in errors


def test_the_report_has_what_was_found(unloaded: LogFit, tmp_path: Path) -> None:
    log = served(workload(120, 0.8), AMPLE)
    profile = unloaded.to_profile("mine", model="m", gpu="g", kv_bytes_per_token=1000.0)
    page, picture = write_log_report(log, unloaded, profile, tmp_path / "mine")
    text = page.read_text()
    assert "| ttft_unqueued, out of sample | +" in text or "| ttft_unqueued, out of sample | -0" in text
    assert "requests had their first token within" in text
    assert "out of sample" in text and "c3" in text and "memory never ran short" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
