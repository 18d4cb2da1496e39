"""Fit laws and KV capacity to request logs of real servers: ``python -m experiments.calibration.log_fit FILE``.

``FILE`` holds 300 requests each of two runs of vLLM 0.19.0 (casys-kaist/LLMServingSim, MIT): Llama-3.1-8B on one
RTX 4090 and Qwen3-32B on two RTX PRO 6000. The outcomes of the first half of the requests are fitted, those of the
second half judged. The same numbers come out again for the same seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aladdin_calibration.request_log import EngineLimits, LogFit, fit_request_log, read_request_log
from aladdin_calibration.request_log.judged import MEASURES, UNQUEUED
from aladdin_calibration.request_log.report import FIGURES, UNITS

RUNS = {
    "Llama-3.1-8B, RTX 4090": ("meta-llama/Llama-3.1-8B", EngineLimits(256, 2048)),
    "Qwen3-32B, 2 x RTX PRO 6000": ("Qwen/Qwen3-32B", EngineLimits(128, 2048)),
}


def coefficients(fits: dict[str, LogFit]) -> Table:
    """Coefficients with their 95 % intervals."""
    table = Table("coefficient", *fits, title="Value [95 % interval]")
    for name, (unit, factor) in UNITS.items():
        found = [fit.coefficients[name] for fit in fits.values()]
        cells = [
            f"{factor * e.value:.3g} [{factor * e.low:.3g}, {factor * e.high:.3g}]" if e.value else "-" for e in found
        ]
        table.add_row(f"{name}, {unit}", *cells)
    rooms = [fit.kv for fit in fits.values()]
    cells = [
        f"{kv.tokens:,} [{kv.low:,.0f}, {kv.high:,.0f}]" if kv.identified else f"{kv.low:,.0f} or more" for kv in rooms
    ]
    table.add_row("KV capacity, tokens", *cells)
    table.add_row("prefill form", *(fit.form for fit in fits.values()))
    table.add_row("simulations; seconds", *(f"{fit.simulations:,}; {fit.seconds:.0f}" for fit in fits.values()))
    return table


def errors(fits: dict[str, LogFit]) -> Table:
    """Signed errors on the requests that were not fitted; hardly queued requests are all among the fitted."""
    table = Table("held out", *FIGURES, title="Simulated over logged")
    for run, fit in fits.items():
        for measure in MEASURES:
            table.add_row(f"{run}: {measure}", *(f"{fit.held_out[f'{measure}_{f}']:+.2%}" for f in FIGURES))
        table.add_row(f"{run}: {UNQUEUED}, fitted", *(f"{fit.in_sample[f'{UNQUEUED}_{f}']:+.2%}" for f in FIGURES))
    return table


def main(
    file: Annotated[Path, typer.Argument(help="The log of both runs.")],
    train_share: Annotated[float, typer.Option(help="Share of the requests whose outcomes are fitted.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Fit both runs and print coefficients and errors out of sample."""
    fits: dict[str, LogFit] = {}
    with Progress(transient=True) as progress:
        for run, (model, limits) in RUNS.items():
            task = progress.add_task(run, total=1.0)
            log = read_request_log(file, {"model": model})
            fits[run] = fit_request_log(
                log,
                limits,
                train_share=train_share,
                seed=seed,
                progress=lambda share, task=task: progress.update(task, completed=share),  # type: ignore[misc]
            )
    console = Console(width=140)
    console.print(coefficients(fits), errors(fits))


if __name__ == "__main__":
    typer.run(main)
