"""How the measures of recorded requests are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A measure in a table: heading with its unit, factor from SI, decimals."""

    heading: str
    factor: float = 1.0
    decimals: int = 2

    def text(self, value: float, sign: str = "") -> str:
        """The number; with the sign ``+`` also where it is positive."""
        return f"{value * self.factor:{sign},.{self.decimals}f}" if math.isfinite(value) else "-"


_CELLS = {
    "slo_attainment": Cell("SLO met, %", 100.0),
    "ttft_p50_s": Cell("TTFT p50, ms", 1e3, 1),
    "ttft_p99_s": Cell("TTFT p99, ms", 1e3, 1),
    "atgt_p50_s": Cell("ATGT p50, ms", 1e3),
    "atgt_p99_s": Cell("ATGT p99, ms", 1e3),
    "gpu_seconds": Cell("GPU-seconds", 1.0, 1),
    "cost": Cell("cost", 1.0, 4),
}


def cell(measure: str) -> Cell:
    """How a measure is shown."""
    return _CELLS[measure]
