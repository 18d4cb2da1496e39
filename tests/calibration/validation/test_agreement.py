"""Real and simulated requests side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aladdin_calibration.validation.agreement import compare
from aladdin_env.scenario import SLO
from aladdin_traces.errors import InputError


def real_rows(n: int = 100) -> pd.DataFrame:
    at = np.arange(n, dtype=float)
    return pd.DataFrame(
        {
            "arrival_s": at,
            "late_s": 0.001,
            "sent_s": at + 0.001,
            "first_token_s": at + 0.2,
            "finish_s": at + 0.2 + 9 * 0.01,
            "server_queue_s": 0.05,
            "server_first_token_s": 0.1,
            "server_atgt_s": 0.009,
            "output_tokens": 10,
            "klass": 0,
            "error": "",
        }
    )


def simulated_rows(n: int = 100, ttft_s: float = 0.22, atgt_s: float = 0.009) -> pd.DataFrame:
    at = np.arange(n, dtype=float)
    return pd.DataFrame(
        {
            "arrival_s": at,
            "first_token_s": at + ttft_s,
            "finish_s": at + ttft_s + 9 * atgt_s,
            "generated_tokens": 10,
            "preemptions": 0,
        }
    )


def test_errors_are_those_of_the_simulation() -> None:
    summary = compare(real_rows(), simulated_rows(), SLO(1.0, 0.05)).summary()
    assert summary["ttft_p50_error"] == pytest.approx(0.1)
    assert summary["ttft_p99_error"] == pytest.approx(0.1)
    assert summary["atgt_p50_error"] == pytest.approx(-0.1)
    assert summary["attainment_error"] == 0.0
    assert summary["late_p99_s"] == pytest.approx(0.001)


def test_attainment_counts_failed_requests_as_missed_in_points() -> None:
    real = real_rows()
    real.loc[:9, "error"] = "answer 503"
    agreement = compare(real, simulated_rows(), SLO(1.0, 0.05), preemptions=3)
    assert agreement.failed == 10
    assert agreement.summary()["attainment_error"] == pytest.approx(10.0)
    assert agreement.table.loc["preemptions", "real"] == 3.0


def test_the_servers_own_clock_leaves_out_the_way() -> None:
    summary = compare(real_rows(), simulated_rows(), SLO(1.0, 0.05), clock="server").summary()
    assert summary["ttft_p50_error"] == pytest.approx(0.22 / 0.15 - 1)
    assert summary["atgt_p50_error"] == pytest.approx(0.0)


def test_a_clock_that_is_not_there_is_refused() -> None:
    real = real_rows().assign(server_first_token_s=np.nan)
    with pytest.raises(InputError, match="enable-per-request-metrics"):
        compare(real, simulated_rows(), SLO(), clock="server")
    with pytest.raises(InputError, match="client, server"):
        compare(real, simulated_rows(), SLO(), clock="sun")
    with pytest.raises(InputError, match="same 100"):
        compare(real, simulated_rows(50), SLO())
