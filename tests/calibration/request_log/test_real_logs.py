"""Two logs of real vLLM 0.19: fitted on the first half of the requests, judged on the second."""

from pathlib import Path

import pytest

from aladdin_calibration.request_log import fit_request_log, read_request_log
from experiments.calibration.log_fit import RUNS

FILE = Path(__file__).resolve().parents[3].parent / "shared" / "measurements" / "vllm_0.19_requests.csv"


@pytest.mark.slow
@pytest.mark.skipif(not FILE.is_file(), reason="the measurements of real servers are not beside the project")
@pytest.mark.parametrize("run", RUNS)
def test_the_second_half_is_predicted(run: str) -> None:
    model, limits = RUNS[run]
    fit = fit_request_log(read_request_log(FILE, {"model": model}), limits)
    assert abs(fit.held_out["ttft_mean"]) < 0.03
    assert abs(fit.held_out["tpot_mean"]) < 0.02
    assert abs(fit.held_out["latency_mean"]) < 0.02
    assert fit.kv.identified == ("4090" in run)
    if fit.kv.identified:  # usage stood at 100 % with about 42,000 tokens
        assert fit.kv.tokens == pytest.approx(42_000, rel=0.01)
