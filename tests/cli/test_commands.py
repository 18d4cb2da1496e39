"""The other commands: simulate, plan, scenarios, policies, bench, help, completion."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from aladdin_env import presets
from aladdin_env.compare import planning
from aladdin_env.compare.planning import Sizing, plan
from aladdin_env.scenario_file import read_scenario
from aladdin_env.simulator.run import simulate
from aladdin_traces import FixedLengths, Poisson, Workload

# --- simulate ---


def test_simulate_gives_what_the_library_gives(cli, scenario, scenario_file):
    answer = cli("simulate", scenario_file, "--policy", "toy_spread+toy_rate", "--seed", 5, "--json")
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["scenario"], found["policy"], found["seeds"]) == ("small", "toy_spread+toy_rate", [5])
    expected = simulate(scenario, "toy_spread+toy_rate", 5).summary
    assert {name: found[name] for name in expected} == expected


def test_simulate_several_seeds(cli, scenario_file):
    found = json.loads(cli("simulate", scenario_file, "--policy", "toy_spread", "--seeds", 3, "--json").stdout)
    assert found["seeds"] == [0, 1, 2]
    assert found["cost_low"] < found["cost"] < found["cost_high"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_simulate_writes_requests_and_fleet(cli, scenario, scenario_file, tmp_path, suffix):
    out, fleet = tmp_path / f"requests.{suffix}", tmp_path / "fleet.csv"
    answer = cli("simulate", scenario_file, "--policy", "toy_spread", "--out", out, "--fleet", fleet, "--workers", 2)
    assert answer.exit_code == 0, answer.stderr
    assert "slo_attainment" in answer.stdout
    expected = simulate(scenario.with_workers((2,)), "toy_spread", 0)
    read = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert list(read.columns) == list(expected.requests.columns)
    assert read["finish_s"].to_numpy() == pytest.approx(expected.requests["finish_s"].to_numpy())
    assert (pd.read_csv(fleet)["gpus"] == 2).all()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "fleet.csv", f"requests.{suffix}", "small.toml",
    ]  # fmt: skip


# --- plan ---

PLAN = ("plan", "--horizon", 40, "--rate", 20, "--lengths", "sharegpt", "--ttft", 1, "--atgt", 0.03)


def test_plan_chooses_the_fewest_gpus(cli):
    profiles = "llama-3.1-8b-h100-tp1,llama-3.1-8b-h100-tp2"
    answer = cli(*PLAN, "--profile", profiles, "--policy", "least_request", "--json")
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["rate_rps"] == 20
    gpus = [candidate["gpus"] for candidate in found["candidates"]]
    assert found["best"] == found["candidates"][0]
    assert found["best"]["gpus"] == min(gpus)
    for candidate in found["candidates"]:
        assert candidate["slo_attainment"] >= 0.99
        assert candidate["gpus"] == candidate["workers"] * candidate["gpus_per_worker"]


def test_plan_holds_and_one_worker_less_does_not(scenario):
    heavy = scenario.with_workload(Workload.generated(Poisson(80.0), FixedLengths(400, 60)))
    found = plan(heavy, policy="least_request", jobs=1)
    assert found.best is not None
    assert found.best.workers > 1
    for less, holds in ((0, True), (1, False)):
        fleet = heavy.with_workers((found.best.workers - less,))
        assert (simulate(fleet, "least_request", 0).summary["slo_attainment"] >= 0.99) == holds


def test_the_planners_size_is_shown_and_does_not_change_the_answer(scenario, monkeypatch):
    answers = []
    for workers in (1, 3, 9):
        monkeypatch.setattr(planning, "_sized", lambda one, n=workers: {"h100": Sizing(n)})
        found = plan(scenario, policy="toy_spread", jobs=1)
        assert found.candidates[0].sizing.workers == workers
        answers.append(found.best.workers)
    assert len(set(answers)) == 1


def test_a_beginning_stands_for_all_sizes(cli):
    answer = cli(*PLAN, "--profile", "llama-3.1-8b-h200", "--policy", "least_request", "--json", "--by", "cost")
    found = json.loads(answer.stdout)["candidates"]
    assert sorted(one["profile"][-3:] for one in found) == ["tp1", "tp2", "tp4", "tp8"]
    assert [one["cost_per_hour"] for one in found] == sorted(one["cost_per_hour"] for one in found)


def test_a_type_that_cannot_serve_is_named_and_the_others_are_planned(cli):
    answer = cli(*PLAN[:-1], 0.006, "--profile", "llama-3.1-8b-h100-tp1,llama-3.1-8b-h100-tp8", "--policy",
                 "least_request")  # fmt: skip
    assert answer.exit_code == 0, answer.stderr
    assert "llama-3.1-8b-h100-tp1: slo.atgt_s" in answer.stdout
    assert "x llama-3.1-8b-h100-tp8:" in answer.stdout


def test_no_answer_is_exit_code_1(cli):
    answer = cli("plan", "--horizon", 20, "--rate", 200, "--profile", "llama-3.1-8b-h100-tp1", "--max-workers", 1,
                 "--policy", "least_request")  # fmt: skip
    assert answer.exit_code == 1
    assert "No worker type holds the SLO." in answer.stdout
    assert "no fleet of up to 1 workers" in answer.stdout


# --- lists ---


def test_scenarios_are_listed_with_a_line_each(cli):
    rows = json.loads(cli("scenarios", "--json").stdout)
    assert [row["name"] for row in rows] == presets.scenario_names()
    table = cli("scenarios").stdout
    assert all(row["name"] in table and row["description"] for row in rows)


@pytest.mark.parametrize("name", ["azure-conv", "mixed-fleet", "two-classes"])
def test_a_shown_scenario_can_be_given_back(cli, tmp_path, name):
    path = tmp_path / "shown.toml"
    path.write_text(cli("scenarios", "show", name).stdout)
    assert read_scenario(path) == presets.load_scenario(name)


def test_an_unknown_scenario_to_show(cli):
    answer = cli("scenarios", "show", "azure-com")
    assert answer.exit_code == 2
    assert "did you mean 'azure-conv'?" in answer.stderr


def test_policies_are_listed_with_settings(cli, scenario_file):
    rows = json.loads(cli("policies", "--scenario", scenario_file, "--json").stdout)
    by_name = {(row["kind"], row["name"]): row for row in rows}
    assert by_name["scaler", "toy_rate"]["settings"] == {"rps_per_worker": 2.0}
    assert by_name["placement", "toy_spread"]["description"] == "The worker with the fewest requests."
    assert "rps_per_worker=2" in cli("policies", "--scenario", scenario_file).stdout


# --- the rest ---


@pytest.mark.parametrize("command", [[], ["compare"], ["simulate"], ["plan"], ["bench"], ["scenarios"], ["policies"]])
def test_help(cli, command):
    answer = cli(*command, "--help")
    assert answer.exit_code == 0
    assert "Usage" in answer.stdout


def test_the_real_program(environment, scenario_file, tmp_path):
    command = [sys.executable, "-m", "aladdin_env.cli", "compare", "--scenario", scenario_file, "--jobs", "2"]
    more = ["--policies", "toy_spread,toy_coin", "--workers", "2", "--seeds", "2", "--json"]
    done = subprocess.run([*command, *more], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {row["policy"] for row in json.loads(done.stdout)} == {"toy_spread", "toy_coin"}


def test_the_real_program_names_a_mistake(environment, tmp_path):
    command = [sys.executable, "-m", "aladdin_env.cli", "simulate", "azure-con"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.startswith("aladdin: ") for line in done.stderr.splitlines()] == [True]


def test_shell_completion(environment):
    def complete(words):
        variables = {"_ALADDIN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            [sys.executable, "-m", "aladdin_env.cli"], env={**environment, **variables}, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        return done.stdout.split()

    assert "compare" in complete("aladdin com")
    assert complete("aladdin compare --scenario azure-co") == ["azure-conv", "azure-code"]
    assert complete("aladdin compare --policies toy_spread,toy_co") == ["toy_spread,toy_coin"]
