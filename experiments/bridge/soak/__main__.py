"""Minutes of load on a real bridge whose workers are killed: ``python -m experiments.bridge.soak [--minutes 10]``.

Starts ``aladdin serve`` with emulated workers, measures its capacity, sends 80 % of it, and meanwhile kills, ends and
stops workers, hangs up, reads slowly and sends nonsense. In the end nothing may be lost, leaked or left: the exit
status is 1 where a verdict fails. Writes results/soak.json, and with it the summary in docs/bridge.md. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aladdin_env.bench.bridge.wire import new_loop
from aladdin_env.cli.output import progress_bar, stdout
from aladdin_env.errors import OutsideFault
from aladdin_traces.files import whole_file
from experiments.bridge.document import with_results
from experiments.bridge.soak.processes import Fleet, Serve
from experiments.bridge.soak.report import DOCUMENT, result, summary, tables
from experiments.bridge.soak.run import Options, Soak, end

RESULTS = Path(__file__).parents[1] / "results" / "soak.json"
_INTERRUPTED = 130


def measure(options: Options) -> dict[str, Any]:
    """Run it; when this returns or raises, no process is left.

    Raises:
        OutsideFault: the bridge or its workers do not start, or serve nothing.
    """
    seconds = round(60 * options.minutes)
    with Serve(Fleet(options.workers)) as serve, progress_bar("soak", seconds) as told:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            found = runner.run(Soak(serve, options, told).run())
        end(serve, found)
        told(seconds)
    return result(found, options)


def main(given: Sequence[str] | None = None) -> int:
    """Run, write, print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(given)
    if asked.minutes <= 0 or asked.workers < 1:
        parser.error("--minutes must be above 0, --workers 1 or more")
    try:
        told = measure(Options(asked.minutes, asked.workers, asked.seed))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OutsideFault as fault:
        print(fault, file=sys.stderr)
        return 1
    with whole_file(asked.out) as temporary:
        temporary.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if asked.out == RESULTS:  # the document shows the results that are kept
        DOCUMENT.write_text(
            with_results(DOCUMENT.read_text(encoding="utf-8"), "experiments.bridge.soak", summary(told)),
            encoding="utf-8",
        )
    stdout().print(tables(told))
    return 0 if all(verdict["holds"] for verdict in told["verdicts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
