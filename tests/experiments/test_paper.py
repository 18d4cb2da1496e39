"""Every figure of the paper in its quick form: table, picture, and the two lines."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from experiments.paper import everything
from experiments.paper.jsq_counterexample import REQUESTS
from experiments.paper.shared import Asked

COLUMNS = {
    "length_cdf": ["prompt_bucket", "requests", "quantile", "output_tokens"],
    "jsq_counterexample": ["policy", "request", "worker", "ttft_s", "atgt_s", "met"],
    "model_validation": ["source", "law", "error_of", "median", "p95"],
    "scheduling_latency": ["workers", "rate_rps", "decision_p50_us", "decision_p90_us"],
    "worker_size": ["model", "gpu", "gpus_per_worker", "formula_rps_per_gpu", "binds", "simulated_rps_per_gpu"],
    "attainment_vs_rate": ["rate_rps", "policy", "attainment", "attainment_low", "atgt_p99_s"],
    "gpus_vs_rate": ["setting", "rate_rps", "system", "gpus", "gpus_low", "gpus_high", "saved"],
    "split_phase": ["load", "atgt_ms", "policy", "gpus", "saved_against_jsq", "saved_against_power_of_two"],
    "whole_system": ["day", "atgt_ms", "system", "gpus", "saved", "attainment", "held", "seeds"],
    "prediction_ablation": ["setting", "variant", "gpus", "attainment", "preemptions", "on_workers"],
    "theta_gamma": ["parameter", "share", "gpus", "attainment", "on_workers"],
    "parts": ["setting", "variant", "gpus", "attainment"],
}


def quick(name: str, folder: Path, *more: str) -> pd.DataFrame:
    import_module(f"experiments.paper.{name}").main(["--quick", "--jobs", "1", "--out", str(folder), *more])
    return pd.read_csv(folder / f"{name}.csv")


def test_every_script_is_tested() -> None:
    assert set(everything.NAMES) == set(COLUMNS)


@pytest.mark.slow
@pytest.mark.parametrize("name", everything.NAMES)
def test_writes_its_table_and_picture_and_says_both_lines(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = quick(name, tmp_path)
    assert len(table) > 0 and set(COLUMNS[name]) <= set(table.columns)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    paper, here = capsys.readouterr().out.splitlines()
    assert paper.startswith("paper: ") and here.startswith("here:  ") and "nan" not in here


def test_the_counterexample_is_one(tmp_path: Path) -> None:
    table = quick("jsq_counterexample", tmp_path)
    missed = table[~table["met"]]
    assert set(missed["policy"]) == {"least_request"} and set(missed["request"]) == {"D", "F", "G"}
    assert len(table) == 2 * len(REQUESTS)


def test_a_recorded_trace_is_taken(tmp_path: Path) -> None:
    trace = tmp_path / "lengths.csv"
    rows = "\n".join(f"{i},{100 + i % 3},{10 * (i % 7 + 1)}" for i in range(60))
    trace.write_text(f"arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}\n")
    table = quick("length_cdf", tmp_path, "--trace", str(trace))
    assert table["requests"].unique().tolist() == [60] and table["output_tokens"].max() == 70


def test_resume_leaves_out_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "NAMES", ("length_cdf", "jsq_counterexample"))
    (tmp_path / "length_cdf.csv").write_text("kept\n")
    everything.main(["--quick", "--resume", "--out", str(tmp_path)])
    assert (tmp_path / "length_cdf.csv").read_text() == "kept\n"
    assert (tmp_path / "jsq_counterexample.png").exists()
    assert "length_cdf" not in capsys.readouterr().out


def test_an_interrupt_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(asked: Asked) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(everything, "NAMES", ("length_cdf",))
    monkeypatch.setattr("experiments.paper.length_cdf.find", interrupted)
    with pytest.raises(SystemExit) as ended:
        everything.main(["--quick", "--out", str(tmp_path)])
    assert ended.value.code == 130 and "--resume" in capsys.readouterr().err
