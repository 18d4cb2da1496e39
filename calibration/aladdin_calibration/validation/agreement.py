"""What was measured beside what was simulated: TTFT, ATGT, end-to-end time, SLO attainment, throughput."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aladdin_env.scenario import SLO
from aladdin_traces.errors import InputError

PERCENTILES = (50, 90, 99)
Times = NDArray[np.float64]
CLOCKS = ("client", "server")


@dataclass(frozen=True)
class Agreement:
    """The comparison.

    Attributes:
        table: A row per measure (``ttft_p50_s`` ... ``attainment``, ``throughput_rps``, ``output_tokens_per_s``,
            ``preemptions`` where known): columns ``real``, ``simulated``, ``error`` (relative; of the attainment the
            difference in points).
        clock: Whose clock timed the real requests.
        requests: How many were compared.
        failed: How many failed on the real servers; they count as missed SLOs, there is no time to compare.
        late_p99_s: The 99th percentile of how much later than planned the client got to a request.
    """

    table: pd.DataFrame
    clock: str
    requests: int
    failed: int
    late_p99_s: float

    def summary(self) -> dict[str, float | str]:
        """Flat names and values: the errors first."""
        errors = {_error_name(name): float(value) for name, value in self.table["error"].items()}
        real = {f"real_{name}": float(value) for name, value in self.table["real"].items()}
        simulated = {f"simulated_{name}": float(value) for name, value in self.table["simulated"].items()}
        told: dict[str, float | str] = {
            "clock": self.clock,
            "requests": self.requests,
            "failed": self.failed,
            "late_p99_s": self.late_p99_s,
        }
        return {**errors, **told, **real, **simulated}


def _error_name(measure: object) -> str:
    return f"{str(measure).removesuffix('_s').removesuffix('_rps')}_error"


def compare(
    real: pd.DataFrame,
    simulated: pd.DataFrame,
    slo: SLO,
    clock: str = "client",
    preemptions: int | None = None,
    overhead_s: float = 0.0,
) -> Agreement:
    """Compare a replay with the simulation of the same requests.

    Args:
        real: Rows of :meth:`aladdin_calibration.validation.replay.Replay.run`.
        simulated: ``Result.requests`` of the same trace, in the same order.
        slo: Objectives, by class.
        clock: ``client``, or ``server`` where every served request carries the server's own times.
        preemptions: How many the real servers counted; None where unknown.
        overhead_s: What the simulated front end adds to every token: the server's own clock does not see it.

    Raises:
        InputError: The rows do not belong together, or the server's clock is asked for and missing.
    """
    if len(real) != len(simulated):
        raise InputError("simulated", len(simulated), f"give the same {len(real)} requests")
    targets = slo.targets()[real["klass"].to_numpy()]
    unseen_s = overhead_s if clock == "server" else 0.0
    measured, predicted = _real_times(real, clock), _simulated_times(simulated, unseen_s)
    rows: dict[str, tuple[float, float]] = {}
    for name in ("ttft", "atgt", "e2e"):
        both = np.isfinite(measured[name]) & np.isfinite(predicted[name])
        for p in PERCENTILES:
            rows[f"{name}_p{p}_s"] = (_percentile(measured[name][both], p), _percentile(predicted[name][both], p))
        rows[f"{name}_mean_s"] = (_mean(measured[name][both]), _mean(predicted[name][both]))
    rows["attainment"] = (_attainment(measured, targets), _attainment(predicted, targets))
    rows["throughput_rps"] = (_rate(real, "finish_s"), _rate(simulated, "finish_s"))
    if preemptions is not None:
        rows["preemptions"] = (float(preemptions), float(simulated["preemptions"].sum()))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["real", "simulated"])
    table["error"] = [(b - a) * 100 if name == "attainment" else _relative(a, b) for name, (a, b) in rows.items()]
    return Agreement(
        table,
        clock,
        len(real),
        int((real["error"] != "").sum()),
        float(real["late_s"].quantile(0.99)),
    )


def _real_times(real: pd.DataFrame, clock: str) -> dict[str, Times]:
    """TTFT, ATGT and end-to-end seconds of every request; NaN where it failed."""
    served = (real["error"] == "").to_numpy()
    output = real["output_tokens"].to_numpy(dtype=float)
    if clock == "server":
        ttft = (real["server_queue_s"] + real["server_first_token_s"]).to_numpy(dtype=float)
        atgt = real["server_atgt_s"].to_numpy(dtype=float)
        if np.isnan(ttft[served]).any():
            raise InputError(
                "clock", clock, "the server gives no times of its own; start it with --enable-per-request-metrics"
            )
        e2e = ttft + np.where(output > 1, atgt * (output - 1), 0.0)
    elif clock == "client":
        ttft = (real["first_token_s"] - real["arrival_s"]).to_numpy(dtype=float)
        e2e = (real["finish_s"] - real["arrival_s"]).to_numpy(dtype=float)
        atgt = (e2e - ttft) / np.maximum(output - 1, 1)
    else:
        raise InputError("clock", clock, f"give one of {', '.join(CLOCKS)}")
    atgt = np.where(output > 1, atgt, np.nan)
    return {name: np.where(served, times, np.nan) for name, times in (("ttft", ttft), ("atgt", atgt), ("e2e", e2e))}


def _simulated_times(simulated: pd.DataFrame, unseen_s: float) -> dict[str, Times]:
    generated = simulated["generated_tokens"].to_numpy(dtype=float)
    ttft = (simulated["first_token_s"] - simulated["arrival_s"]).to_numpy(dtype=float) - unseen_s
    e2e = (simulated["finish_s"] - simulated["arrival_s"]).to_numpy(dtype=float) - unseen_s
    atgt = np.where(generated > 1, (e2e - ttft) / np.maximum(generated - 1, 1), np.nan)
    return {"ttft": ttft, "atgt": atgt, "e2e": e2e}


def _attainment(times: dict[str, Times], targets: Times) -> float:
    """Share of all requests that were served with both objectives met; without a second token only the first counts."""
    paced = np.isnan(times["atgt"]) | (times["atgt"] <= targets[:, 1])
    return float(np.mean((times["ttft"] <= targets[:, 0]) & paced))


def _rate(rows: pd.DataFrame, column: str) -> float:
    ended = rows[column].dropna()
    return len(ended) / float(ended.max()) if len(ended) else np.nan


def _percentile(values: Times, p: int) -> float:
    return float(np.percentile(values, p)) if len(values) else np.nan


def _mean(values: Times) -> float:
    return float(values.mean()) if len(values) else np.nan


def _relative(real: float, simulated: float) -> float:
    if real == simulated:
        return 0.0
    return simulated / real - 1.0 if real != 0 else np.inf
