"""``aladdin benchmark run | table | verify`` from the command line."""

import json
import shutil
from pathlib import Path

import pytest

from aladdin_agents.benchmark.results import read_rows
from aladdin_agents.benchmark.run import Asked, benchmark

RUN = ("benchmark", "run", "--task", "placement", "--scenario", "steady", "--jobs", 1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two policies under two seeds, and the bounds."""
    asked = Asked("validate", ("placement",), ("steady",), ("least_request", "aladdin"), 2)
    path = tmp_path_factory.mktemp("measured") / "r.csv"
    benchmark(asked, path, jobs=1)
    return path


@pytest.fixture
def results(cli, tmp_path, measured):
    return Path(shutil.copy(measured, tmp_path))


def test_run(cli, tmp_path, results, same):
    done = cli(*RUN, "--policy", "least_request", "--policy", "aladdin", "--seeds", 2, "--out", "again.csv")
    assert done.exit_code == 0 and "again.csv: 6 new rows" in done.stderr
    assert all(map(same, read_rows(tmp_path / "again.csv"), read_rows(results)))


def test_run_again_runs_nothing(cli, results):
    before = results.read_text()
    done = cli(*RUN, "--policy", "least_request", "--seeds", 2, "--out", "r.csv")
    assert done.exit_code == 0 and "has 4 of 4 rows already" in done.stderr and "0 new rows" in done.stderr
    assert results.read_text() == before


def test_the_file_has_a_name_by_default(cli, tmp_path):
    assert cli(*RUN, "--policy", "least_request", "--seeds", 1).exit_code == 0
    assert len(read_rows(tmp_path / "benchmark-v1-validate.csv")) == 2


def test_table(cli, results):
    done = cli("benchmark", "table", "r.csv")
    assert done.exit_code == 0
    assert "validate, placement" in done.stdout and "least_request" in done.stdout and "vs" in done.stdout
    assert "fewer than 10 seeds" in done.stdout


def test_table_as_json(cli, results):
    lines = json.loads(cli("benchmark", "table", "r.csv", "--json").stdout)
    assert [line["policy"] for line in lines] == ["aladdin", "least_request"]
    assert lines[0]["goodput_vs_aladdin"] == 1.0 and lines[0]["cost_vs_bound"] is None
    assert lines[1]["goodput_vs_best_heuristic"] < 1.0 and lines[1]["goodput_vs_bound"] < 1.0
    assert cli("benchmark", "table", "r.csv", "--json", "--task", "joint").exit_code == 2


def test_verify_agrees(cli, results):
    done = cli("benchmark", "verify", "r.csv", "--jobs", 1)
    assert done.exit_code == 0 and "6 of 6 rows come out the same" in done.stdout


def test_verify_finds_what_was_changed(cli, results):
    row = next(row for row in read_rows(results) if row.policy == "least_request")
    results.write_text(results.read_text().replace(repr(row.slo_attainment), "0.9999"))
    done = cli("benchmark", "verify", "r.csv", "--jobs", 1)
    assert done.exit_code == 1
    assert "slo_attainment 0.9999 is now" in done.stdout and "5 of 6" in done.stdout
    assert f"least_request/{row.seed}" in done.stdout


def test_verify_some_rows(cli, results):
    done = cli("benchmark", "verify", "r.csv", "--rows", 2, "--jobs", 1)
    assert done.exit_code == 0 and "2 of 2" in done.stdout


def test_verify_refuses_another_policy_file(cli, results, tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"other weights")
    results.write_text(results.read_text().replace(",aladdin,", ",mine.npz,"))
    done = cli("benchmark", "verify", "r.csv", "--jobs", 1)
    assert done.exit_code == 2 and "mine.npz" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--split", "tset"), "did you mean 'test'"),
        (("run", "--task", "joint", "--scenario", "steddy"), "did you mean 'steady'"),
        (("run", "--policy", "nobody"), "nobody"),
        (("run", "--jobs", "0"), "--jobs"),
        (("run", "--out", "nowhere/r.csv"), "--out"),
        (("table", "missing.csv"), "missing.csv"),
        (("table", "r.csv", "--task", "place"), "did you mean 'placement'"),
        (("table", "r.csv", "--scenario", "steddy"), "did you mean 'steady'"),
        (("verify", "r.csv", "--rows", "0"), "--rows"),
    ],
)
def test_a_mistake_is_one_line(cli, results, arguments, message):
    done = cli("benchmark", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
