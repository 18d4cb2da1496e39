"""Against real vLLM servers: calibrate one, validate against it, two workers side by side.

Other processes share this machine's cores, so the bounds are wide; the figures of a quiet machine are in the README.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from aladdin_calibration.engine.measure import replay
from aladdin_calibration.measurement import Measurement, WorkerFacts
from aladdin_env.cli.app import app
from aladdin_env.latency import LatencyProfile, load_profile
from aladdin_env.simulator.run import Simulator
from experiments.calibration.local_server import ENVIRONMENT, PYTHON, SHAPES
from experiments.calibration.truth import bench, law_clock, scenario_of, trace_of
from tests.live.conftest import SETTINGS

pytestmark = pytest.mark.live
ENGINE_LIMITS = ["--max-num-seqs", str(SETTINGS.max_num_seqs), "--block-size", str(SETTINGS.block_size)]
ENGINE_LIMITS += ["--max-num-batched-tokens", str(SETTINGS.max_num_batched_tokens)]
LIGHT = ["--scenario", "sharegpt-poisson", "--max-prompt", "256", "--max-output", "32", "--ttft", "2", "--atgt", "0.2"]


def aladdin(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def profile(servers: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile measured at the first server, from outside."""
    out = tmp_path_factory.mktemp("live") / "profile.json"
    aladdin("calibrate", "--url", servers[0], "-o", str(out), "--budget", "60", "--max-share", "0.9", "--yes")
    return out


def test_a_running_server_is_calibrated_from_outside(profile: Path) -> None:
    found = LatencyProfile.from_json(profile)
    measured = Measurement.load(profile.with_suffix(".parquet"))
    facts = measured.facts
    assert set(measured.steps["kind"]) == {"prefill", "decode", "mixed"}
    assert facts.kv_capacity_tokens == found.kv_capacity_tokens
    assert facts.block_size == SETTINGS.block_size
    assert facts.max_model_len == SETTINGS.max_model_len
    assert facts.engine_version
    assert "server" in facts.clock
    # A longer prompt, a larger batch and a longer context all take time.
    assert found.prefill_s(512) > 2 * found.prefill_s(16)
    assert found.decode_s(8, 8 * 256) > found.decode_s(1, 256)
    for page in (".png", ".md"):
        assert profile.with_suffix(page).stat().st_size > 500


def test_a_calibration_is_continued_not_repeated(profile: Path, servers: list[str]) -> None:
    raw = profile.with_suffix(".parquet")
    before = Measurement.load(raw).steps
    aladdin("calibrate", "--url", servers[0], "-o", str(profile), "--budget", "5", "--max-share", "0.9", "--yes")
    after = Measurement.load(raw).steps
    assert len(after) >= len(before)
    assert before["seconds"].isin(after["seconds"]).all()


def validated(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(aladdin("validate", *arguments, *ENGINE_LIMITS, *LIGHT, "--json")))


def test_the_profile_predicts_the_server(profile: Path, servers: list[str]) -> None:
    found = validated("--url", servers[0], "--profile", str(profile), "--rate", "1.5", "--horizon", "30")
    assert found["failed"] == 0
    assert found["preemptions_error"] == 0.0
    for name in ("ttft_p50_error", "atgt_p50_error"):
        assert abs(found[name]) < 0.5, found
    assert abs(found["attainment_error"]) < 20.0, found
    assert {"ttft_p99_error", "atgt_p99_error", "e2e_p90_error", "throughput_error"} <= set(found)


def test_two_workers_side_by_side_under_a_policy(profile: Path, servers: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    urls = [part for url in servers for part in ("--url", url)]
    more = ["--rate", "2", "--horizon", "20", "--policy", "least_request", "--out", str(out)]
    found = validated(*urls, "--profile", str(profile), *more)
    import pandas as pd

    rows = pd.read_csv(out)
    assert found["failed"] == 0
    assert set(rows["worker"]) == {0, 1}
    assert rows["output_tokens"].eq(rows["simulated_generated_tokens"]).all()


@pytest.mark.parametrize("kv_blocks", [None, 65], ids=["plenty of KV", "preemption"])
def test_the_simulator_decides_as_vllm_does(vllm: None, kv_blocks: int | None) -> None:
    """With steps as long as the laws say, every token of every request comes at the same instant in both."""
    tested, profile = bench("llama-24m", 60, 0.0), load_profile("llama-110m-cpu")
    run = tested.run() if kv_blocks is None else tested.run(num_gpu_blocks_override=kv_blocks + 1)
    trace = trace_of(3.0 if kv_blocks is None else 8.0, 60, seed=1)
    facts = WorkerFacts("m", "g", "vllm", "", "laws", "", block_size=32, max_num_seqs=32, max_num_batched_tokens=512)
    scenario = scenario_of(profile, facts, trace, kv_blocks)
    real, preemptions = replay(run, trace, law_clock(profile))
    simulated = Simulator(scenario, 0).run("least_request").requests
    assert (preemptions > 0) == (kv_blocks is not None)
    assert preemptions == simulated["preemptions"].sum()
    for name in ("first_token_s", "finish_s"):
        np.testing.assert_allclose(simulated[name], real[name], rtol=0, atol=1e-8)


def test_an_engine_is_measured_from_inside(vllm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "engine.json"
    arguments = {
        "dtype": "float32",
        "enforce_eager": "true",
        "block_size": "32",
        "max_model_len": "512",
        "max_num_seqs": "9",
        "max_num_batched_tokens": "256",
        "kv_cache_memory_bytes": str(64 * 2**20),
    }
    given = [part for key, value in arguments.items() for part in ("--engine-arg", f"{key}={value}")]
    model = str(SHAPES / "llama-24m")
    aladdin(
        *("calibrate", "--engine", model, "--load-format", "dummy", "--python", str(PYTHON), "--budget", "30"),
        *(*given, "-o", str(out)),
    )
    measured = Measurement.load(out.with_suffix(".parquet"))
    assert measured.facts.kv_bytes_per_token == 2 * 6 * 8 * 64 * 4
    assert "CPU time" in measured.facts.clock
    assert LatencyProfile.from_json(out).decode_s(8, 8 * 64) > 0
