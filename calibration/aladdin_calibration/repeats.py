"""What repeated configurations tell: how far equal steps scatter, and how the machine's pace drifted meanwhile.

A shared or throttled machine is faster at one time than at another. Where configurations are measured repeatedly and
in a shuffled order, that pace can be told from the configurations themselves: the logarithm of a step's time is what
its configuration takes, plus the drift at that moment, plus noise. The two are estimated in turns (backfitting), the
drift as a mean over the neighbours in time. No law of time enters, so a law's misfit cannot pass for drift; without
repetitions, or without the columns ``repeat`` and ``at_s``, no drift is found (our reconstruction; not in the paper).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from aladdin_calibration.steps import KINDS, Array, column, of_kind

WINDOW_S = 5.0  # of the neighbours' exponential weights
_ROUNDS = 20
_MOMENTS = 1000  # times at which the drift is estimated, at most; between them it is interpolated
_SIZES = ["config", "kind", "prefill_tokens", "batch"]
_EQUAL = ["config", "kind", "prefill_tokens", "sum_squares", "batch", "context_tokens"]


@dataclass(frozen=True)
class Pace:
    """How much longer than usual the machine took: factors (1 is its median) at moments (seconds, ascending)."""

    at_s: Array
    factor: Array

    def of(self, steps: pd.DataFrame) -> Array:
        """The factor at each step; 1 where nothing is known of the pace."""
        if len(self.at_s) == 0:
            return np.ones(len(steps))
        return np.asarray(np.interp(column(steps, "at_s"), self.at_s, self.factor), dtype=np.float64)

    @property
    def spread(self) -> float:
        """Standard deviation of the factor, relative; 0 where nothing is known."""
        return float(np.std(self.factor)) if len(self.factor) else 0.0


def _visits(steps: pd.DataFrame) -> pd.DataFrame:
    """One row per repetition of a configuration that has several: its median log time, its moment, its number."""
    logs = steps.assign(log_s=np.log(column(steps, "seconds")))
    visits = logs.groupby([*_SIZES, "repeat"], sort=False).agg(log_s=("log_s", "median"), at_s=("at_s", "mean"))
    visits = visits.reset_index()
    repeated = visits.groupby(_SIZES, sort=False)["repeat"].transform("size") > 1
    visits = visits[repeated].sort_values("at_s", kind="stable")
    return visits.assign(number=visits.groupby(_SIZES, sort=False).ngroup())


def pace(steps: pd.DataFrame, window_s: float = WINDOW_S) -> Pace:
    """The machine's pace over the time of these steps."""
    nothing = Pace(np.empty(0), np.empty(0))
    if not {"repeat", "at_s"} <= set(steps.columns):
        return nothing
    visits = _visits(steps)
    if visits.empty:
        return nothing
    times, logs, number = column(visits, "at_s"), column(visits, "log_s"), visits["number"].to_numpy()
    moments = np.unique(np.quantile(times, np.linspace(0.0, 1.0, min(_MOMENTS, len(times)))))
    weights = np.exp(-np.abs(moments[:, None] - times) / window_s)
    weights /= weights.sum(axis=1, keepdims=True)
    visited = np.bincount(number)
    drift = np.zeros(len(moments))
    for _ in range(_ROUNDS):
        usual = np.bincount(number, logs - np.interp(times, moments, drift)) / visited
        drift = weights @ (logs - usual[number])
        drift -= np.median(drift)
    return Pace(moments, np.exp(drift))


def scatter(steps: pd.DataFrame) -> pd.DataFrame:
    """Relative deviation of equal steps from their mean, columns ``kind`` and ``error``; no law can be nearer.

    Scaled by sqrt(n / (n - 1)) for the n equal steps that the mean is of, so that its spread is that of one step
    around the true mean. Steps without an equal are left out.
    """
    groups = steps.groupby(_EQUAL, sort=False)["seconds"]
    count, mean = groups.transform("size"), groups.transform("mean")
    scale = np.sqrt(count / (count - 1).clip(lower=1))
    return steps[["kind"]].assign(error=(steps["seconds"] / mean - 1.0) * scale)[count > 1]


def scatter_figures(steps: pd.DataFrame) -> dict[str, float]:
    """Median and 95th percentile of :func:`scatter` per kind, as ``decode_repeat_median`` and so on."""
    figures = {}
    for kind in KINDS:
        absolute = of_kind(scatter(steps), kind)["error"].abs()
        if len(absolute):
            figures[f"{kind}_repeat_median"] = round(float(absolute.quantile(0.5)), 4)
            figures[f"{kind}_repeat_p95"] = round(float(absolute.quantile(0.95)), 4)
    return figures
