"""How far a simulation is from a log, in the figures that people read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aladdin_calibration.request_log.log import Array, Flags, RequestLog

MEASURES = ("ttft", "tpot", "latency")
UNQUEUED = "ttft_unqueued"
"""The TTFT of requests that were hardly queued: where most wait for long, no mean over all of them shows it."""
_LEAST = 5  # requests that were hardly queued, for figures of them


def figures(log: RequestLog, simulated: Array, judged: Flags) -> dict[str, float]:
    """Signed relative errors over the ``judged`` requests (0.02: simulated 2 % too long).

    Per measure: of the mean, of the 50th, 90th and 99th percentile, and as ``..._median_absolute`` the median of the
    absolute errors of single requests. The same of `UNQUEUED`, where there are some.

    Args:
        log: n requests.
        simulated: TTFT, time per token and latency of each, seconds, shape (3, n).
        judged: which requests count, shape (n,).
    """
    found: dict[str, float] = {}
    for name, ours, theirs in zip(MEASURES, simulated, (log.ttft_s, log.tpot_s, log.latency_s), strict=True):
        rows = judged & np.isfinite(theirs)
        if rows.any():
            found |= _errors(name, ours[rows], theirs[rows])
    soon = judged & log.hardly_queued
    if soon.sum() >= _LEAST:
        found |= _errors(UNQUEUED, simulated[0, soon], log.ttft_s[soon])
    return found


def _errors(name: str, ours: Array, theirs: Array) -> dict[str, float]:
    found = {f"{name}_mean": float(ours.mean() / theirs.mean() - 1.0)}
    for p in (50, 90, 99):
        found[f"{name}_p{p}"] = float(np.percentile(ours, p) / np.percentile(theirs, p) - 1.0)
    found[f"{name}_median_absolute"] = float(np.median(np.abs(ours / np.maximum(theirs, 1e-9) - 1.0)))
    return found


class Unqueued(NamedTuple):
    """Requests of a log that were hardly queued, and the means of their TTFT, seconds; None without any.

    Attributes:
        requests: how many.
        within_s: the longest TTFT that counts (`RequestLog.soon_s`).
        logged_s: mean TTFT in the log.
        simulated_s: mean TTFT in the simulation.
    """

    requests: int
    within_s: float
    logged_s: float | None
    simulated_s: float | None

    @classmethod
    def of(cls, log: RequestLog, simulated: Array) -> Unqueued:
        """Of all requests of the log; ``simulated`` as for `figures`."""
        soon = log.hardly_queued
        if not soon.any():
            return cls(0, log.soon_s, None, None)
        return cls(int(soon.sum()), log.soon_s, float(log.ttft_s[soon].mean()), float(simulated[0, soon].mean()))

    def __str__(self) -> str:
        """In words."""
        if self.logged_s is None:
            return f"no request had its first token within {self.within_s:.3g} s: an empty server's TTFT is a guess"
        told = f"{self.requests} requests had their first token within {self.within_s:.3g} s"
        return f"{told}: after {self.logged_s:.3f} s in the mean, {self.simulated_s:.3f} s simulated"
