"""How far a simulation is from a log, in the figures that people read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aladdin_calibration.request_log.log import RequestLog

Array = npt.NDArray[np.float64]

MEASURES = ("ttft", "tpot", "latency")


def figures(log: RequestLog, simulated: Array, judged: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Signed relative errors over the ``judged`` requests (0.02: simulated 2 % too long).

    Per measure: of the mean, of the 50th, 90th and 99th percentile, and as ``..._median_absolute`` the median of the
    absolute errors of single requests.

    Args:
        log: n requests.
        simulated: TTFT, time per token and latency of each, seconds, shape (3, n).
        judged: which requests count, shape (n,).
    """
    found: dict[str, float] = {}
    for name, ours, theirs in zip(MEASURES, simulated, (log.ttft_s, log.tpot_s, log.latency_s), strict=True):
        rows = judged & np.isfinite(theirs)
        s, t = ours[rows], theirs[rows]
        if not len(t):
            continue
        found[f"{name}_mean"] = float(s.mean() / t.mean() - 1.0)
        for p in (50, 90, 99):
            found[f"{name}_p{p}"] = float(np.percentile(s, p) / np.percentile(t, p) - 1.0)
        found[f"{name}_median_absolute"] = float(np.median(np.abs(s / np.maximum(t, 1e-9) - 1.0)))
    return found
