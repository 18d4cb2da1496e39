"""The rows of a comparison: one policy each, under keys that stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aladdin_env.compare.contenders import Contender
from aladdin_env.compare.statistics import Estimate, estimate
from aladdin_env.compare.work import Run

#: Measures of a row, as `aladdin compare --json` names them; the last two are ratios of costs, seed by seed: to
#: Aladdin's, and to the least that any policy spends (see :mod:`aladdin_env.yardsticks`).
MEASURES = (
    "slo_attainment", "ttft_p50_s", "ttft_p99_s", "atgt_p50_s", "atgt_p99_s", "goodput_rps", "gpu_hours", "cost",
    "cost_vs_aladdin", "cost_vs_bound",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One policy in the table.

    Attributes:
        policy: Its name.
        estimates: Mean and interval of each of :data:`MEASURES`.
        seeds: How many seeds stand behind them.
        workers: In a search: fewest workers that hold the target, None if no fleet does.
        gpus: In a search: their GPUs.
        is_search: Whether ``workers`` and ``gpus`` mean anything.
        is_reference: Whether it is Aladdin.
        settings: Settings of its placement and its scaler.
    """

    policy: str
    estimates: dict[str, Estimate]
    seeds: int = 1
    workers: int | None = None
    gpus: int | None = None
    is_search: bool = False
    is_reference: bool = False
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __getitem__(self, measure: str) -> Estimate:
        """The estimate of a measure."""
        return self.estimates[measure]

    def to_dict(self) -> dict[str, Any]:
        """Plain values under stable keys; ``*_low`` and ``*_high`` with several seeds; None for what is not known."""
        flat: dict[str, Any] = {"policy": self.policy}
        for name, value in self.estimates.items():
            flat[name] = _or_none(value.mean)
            if self.seeds > 1:
                flat[f"{name}_low"], flat[f"{name}_high"] = _or_none(value.low), _or_none(value.high)
        if self.is_search:
            flat["workers"], flat["gpus"] = self.workers, self.gpus
        return flat


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def make_row(
    contender: Contender,
    runs: Sequence[Run],
    reference: Sequence[Run] | None,
    bounds: Sequence[float] | None = None,
    **more: Any,
) -> Row:
    """The row of a policy's runs, one per seed; ``reference`` are Aladdin's, ``bounds`` the least costs, by seed."""
    costs = None if reference is None else [run.summary["cost"] for run in reference]
    ratios = {"cost_vs_aladdin": _ratios(runs, costs), "cost_vs_bound": _ratios(runs, bounds)}
    estimates = {}
    for name in MEASURES:
        values = ratios[name] if name in ratios else [run.summary[name] for run in runs]
        most = 1.0 if name == "slo_attainment" else math.inf
        estimates[name] = estimate(values, least=0.0, most=most)
    return Row(
        contender.label,
        estimates,
        seeds=len(runs),
        is_reference=contender.is_reference,
        settings=contender.settings,
        **more,
    )


def _ratios(runs: Sequence[Run], costs: Sequence[float] | None) -> list[float]:
    if costs is None:
        return [math.nan]
    pairs = zip((run.summary["cost"] for run in runs), costs, strict=True)
    return [mine / other if other > 0 else math.nan for mine, other in pairs]


def in_order(rows: Sequence[Row], target: float) -> list[Row]:
    """Those that hold the target, cheapest first, then the rest, best attainment first."""

    def key(row: Row) -> tuple[bool, float, str]:
        attainment = row["slo_attainment"].mean
        holds = attainment >= target
        return (not holds, row["cost"].mean if holds else -attainment, row.policy)

    return sorted(rows, key=key)
