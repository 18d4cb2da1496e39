"""aladdin trace info and fit: figures, pictures, workloads, mistakes."""

import json
import re
import tomllib

import numpy as np
import pytest

from aladdin_env.presets import load_scenario
from aladdin_env.scenario_file import write_scenario
from aladdin_traces import WORKLOADS, Poisson, Trace, Workload, describe, read_trace, write_trace
from aladdin_traces.figure import draw_trace

MOONCAKE = """\
{"timestamp": 0, "input_length": 1200, "output_length": 50, "hash_ids": [0, 1, 2]}
{"timestamp": 1500, "input_length": 1500, "output_length": 20, "hash_ids": [0, 1, 3]}
{"timestamp": 4000, "input_length": 100, "output_length": 10, "hash_ids": [4]}
"""


@pytest.fixture
def hour(tmp_path):
    path = tmp_path / "hour.csv.gz"
    write_trace(
        Workload.generated(Poisson(1.0), "azure-conv", (0.5, 0.5)).sample(np.random.default_rng(0), 900.0), path
    )
    return path


def test_info_as_text_and_json(cli, hour):
    done = cli("trace", "info", hour)
    assert done.exit_code == 0, done.stderr
    for what in ("requests", "dispersion, 10 s", "prompt tokens", "Spearman", "classes"):
        assert what in done.stdout
    found = json.loads(cli("trace", "info", hour, "--json").stdout)
    assert found["requests"] == len(read_trace(hour))
    assert set(found["dispersion"]) == {"1.0", "10.0", "60.0"}
    assert found["reuse"] is None


def test_info_tells_of_reuse(cli, tmp_path):
    path = tmp_path / "mooncake.jsonl"
    path.write_text(MOONCAKE)
    found = json.loads(cli("trace", "info", path, "--cache", 1, "--cache", 2, "--json").stdout)
    assert found["reuse"]["ideal"] == pytest.approx(1024 / 2800)
    assert found["reuse"]["lru"] == {"1": pytest.approx(512 / 2800), "2": pytest.approx(1024 / 2800)}
    assert found["dispersion"]["60.0"] is None
    done = cli("trace", "info", path)
    assert "hit ratio, 10,000 blocks" in done.stdout


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_info_draws(cli, hour, tmp_path, suffix):
    picture = tmp_path / f"hour.{suffix}"
    done = cli("trace", "info", hour, "--plot", picture)
    assert done.exit_code == 0, done.stderr
    assert picture.stat().st_size > 5000


@pytest.mark.parametrize("name", ["mooncake-conversation", "azure-code"])
def test_all_panels_are_drawn(name):
    trace = WORKLOADS[name].sample(np.random.default_rng(0), 1200.0)
    figure = draw_trace(trace, describe(trace), name)
    figure.canvas.draw()
    assert len(figure.axes) == 6
    assert all(axes.get_title(loc="left") for axes in figure.axes)
    assert all(axes.get_xlabel() for axes in figure.axes[:5])


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0, 0.0], [5.0, 5.0], [0.0, 1e-9], [0.0, 1e9]])
def test_the_smallest_traces_are_drawn_too(times, tmp_path):
    trace = Trace.from_arrays(times, [1] * len(times), [2**31 - 1] * len(times))
    draw_trace(trace, describe(trace), "tiny").savefig(tmp_path / "tiny.png")


def test_a_trace_without_times_has_no_rate(cli, tmp_path):
    path = tmp_path / "lengths.csv"
    path.write_text("prompt_tokens,output_tokens\n10,20\n30,40\n")
    trace = read_trace(path)
    assert draw_trace(trace, describe(trace), "t").get_suptitle() == "t: 2 requests, no times"
    assert json.loads(cli("trace", "info", path, "--json").stdout)["rate_rps"] is None
    said = cli("trace", "info", path).stdout
    assert "no times" in said and "inf" not in said


def test_info_tells_what_the_reader_did(cli, tmp_path):
    path = tmp_path / "mooncake.jsonl"
    path.write_text(MOONCAKE.replace("4000", "1000").replace('"output_length": 50', '"output_length": 0'))
    said = cli("trace", "info", path, "--sort").stdout
    assert "dropped: 1 with output_tokens <= 0; 1 rows moved to sort by arrival" in " ".join(said.split())


def test_fit_writes_a_workload_that_loads(cli, hour, tmp_path, scenario):
    out = tmp_path / "workload.toml"
    done = cli("trace", "fit", hour, "-o", out)
    assert done.exit_code == 0, done.stderr
    assert "KS distance" in done.stdout
    table = tomllib.loads(out.read_text())["workload"]
    workload = Workload.from_dict(table)
    assert workload.mean_rate_rps == pytest.approx(read_trace(hour).rate_rps)
    scenario = scenario.with_workload(workload)
    write_scenario(scenario, tmp_path / "scenario.toml")
    assert load_scenario(str(tmp_path / "scenario.toml")).workload == workload
    found = json.loads(cli("trace", "fit", hour, "--json").stdout)
    assert found["workload"] == table
    assert found["ks_prompt"] < 0.1
    assert min(found["lengths_bic"], key=found["lengths_bic"].get) in found["chosen"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "absent.csv"), "absent.csv"),
        (("info", "FILE", "--plot", "a.gif"), "--plot: 'a.gif' .*must end in .png or .svg or .pdf"),
        (("info", "FILE", "--plot", "no/a.png"), "--plot: 'no/a.png'"),
        (("info", "FILE", "--cache", "0"), "--cache: 0"),
        (("info", "FILE", "--format", "azur"), "format: 'azur'"),
        (("fit", "FILE", "-o", "a.json"), "--out: 'a.json' .*must end in .toml"),
        (("fit", "FILE", "--seed", "-1"), "--seed: -1"),
        (("fit", "FEW"), "trace: '3 requests' .*at least 100"),
    ],
)
def test_mistakes_are_one_line(cli, hour, tmp_path, arguments, message):
    few = tmp_path / "few.jsonl"
    few.write_text(MOONCAKE)
    done = cli("trace", *({"FILE": hour, "FEW": few}.get(part, part) for part in arguments))
    assert done.exit_code == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.search(message, line)
