"""Measure an engine, then replay traces in the very same process.

``python -m aladdin_calibration.engine.session --out RECORDING --trace FILE --served FILE ... --model FOLDER ...``;
needs nothing but vLLM and the standard library. Two processes of the same engine differ by some per cent for as long
as they live, by where their memory happens to lie; laws and replays of one process do not. So does a server that is
calibrated while it runs, and validated after that.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from aladdin_calibration.engine.recorder import (
    Engine,
    Recording,
    add_engine_arguments,
    add_sweep_arguments,
    leave,
    options,
    sweep,
    tell,
)
from aladdin_calibration.engine.replayer import Replayer, clock_of, read_trace, write_served


def median_reference_s(recording: Path) -> float:
    """Median seconds of the fixed job beside the steps of a recording."""
    rows = (json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines())
    seen = sorted(row["reference_s"] for row in rows if row.get("prefill_tokens") or row.get("batch"))
    return float(seen[len(seen) // 2])


def main() -> None:
    """Measure until the time is up, then replay one trace after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_arguments(parser)
    add_sweep_arguments(parser)
    parser.add_argument("--trace", type=Path, action="append", default=[], help="JSON lines; once for each replay")
    parser.add_argument("--served", type=Path, action="append", default=[], help="what came of it, in the same order")
    parser.add_argument("--clock", choices=("wall", "cpu", "reference"), default="wall")
    arguments = parser.parse_args()
    tell(starting=arguments.model)
    engine = Engine(arguments.model, options(arguments))
    facts = engine.facts(arguments.name or arguments.model)
    sweep(engine, Recording(arguments.out, facts), arguments)
    if arguments.clock == "reference":
        arguments.reference_s = median_reference_s(arguments.out)
    for number, (trace, served) in enumerate(zip(arguments.trace, arguments.served, strict=True)):
        tell(now=f"replay {number + 1} of {len(arguments.trace)}")
        engine.preemptions = 0
        replayer = Replayer(engine, read_trace(trace), clock_of(arguments, engine))
        replayer.run()
        write_served(served, arguments.clock, engine, facts, replayer.requests)
    leave()


if __name__ == "__main__":
    main()
