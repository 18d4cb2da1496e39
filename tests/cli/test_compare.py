"""Comparisons: the same draws for all, the same numbers from any number of processes, the stable keys."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from aladdin_env import Fleet, InputError, yardsticks
from aladdin_env.cli import app
from aladdin_env.compare import MEASURES, Ladder, compare, compare_fewest, contenders, default_contenders
from aladdin_env.compare.contenders import Contender, default_specs
from aladdin_env.compare.rows import in_order, make_row
from aladdin_env.compare.work import Run
from aladdin_env.policy import placement_names, scaler_names
from aladdin_traces import FixedLengths, Poisson, Workload

KEYS = [
    "policy", "slo_attainment", "ttft_p50_s", "ttft_p99_s", "atgt_p50_s", "atgt_p99_s", "goodput_rps", "gpu_hours",
    "cost", "cost_vs_aladdin", "cost_vs_bound",
]  # fmt: skip
FIXED = ["toy_spread", "toy_coin", "aladdin", "least_request"]


def fixed(scenario):
    return scenario.with_workers((2,))


def numbers(found):
    return {row.policy: [row[name] for name in MEASURES if name != "cost_vs_aladdin"] for row in found.rows}


def test_json_has_the_stable_keys(cli, scenario_file):
    answer = cli("compare", "--scenario", scenario_file, "--workers", 2, "--policies", "aladdin,toy_first", "--json")
    assert answer.exit_code == 0, answer.stderr
    rows = json.loads(answer.stdout)
    assert [list(row) for row in rows] == [KEYS, KEYS]
    by_policy = {row["policy"]: row for row in rows}
    assert by_policy["aladdin"]["cost_vs_aladdin"] == 1.0
    assert by_policy["aladdin"]["cost_vs_bound"] > 1.0
    assert 0 <= by_policy["toy_first"]["slo_attainment"] <= 1


def test_json_of_several_seeds_has_the_bounds(cli, scenario_file):
    answer = cli("compare", "--scenario", scenario_file, "--workers", 2, "--policies", "aladdin,toy_coin", "--json",
                 "--seeds", 3)  # fmt: skip
    for row in json.loads(answer.stdout):
        assert list(row) == ["policy"] + [f"{key}{end}" for key in KEYS[1:] for end in ("", "_low", "_high")]
        assert all(row[f"{key}_low"] <= row[key] <= row[f"{key}_high"] for key in KEYS[1:])
        assert row["ttft_p99_s_low"] < row["ttft_p99_s_high"]
        assert row["slo_attainment_high"] <= 1.0


def test_json_of_a_search_has_workers_and_gpus(cli, scenario_file):
    answer = cli("compare", "--scenario", scenario_file, "--min-gpus", 0.9, "--policies", "toy_spread", "--json")
    (row,) = json.loads(answer.stdout)
    assert list(row) == [*KEYS, "workers", "gpus"]
    assert row["workers"] == row["gpus"] == 1
    assert row["cost_vs_aladdin"] is None


def test_results_do_not_depend_on_the_number_of_processes(scenario):
    entered = contenders(fixed(scenario), FIXED)
    one, two = (compare(fixed(scenario), entered, [0, 1], jobs=jobs) for jobs in (1, 2))
    assert numbers(one) == numbers(two)
    assert [row.policy for row in one.rows] == [row.policy for row in two.rows]
    assert one.fleets.keys() == two.fleets.keys() == set(FIXED)
    for policy, frame in one.fleets.items():
        pd.testing.assert_frame_equal(frame, two.fleets[policy])


def test_the_search_does_not_depend_on_the_number_of_processes(scenario):
    entered = contenders(fixed(scenario), ["toy_spread", "toy_coin"])
    found = [compare_fewest(scenario, entered, [0, 1], target=0.9, jobs=jobs) for jobs in (1, 2)]
    assert numbers(found[0]) == numbers(found[1])


def test_all_meet_the_same_requests(scenario):
    # Two names for the same decisions: in common episodes every measure is equal to the last digit.
    entered = [Contender("a", "toy_spread"), Contender("b", "least_request")]
    rows = numbers(compare(fixed(scenario), entered, [3, 4], jobs=1))
    assert rows["a"] == rows["b"]


def test_a_policy_may_be_a_function(scenario):
    import toy_policies  # installed by the fixture

    (one,) = contenders(fixed(scenario), [toy_policies.make_spread])
    assert one.label == "toy_spread"
    assert compare(fixed(scenario), [one], [0], jobs=2).rows[0]["cost"].mean > 0


def test_the_same_policy_is_run_once(scenario):
    assert [c.label for c in contenders(fixed(scenario), ["toy_spread", " toy_spread "])] == ["toy_spread"]


def test_a_bare_placement_gets_the_default_scaler_where_the_fleet_scales(scenario):
    found = contenders(scenario, ["toy_spread", "toy_spread + toy_rate"])
    assert [c.label for c in found] == ["toy_spread+aladdin", "toy_spread+toy_rate"]
    assert found[1].settings == {"scaler toy_rate": {"rps_per_worker": 2.0}}


def test_the_default_list_has_every_placement_and_every_scaler_once(scenario):
    specs = default_specs(scenario)
    assert len(set(specs)) == len(specs)
    assert {spec for spec in specs if "+" not in spec} == set(placement_names())
    scalers = [spec.partition("+")[2] for spec in specs if "+" in spec]
    assert sorted(scalers) == sorted(set(scaler_names()) - {"aladdin"})
    assert default_specs(fixed(scenario)) == [s for s in specs if "+" not in s]


def test_the_default_list_leaves_out_what_cannot_run_and_says_so(scenario, monkeypatch):
    import toy_policies

    def refuse(scenario):
        raise InputError("model", "none", "train one first")

    monkeypatch.setattr(toy_policies, "make_first", refuse)
    entered, notes = default_contenders(fixed(scenario))
    assert "toy_first" not in [c.label for c in entered]
    assert any("toy_first" in note and "train one first" in note for note in notes)


def run_of(cost, share=1.0):
    return Run(dict.fromkeys(MEASURES, 0.0) | {"cost": cost, "slo_attainment": share})


def test_the_ratio_is_taken_seed_by_seed():
    row = make_row(Contender("x", "x"), [run_of(2.0), run_of(6.0)], [run_of(1.0), run_of(2.0)])
    assert row["cost_vs_aladdin"].mean == 2.5  # the mean of 2 and 3, not 8 / 3
    assert math.isnan(make_row(Contender("x", "x"), [run_of(2.0)], None)["cost_vs_aladdin"].mean)


def test_the_bound_is_that_of_each_seed_and_shared_by_all_policies(scenario, monkeypatch):
    asked = []

    def noted(*arguments):
        asked.append(yardsticks.LowerBound(2.0 + len(asked), "cost", 0.9, 1, 0))
        return asked[-1]

    monkeypatch.setattr(yardsticks, "lower_bound", noted)
    found = compare(scenario, contenders(scenario, ["toy_spread", "toy_coin"]), [3, 5], target=0.9, jobs=1)
    assert found.bounds == (2.0, 3.0)
    assert len(asked) == 2
    row = make_row(Contender("x", "x"), [run_of(2.0), run_of(6.0)], None, found.bounds)
    assert row["cost_vs_bound"].mean == 1.5  # the mean of 1 and 2, not 8 / 5
    assert math.isnan(make_row(Contender("x", "x"), [run_of(2.0)], None)["cost_vs_bound"].mean)


def test_minima_count_in_the_bound_of_a_fleet_that_scales(scenario):
    trace = scenario.workload.sample(np.random.default_rng(0), scenario.horizon_s)
    entered = contenders(scenario, ["toy_spread+toy_rate"])
    (kind,) = scenario.fleet.types
    big = replace(scenario, fleet=Fleet((replace(kind, minimum=2),)))
    scaling = [compare(one, entered, [0], jobs=1).bounds for one in (scenario, big)]
    assert scaling[0] == (yardsticks.lower_bound(scenario, trace).value,)
    assert scaling[1] == (2 * kind.price_per_s * trace.arrival_s[-1],)


def test_the_bound_of_a_fixed_fleet_is_that_of_any_size(scenario):
    entered = contenders(fixed(scenario), ["toy_spread"])
    (kind,) = scenario.fleet.types
    free = replace(scenario, fleet=Fleet((replace(kind, minimum=0),)))
    trace = free.workload.sample(np.random.default_rng(0), free.horizon_s)
    bound = yardsticks.lower_bound(free, trace).value
    ladder = Ladder.of(scenario, most=8)
    side_by_side, searched = (
        compare(fixed(scenario), entered, [0], jobs=1),
        compare_fewest(
            replace(scenario, fleet=Fleet((replace(kind, minimum=2),))), entered, [0], ladder=ladder, jobs=1
        ),
    )
    for found in (side_by_side, searched):
        assert found.bounds == (bound,)
        assert found.rows[0]["cost_vs_bound"].mean == found.rows[0]["cost"].mean / bound


def test_sorted_by_cost_among_those_that_hold_then_by_attainment():
    made = [("dear", 3.0, 0.999), ("cheap", 1.0, 0.99), ("poor", 0.5, 0.5), ("fair", 9.0, 0.9)]
    rows = [make_row(Contender(name, name), [run_of(cost, share)], None) for name, cost, share in made]
    assert [row.policy for row in in_order(rows, 0.99)] == ["cheap", "dear", "fair", "poor"]


def test_a_fixed_trace_says_what_its_intervals_mean(scenario, trace_file):
    under = scenario.with_workload(Workload.from_file(trace_file))
    entered = contenders(under, ["toy_spread"])
    notes = compare(under, entered, [0, 1], jobs=1).notes
    assert any("same under every seed" in note for note in notes)
    assert not any("same under every seed" in note for note in compare(under, entered, [0], jobs=1).notes)


def test_more_load_never_needs_fewer_workers(scenario):
    least = []
    for rate in (5.0, 60.0, 120.0):
        heavy = replace(scenario, workload=Workload.generated(Poisson(rate), FixedLengths(400, 60)))
        entered = contenders(fixed(heavy), ["least_request"])
        found = compare_fewest(heavy, entered, [0], jobs=1, ladder=Ladder.of(heavy, most=32))
        least.append(found.rows[0].workers)
    assert least == sorted(least)
    assert least[0] < least[-1]


def test_the_table_fits_and_names_are_whole(cli, scenario_file):
    policies = "toy_spread+toy_rate,aladdin,least_request,power_of_two+toy_rate"
    answer = cli("compare", "--scenario", scenario_file, "--policies", policies, "--seeds", 2)
    assert answer.exit_code == 0, answer.stderr
    assert max(len(line) for line in answer.stdout.splitlines()) <= 120
    for name in ("toy_spread+toy_rate", "aladdin+aladdin", "least_request+aladdin", "power_of_two+toy_rate", "±"):
        assert name in answer.stdout
    assert "scaler toy_rate: rps_per_worker=2" in answer.stdout
    assert "vs bound: over a cost below which no policy meets it for 99 %" in answer.stdout
    assert "simulating" in answer.stderr


def test_several_worker_types(cli):
    common = ("compare", "--scenario", "mixed-fleet", "--horizon", 20, "--policies", "toy_spread", "--json")
    answer = cli(*common, "--workers", "h100=4", "--workers", "a100=2")
    assert answer.exit_code == 0, answer.stderr
    found = cli(*common, "--min-gpus", 0.9, "--workers", "h100=2", "--workers", "a100=1", "--max-workers", 30)
    assert found.exit_code == 0, found.stderr
    (row,) = json.loads(found.stdout)
    assert row["workers"] == row["gpus"] > 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files(cli, scenario_file, tmp_path, suffix):
    out, plot = tmp_path / f"rows{suffix}", tmp_path / "picture.png"
    answer = cli(
        "compare", "--scenario", scenario_file, "--policies", "toy_spread,aladdin", "--out", out, "--plot", plot
    )
    assert answer.exit_code == 0, answer.stderr
    frame = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert list(frame.columns) == KEYS
    assert len(frame) == 2
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_folder_gets_table_and_picture(cli, scenario_file, tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    answer = cli("compare", "--scenario", scenario_file, "--policies", "toy_spread,aladdin", "--out", folder)
    assert answer.exit_code == 0, answer.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.csv", "comparison.png"]


def test_a_trace_decides_the_load(cli, scenario_file, trace_file):
    common = ("compare", "--scenario", scenario_file, "--trace", trace_file, "--policies", "toy_spread", "--json")
    (plain,), (fast,) = (json.loads(cli(*common, *more).stdout) for more in ((), ("--rate-scale", 10)))
    assert fast["goodput_rps"] > 2 * plain["goodput_rps"]


def test_compiling_is_announced(scenario_file, monkeypatch):
    from aladdin_env.cli import output

    monkeypatch.setattr(output, "is_cold", lambda: True)
    answer = CliRunner().invoke(app, ["policies", "--scenario", str(scenario_file), "--json"])
    assert "compiling, once" in answer.stderr
