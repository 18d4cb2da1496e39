"""The table: interquartile means, who counts, who is best, ratios seed by seed, over all; keys of the JSON."""

import math

import numpy as np
import pytest
from scipy.stats import trim_mean

from aladdin_agents.benchmark.entrants import BOUND
from aladdin_agents.benchmark.iqm import iqm, iqm_estimate
from aladdin_agents.benchmark.scenes import Scene
from aladdin_agents.benchmark.table import ALL, lines, notes


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 20, 33])
def test_iqm_is_the_trimmed_mean_of_rliable(count):
    values = np.random.default_rng(count).normal(size=(3, count))
    assert iqm(values) == pytest.approx(trim_mean(values, 0.25, axis=1))


def test_the_bootstrap_draws_within_scenarios():
    strata = [[1.0] * 5, [3.0] * 5]  # no variance within: the interval has no length
    found = iqm_estimate(strata)
    assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)
    mixed = iqm_estimate([[1.0, 3.0] * 5])
    assert mixed.low < 2.0 < mixed.high


def test_the_bootstrap_covers_the_middle():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        found = iqm_estimate(rng.normal(size=(5, 10)).tolist(), draws=300)
        inside += found.low <= 0.0 <= found.high
    assert 175 <= inside <= 199


def test_the_bootstrap_repeats_and_leaves_out_the_unknown():
    runs = [[1.0, 2.0, 4.0, math.nan], [3.0, 5.0], []]
    assert iqm_estimate(runs) == iqm_estimate([[1.0, 2.0, 4.0], [3.0, 5.0]])
    assert math.isnan(iqm_estimate([[], [math.nan]]).mean)


@pytest.fixture
def scene(make_row):
    """Two seeds: a cheap one that misses, Aladdin, a cheaper heuristic, an agent, one that is no heuristic."""
    costs = {
        "least_request+static": (1.0, 1.0, 0.9), "aladdin+aladdin": (4.0, 8.0, 0.995),
        "least_request+kpa": (3.0, 5.0, 0.99), "mine.npz": (2.0, 4.0, 1.0), "other+aladdin": (2.5, 2.5, 1.0),
    }  # fmt: skip
    return [
        *(make_row(policy, 20_000, cost=first, slo_attainment=share) for policy, (first, _, share) in costs.items()),
        *(make_row(policy, 20_001, cost=second, slo_attainment=share) for policy, (_, second, share) in costs.items()),
        make_row(BOUND, 20_000, cost=1.0),
        make_row(BOUND, 20_001, cost=2.0),
    ]


def test_who_counts_and_who_is_best(scene):
    found = Scene.of("joint", scene)
    assert not found.counts("least_request+static")
    assert found.best_heuristic == "least_request+kpa"
    assert found.in_order() == [
        "other+aladdin", "mine.npz", "least_request+kpa", "aladdin+aladdin", "least_request+static",
    ]  # fmt: skip


def test_ratios_are_of_the_same_seeds(scene):
    found = Scene.of("joint", scene).ratios("mine.npz")
    assert found == {"vs_best_heuristic": [2 / 3, 4 / 5], "vs_aladdin": [0.5, 0.5], "vs_bound": [2.0, 2.0]}
    missing = Scene.of("joint", [row for row in scene if (row.policy, row.seed) != ("least_request+kpa", 20_000)])
    assert missing.ratios("mine.npz")["vs_best_heuristic"] == [4 / 5]


def test_cost_does_not_count_below_the_target(scene):
    assert set(map(len, Scene.of("joint", scene).ratios("least_request+static").values())) == {0}
    low = [
        row if row.policy != "aladdin+aladdin" else type(row)(**{**row.__dict__, "slo_attainment": 0.5})
        for row in scene
    ]
    assert Scene.of("joint", low).ratios("mine.npz")["vs_aladdin"] == []


def test_on_a_fixed_fleet_goodput_counts(make_row):
    served = {"aladdin": 9.0, "least_request": 8.0, "mine.npz": 9.9, BOUND: 10.0}
    rows = [make_row(name, task="placement", goodput_rps=rps, slo_attainment=rps / 10) for name, rps in served.items()]
    found = Scene.of("placement", rows)
    assert found.best_heuristic == "aladdin" and found.in_order()[0] == "mine.npz"
    assert found.ratios("least_request") == {
        "vs_best_heuristic": [8 / 9], "vs_aladdin": [8 / 9], "vs_bound": [0.8],
    }  # fmt: skip


def test_keys_of_the_json(scene):
    (first, *_) = lines(scene)
    told = first.to_dict()
    assert {
        "scenario", "policy", "cost", "cost_low", "cost_high", "slo_attainment", "cost_vs_best_heuristic",
        "cost_vs_bound", "cost_vs_aladdin", "cost_iqm", "slo_attainment_iqm", "holds_target", "best_heuristic", "seeds",
    } <= told.keys()  # fmt: skip
    assert (told["policy"], told["cost"], told["cost_vs_bound"]) == ("other+aladdin", 2.5, (2.5 + 1.25) / 2)
    assert all(line.to_dict().keys() == told.keys() for line in lines(scene))


def test_over_all_scenarios(scene, make_row):
    more = [
        make_row("mine.npz", scenario="flood", cost=6.0, slo_attainment=0.5),
        make_row("aladdin+aladdin", scenario="flood", cost=8.0),
        make_row(BOUND, scenario="flood", cost=4.0),
    ]
    found = {line.policy: line for line in lines(scene + more) if line.scenario == ALL}
    assert list(found) == ["aladdin+aladdin", "mine.npz"]  # in all scenarios only these; held in more scenarios first
    mine, aladdin = found["mine.npz"], found["aladdin+aladdin"]
    assert (mine.held, mine.scenarios, aladdin.held) == (1, 2, 2)
    assert mine.means["slo_attainment"].mean == pytest.approx(0.75)
    assert mine.middles["cost_vs_bound"].mean == 2.0  # of the scenario that it holds
    assert aladdin.middles["cost_vs_bound"].mean == pytest.approx(trim_mean([4.0, 4.0, 2.0], 0.25))


def test_notes(scene, make_row):
    assert any("10 seeds" in note for note in notes(scene))
    mixed = [make_row("a+b", seed, numpy="1" if seed else "2") for seed in range(10)]
    assert notes(mixed) == ["The rows are of several versions, numpy: 1, 2."]
