"""Laws measured inside the engine beside those of its server: ``python -m experiments.calibration.two_ways``.

Both are of the 110 M shape on one CPU thread, taken independently (calibration/measurements).
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from aladdin_calibration.measurement import Measurement
from aladdin_calibration.profiles import profile_of
from aladdin_env.latency import LatencyProfile

MEASUREMENTS = Path(__file__).parents[2] / "calibration" / "measurements"
WAYS = ("engine", "http")
PROMPTS = (16, 64, 128, 256, 512)
DECODES = ((1, 128), (4, 512), (8, 2048), (14, 3500))


def main() -> None:
    """Print both, and the ratio."""
    inside, outside = (_profile(way) for way in WAYS)
    table = Table("step", "engine (ms)", "server (ms)", "server over engine")
    for tokens in PROMPTS:
        _row(table, f"prefill of {tokens} tokens", inside.prefill_s(tokens), outside.prefill_s(tokens))
    for batch, context in DECODES:
        name = f"decode step of {batch}, {context} tokens of context"
        _row(table, name, inside.decode_s(batch, context), outside.decode_s(batch, context))
    Console().print(table)


def _profile(way: str) -> LatencyProfile:
    name = f"llama-110m-cpu-{way}"
    return profile_of(Measurement.load(MEASUREMENTS / f"{name}.parquet"), name)


def _row(table: Table, name: str, engine_s: float, server_s: float) -> None:
    table.add_row(name, f"{1e3 * engine_s:.1f}", f"{1e3 * server_s:.1f}", f"{server_s / engine_s:.2f}")


if __name__ == "__main__":
    main()
