"""Seconds to draw ten million requests under each law, on one core: ``python -m experiments.bench.generators``."""

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from aladdin_traces import (
    LENGTHS,
    ArrivalProcess,
    Clients,
    Diurnal,
    Exponential,
    Flood,
    GammaRenewal,
    Histogram,
    IndependentLengths,
    LognormalMixture,
    Mmpp,
    OnOff,
    Poisson,
    Sessions,
    WeibullRenewal,
    Workload,
)

REQUESTS = 10_000_000
RATE_RPS = 1000.0
_NEW = IndependentLengths(LognormalMixture((1.0,), (5.0,), (1.2,), maximum=8192), Exponential(200.0))


def workloads() -> dict[str, Workload]:
    """Every arrival law with ShareGPT's lengths, then the laws of whole requests."""
    arrivals: tuple[ArrivalProcess, ...] = (
        Poisson(1.0),
        GammaRenewal(1.0, 3.0),
        WeibullRenewal(1.0, 3.0),
        OnOff(),
        Mmpp((1.0, 10.0), (60.0, 10.0)),
        Diurnal(1.0),
        Flood(1.0, 20.0, 3600.0, 300.0),
    )
    sessions = Sessions(Poisson(1.0), Histogram((1, 2, 3, 5), (0.6, 0.2, 0.1, 0.1)), _NEW, _NEW, block_size=512)
    return {
        **{law.kind: Workload.generated(law, LENGTHS["sharegpt"]) for law in arrivals},
        "clients": Workload.from_law(Clients(1.0, LENGTHS["sharegpt"], prompt_spread=0.5, output_spread=0.5)),
        "sessions": Workload.from_law(sessions),
    }


def measure() -> Table:
    """Draw each once: times, lengths and, for sessions, the prefix blocks."""
    table = Table("law", "requests", "CPU s", "s for 10 million")
    for name, workload in workloads().items():
        begin = time.process_time()
        trace = workload.with_rate(RATE_RPS).sample(np.random.default_rng(0), REQUESTS / RATE_RPS)
        spent = time.process_time() - begin
        table.add_row(name, f"{len(trace):,}", f"{spent:.2f}", f"{spent * REQUESTS / len(trace):.2f}")
    return table


if __name__ == "__main__":
    Console(file=sys.stdout).print(measure())
