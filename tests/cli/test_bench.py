"""The benchmarks at a small size: they run, they give what they say, their memory is what the arrays hold."""

import json

import pytest

from aladdin_env.bench import FIGURES, figure_names, report, run_bench
from aladdin_env.bench.decisions import decision_us
from aladdin_env.bench.memory import bytes_per_request
from aladdin_env.bench.throughput import day, result_rps, sim_rps
from aladdin_env.bench.worlds import Bench, bench_scenario

KEYS = {
    "sim_rps_16", "sim_rps_256", "sim_chunked_rps_16", "bytes_per_request", "aladdin_decision_us_16",
    "aladdin_decision_us_256", "aladdin_sim_rps_16", "vec_env_steps_per_s", "env_steps_per_s", "day_s",
}  # fmt: skip


def test_names():
    assert set(figure_names()) >= KEYS
    assert all(figure.what and figure.unit for figure in FIGURES)


def test_scenario_is_what_the_definition_says():
    scenario = bench_scenario(16, "chunked")
    assert scenario.workload.mean_rate_rps == 80.0
    assert scenario.horizon_s == 2500.0
    (kind,) = scenario.fleet.types
    assert (kind.initial, kind.minimum, kind.maximum, kind.scheduler) == (16, 16, 16, "chunked")


def test_the_load_is_realistic():
    from aladdin_env.simulator.run import simulate

    for policy in ("least_request", "aladdin"):
        assert simulate(bench_scenario(4, "prefill_first", 4000), policy).summary["slo_attainment"] > 0.99


def test_every_request_is_simulated():
    bench = Bench.of(bench_scenario(4, "prefill_first", 2000), "least_request")
    bench.whole()
    assert int(bench.world.cluster[0]["finished"]) == bench.requests > 1800


@pytest.mark.parametrize("measure", [sim_rps, result_rps])
def test_throughput(measure):
    assert measure(4, "prefill_first", "least_request", 2000) > 1000


def test_decisions():
    assert 0 < decision_us(2, "least_request") < 1000


def test_memory():
    from aladdin_env.simulator.state import REQUEST, TRUTH

    least = REQUEST.itemsize + TRUTH.itemsize
    assert least < bytes_per_request(20_000, 2) < least + 60


def test_day():
    found = day(requests_share=0.001)
    assert found["day_s"] == pytest.approx(found["day_draw_s"] + found["day_run_s"])
    assert found["day_requests"] > 1000


def test_json_and_file(cli, tmp_path, monkeypatch):
    small = report.Figure("sim_rps_16", "requests/s", "small", lambda: sim_rps(2, "chunked", "least_request", 500))
    other = report.Figure("sim_rps_256", "requests/s", "small", lambda: {"sim_rps_256": 2.0, "more": 3.0})
    monkeypatch.setattr(report, "FIGURES", (small, other))
    path = tmp_path / "bench.json"
    answer = cli("bench", "--json", "--out", path)
    assert answer.exit_code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert list(found) == ["sim_rps_16", "sim_rps_256", "more", "rps_256_over_16"]
    assert found["rps_256_over_16"] == pytest.approx(2.0 / found["sim_rps_16"])
    assert json.loads(path.read_text()) == found


def test_only(monkeypatch):
    monkeypatch.setattr(
        report, "FIGURES", (report.Figure("a", "s", "x", lambda: 1.0), report.Figure("b", "s", "x", lambda: 2.0))
    )
    assert run_bench(["b"]) == {"b": 2.0}
