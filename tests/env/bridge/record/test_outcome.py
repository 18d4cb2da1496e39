"""Measures over blocks of time, against NumPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aladdin_env.bridge.record.outcome import MEASURES, Blocks, Outcome, interval, resampled


def outcome(n: int = 400, seed: int = 0, span_s: float = 100.0, **changes: object) -> Outcome:
    rng = np.random.default_rng(seed)
    ttft_s = rng.exponential(0.3, n)
    ttft_s[::7] = np.nan
    values = {
        "span_s": span_s,
        "arrival_s": np.sort(rng.uniform(0, span_s, n)),
        "met": rng.random(n) < 0.8,
        "counted": rng.random(n) < 0.9,
        "ttft_s": ttft_s,
        "atgt_s": rng.exponential(0.02, n),
        "change_s": np.array([0.0, 12.5, 60.0, 140.0]),
        "gpus": np.array([2.0, 4.0, 1.0, 9.0]),
        "cost_per_s": np.array([0.2, 0.4, 0.1, 0.9]),
    }
    return Outcome(**(values | changes))


def test_measures_are_those_of_all_requests() -> None:
    one = outcome()
    found = Blocks([one], [7]).measures()
    assert tuple(found) == MEASURES
    assert found["slo_attainment"] == pytest.approx(one.met[one.counted].mean())
    known = np.sort(one.ttft_s[~np.isnan(one.ttft_s)])
    for name, values, share in (
        ("ttft_p50_s", known, 0.5), ("ttft_p99_s", known, 0.99), ("atgt_p50_s", one.atgt_s, 0.5),
        ("atgt_p99_s", one.atgt_s, 0.99),
    ):  # fmt: skip
        assert found[name] == np.quantile(values, share, method="inverted_cdf"), name
    assert found["gpu_seconds"] == pytest.approx(12.5 * 2 + 47.5 * 4 + 40 * 1)
    assert found["cost"] == pytest.approx(found["gpu_seconds"] / 10)


@pytest.mark.parametrize("weights", [[1, 0, 2, 1], [0, 0, 4, 0]])
def test_a_block_that_counts_twice_is_as_its_requests_twice(weights: list[int]) -> None:
    one = outcome()
    found = Blocks([one], [4]).measures(np.array(weights))
    times = np.repeat(np.arange(400), np.array(weights)[(one.arrival_s / 25.0).astype(int)])
    known = one.ttft_s[times][~np.isnan(one.ttft_s[times])]
    assert found["ttft_p99_s"] == np.quantile(known, 0.99, method="inverted_cdf")
    counted = one.counted[times]
    assert found["slo_attainment"] == pytest.approx(one.met[times][counted].mean())
    levels = [12.5 * 2 + 12.5 * 4, 100, 10 * 4 + 15 * 1, 25]
    assert found["gpu_seconds"] == pytest.approx(np.dot(weights, levels))


def test_stretches_are_put_one_after_the_other() -> None:
    one, two = outcome(200, 1, 40.0), outcome(300, 2, 80.0)
    both = Blocks([one, two], [4, 8])
    assert both.size == 12
    first, second = Blocks([one], [4]).measures(), Blocks([two], [8]).measures()
    found = both.measures()
    assert found["gpu_seconds"] == pytest.approx(first["gpu_seconds"] + second["gpu_seconds"])
    assert both.measures(np.repeat([1, 0], [4, 8])) == pytest.approx(first)
    assert both.measures(np.repeat([0, 1], [4, 8])) == pytest.approx(second)


def test_what_nobody_saw_is_no_number() -> None:
    found = Blocks([outcome(ttft_s=np.full(400, np.nan), counted=np.zeros(400, dtype=bool))], [5]).measures()
    assert np.isnan(found["ttft_p50_s"]) and np.isnan(found["slo_attainment"])
    assert found["atgt_p50_s"] > 0.0


def test_a_request_at_the_very_end_is_in_the_last_block() -> None:
    assert outcome().blocks_of(np.array([0.0, 24.999, 25.0, 100.0]), 4).tolist() == [0, 0, 1, 3]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Attainment of requests whose blocks differ: an interval that took requests for independent would be too short."""
    blocks, per_block, inside = 40, 25, 0
    for trial in range(120):
        rng = np.random.default_rng(trial)
        share = np.repeat(rng.beta(4, 1, blocks), per_block)  # of mean 0.8
        n = blocks * per_block
        even = (np.arange(n) + 0.5) / n * 100.0
        one = outcome(n, trial, arrival_s=even, met=rng.random(n) < share, counted=np.ones(n, dtype=bool))
        cut = Blocks([one], [blocks])
        draws = resampled(lambda weights, _, cut=cut: cut.measures(weights), blocks, 200, 1)
        found = interval(cut.measures()["slo_attainment"], draws["slo_attainment"])
        inside += found.low <= 0.8 <= found.high
    assert 0.88 * 120 <= inside <= 0.99 * 120


def test_the_same_log_gives_the_same_interval() -> None:
    cut = Blocks([outcome()], [20])
    one, two = (resampled(lambda weights, _: cut.measures(weights), 20, 50, 1) for _ in range(2))
    assert all(np.array_equal(one[name], two[name]) for name in MEASURES)


def test_seeds_take_turns() -> None:
    asked = []
    resampled(lambda weights, seed: {"x": float(asked.append(seed) or 0)}, 5, 6, 3)
    assert asked == [0, 1, 2, 0, 1, 2]
