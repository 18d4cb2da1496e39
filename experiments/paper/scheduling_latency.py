"""Time of a placement against the request rate: ``python -m experiments.paper.scheduling_latency``.

Decisions are timed as ``aladdin bench`` does (:mod:`aladdin_env.bench.decisions`): the policy runs the cluster, which
is paused now and then to decide, without placing them, where the next requests would go. A timing of this machine: it
differs from run to run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from aladdin_env.bench.decisions import _pause_us
from aladdin_env.bench.worlds import RATE_PER_WORKER_RPS, Bench, bench_scenario
from experiments.paper.pictures import RED, SERIES, legend, name_axes, new_figure
from experiments.paper.shared import Asked, Finding, at_rate, most, script

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
WORKERS = (16, 256, 2048)
RATES_RPS = (25.0, 80.0, 320.0, 1280.0, 5120.0, 10240.0)
PAPER_RPS, PAPER_MS = 25.0, 50.0
"""[P]: under 50 ms at 25 requests/s."""
_WARM_S, _GAP_S, _PAUSES = 40.0, 1.0, 20


def find(asked: Asked) -> Finding:
    """Every size of the cluster, from nearly idle up to 5 requests/s per worker, at which it is full."""
    table = pd.DataFrame(_measured(asked))
    at = table[table["rate_rps"] == PAPER_RPS]
    times_ms = zip(at["workers"], at["decision_p50_us"] / 1e3, strict=True)
    told = ", ".join(f"{time_ms:.2g} ms with {workers:,} workers" for workers, time_ms in times_ms)
    worst = most(table, "decision_p50_us")
    paper = f"scheduling takes under {PAPER_MS:g} ms at {PAPER_RPS:g} requests/s"
    ours = (
        f"median at {PAPER_RPS:g} requests/s {told}; longest {worst['decision_p50_us'] / 1e3:.2g} ms at "
        f"{worst['rate_rps']:,g}/s with {worst['workers']:,.0f} workers"
    )
    return Finding(table, {"": _picture(table)}, paper, ours)


def _measured(asked: Asked) -> Iterator[dict[str, float]]:
    cases = [(n, rate) for n in WORKERS for rate in RATES_RPS if rate <= RATE_PER_WORKER_RPS * n]
    if asked.quick:
        cases = [(16, PAPER_RPS), (16, 80.0)]
    for i, (workers, rate) in enumerate(cases):
        pauses = _decisions_us(workers, rate, 3 if asked.quick else _PAUSES, 5.0 if asked.quick else _WARM_S)
        p50, p90 = np.percentile(pauses, (50, 90))
        yield {"workers": workers, "rate_rps": rate, "decision_p50_us": p50, "decision_p90_us": p90}
        asked.tell((i + 1) / len(cases))


def _decisions_us(workers: int, rate_rps: float, pauses: int, warm_s: float) -> list[float]:
    """Microseconds of a decision in every pause, the first after ``warm_s``."""
    horizon_s = warm_s + (pauses + 5) * _GAP_S
    bench = Bench.of(at_rate(bench_scenario(workers, "prefill_first"), rate_rps, horizon_s), "aladdin")
    bench.load()
    times = [_pause_us(bench, warm_s + i * _GAP_S) for i in range(pauses + 1)]
    return times[1:]  # the first may have compiled


def _picture(table: pd.DataFrame) -> Figure:
    figure = new_figure("Time of one placement by Aladdin (line: median; band: up to the 90th percentile)", width=7.0)
    (axes,) = figure.axes
    for (workers, rows), colour in zip(table.groupby("workers"), SERIES, strict=False):
        x, p50, p90 = (rows[name].to_numpy() for name in ("rate_rps", "decision_p50_us", "decision_p90_us"))
        axes.plot(x, p50 / 1e3, marker="o", markersize=4, color=colour, label=f"{workers:,} workers")
        axes.fill_between(x, p50 / 1e3, p90 / 1e3, color=colour, alpha=0.15, linewidth=0)
    axes.plot([PAPER_RPS], [PAPER_MS], "v", color=RED, label=f"paper: under {PAPER_MS:g} ms at {PAPER_RPS:g}/s")
    axes.set(xscale="log", yscale="log")
    name_axes(axes, "", "rate (requests/s)", "time of a decision (ms)")
    legend(axes, loc="upper right")
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
