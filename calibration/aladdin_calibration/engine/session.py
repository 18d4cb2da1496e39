"""Measure an engine, then replay traces in the very same process.

``python -m aladdin_calibration.engine.session --out RECORDING --trace FILE --served FILE ... --model FOLDER ...``;
needs nothing but vLLM and the standard library. Two processes of the same engine differ by some per cent for as long
as they live, by where their memory happens to lie; laws and replays of one process do not. So does a server that is
calibrated while it runs, and validated after that.

With ``--crowd`` the engine's capacity is measured too: by how fast it serves requests that all come at once. Each
``--load`` is then a replay at a share of it. A replay that is there whole is not done again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from aladdin_calibration.engine.recorder import Recording, add_sweep_arguments, sweep
from aladdin_calibration.engine.replayer import CLOCKS, Served, kept, read_trace, serve
from aladdin_calibration.engine.timed import Engine, add_engine_arguments, leave, options, tell


def median_reference_s(recording: Path) -> float:
    """Median seconds of the fixed job beside the steps of a recording."""
    rows = (json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines())
    seen = sorted(row["reference_s"] for row in rows if row.get("prefill_tokens") or row.get("batch"))
    return float(seen[len(seen) // 2])


def capacity_rps(crowd: list[Served]) -> float:
    """Requests per second of an engine that has all the work it can take, from a replay of many that came at once.

    That lasts until none waits any more, which is when the last gets its first token; those that are under way then
    count as far as they are.
    """
    seen = [(r.first_token_s, r.finish_s) for r in crowd if r.first_token_s is not None and r.finish_s is not None]
    full_s = max(first for first, _ in seen)
    served = sum(1.0 if finish <= full_s else (full_s - first) / (finish - first) for first, finish in seen)
    return served / full_s


def at_rate(requests: list[Served], rate_rps: float, seconds: float) -> list[Served]:
    """A trace with one arrival per second, at another rate, as far as it gets in these seconds."""
    scaled = [replace(request, arrival_s=request.arrival_s / rate_rps) for request in requests]
    return [request for request in scaled if request.arrival_s < seconds]


def replays(engine: Engine, facts: dict[str, Any], arguments: argparse.Namespace) -> None:
    """All that are asked for: the crowd, then the shares of what it showed, then the traces as they are."""

    def done(requests: list[Served], served: Path) -> list[Served]:
        found = kept(served, requests)
        if found is None:
            tell(now=f"replay {served.stem}")
            serve(engine, facts, requests, arguments, served)
        return found or requests

    if arguments.crowd:
        trace, served = map(Path, arguments.crowd)
        capacity = capacity_rps(done(read_trace(trace), served))
        tell(capacity_rps=capacity)
        for share, trace, served in arguments.load:
            wanted = at_rate(read_trace(Path(trace)), float(share) * capacity, arguments.load_s)
            done(wanted, Path(served))
    for trace, served in zip(arguments.trace, arguments.served, strict=True):
        done(read_trace(trace), served)


def main() -> None:
    """Measure until the time is up, then replay one trace after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_arguments(parser)
    add_sweep_arguments(parser)
    parser.add_argument("--trace", type=Path, action="append", default=[], help="JSON lines; once for each replay")
    parser.add_argument("--served", type=Path, action="append", default=[], help="what came of it, in the same order")
    crowd, load = ("TRACE", "SERVED"), ("SHARE", "TRACE", "SERVED")
    parser.add_argument("--crowd", nargs=2, metavar=crowd, help="requests that come at once: they show the capacity")
    parser.add_argument(
        "--load", nargs=3, metavar=load, action="append", default=[], help="a trace of 1 request/s, at this share of it"
    )
    parser.add_argument("--load-s", type=float, default=45.0, help="seconds of arrivals of each load")
    parser.add_argument("--clock", choices=[name for name in CLOCKS if name != "asked"], default="wall")
    arguments = parser.parse_args()
    tell(starting=arguments.model)
    engine = Engine(arguments.model, options(arguments))
    facts = engine.facts(arguments.name or arguments.model)
    sweep(engine, Recording(arguments.out, facts), arguments)
    if arguments.clock == "reference":
        arguments.reference_s = median_reference_s(arguments.out)
    replays(engine, facts, arguments)
    leave()


if __name__ == "__main__":
    main()
