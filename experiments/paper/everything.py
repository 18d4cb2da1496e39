"""All figures and tables of the paper: ``make paper``, or ``python -m experiments.paper.everything``.

Ctrl-C ends it; ``--resume`` then goes on with what has no table yet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from experiments.paper.shared import Asked, command_line, lines, progress_bar, watched, write

NAMES = (
    "length_cdf",
    "jsq_counterexample",
    "model_validation",
    "scheduling_latency",
    "worker_size",
    "attainment_vs_rate",
    "split_phase",
    "prediction_ablation",
    "theta_gamma",
    "parts",
    "gpus_vs_rate",
    "whole_system",
)
"""The scripts, shortest first."""


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = command_line(Path(__file__).stem)
    parser.add_argument("--resume", action="store_true", help="leave out scripts whose table is there")
    options = parser.parse_args(given)
    left = [name for name in NAMES if not (options.resume and (options.out / f"{name}.csv").exists())]
    try:
        _run(left, Asked(options.quick, options.jobs), options.out)
    except KeyboardInterrupt:
        print("Interrupted: go on with --resume.", file=sys.stderr)
        sys.exit(130)


def _run(names: Sequence[str], asked: Asked, folder: Path) -> None:
    begin_s = time.perf_counter()
    with progress_bar() as bar:
        for name in names:
            finding = watched(bar, name, import_module(f"experiments.paper.{name}").find, asked)
            write(name, finding.table, finding.figures, folder)
            minutes = (time.perf_counter() - begin_s) / 60.0
            bar.console.print(f"{name}: done after {minutes:.1f} min", highlight=False)
            print("\n".join((name, *lines(finding), "")), flush=True)


if __name__ == "__main__":
    main()
