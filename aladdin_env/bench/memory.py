"""Memory per simulated request."""

from __future__ import annotations

import re
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from aladdin_env.bench.worlds import Bench, bench_scenario


def bytes_per_request(requests: int = 200_000, workers: int = 16) -> float:
    """Bytes of all arrays of a simulation (world and inputs) divided by its requests."""
    bench = Bench.of(bench_scenario(workers, "prefill_first", requests), "least_request")
    inputs = bench.draws
    trace = inputs.trace
    arrays = [
        *bench.world, inputs.coins, inputs.cold_starts, inputs.failures,
        trace.arrival_s, trace.prompt_tokens, trace.output_tokens, trace.klass,
    ]  # fmt: skip
    return float(sum(array.nbytes for array in arrays)) / bench.requests


def resident_bytes_per_request(few: int = 500_000, many: int = 2_500_000) -> float:
    """Growth of a fresh process's peak resident memory per further request, drawing and the whole run included."""
    sizes = []
    for requests in (few, many):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            sizes.append(pool.submit(_peak_after, requests).result())
    (n_few, peak_few), (n_many, peak_many) = sizes
    return (peak_many - peak_few) / (n_many - n_few)


def _peak_after(requests: int) -> tuple[int, int]:
    """Requests simulated, and this process's peak resident bytes after that."""
    bench = Bench.of(bench_scenario(16, "prefill_first", requests), "least_request")
    bench.whole()
    return bench.requests, _peak_bytes()


def _peak_bytes() -> int:
    """This process's peak resident memory. Linux hands a parent's ``ru_maxrss`` down to its children, so not that."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
