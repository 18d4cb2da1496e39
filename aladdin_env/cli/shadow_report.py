"""``aladdin shadow-report``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from aladdin_env.cli import options as opt
from aladdin_env.cli.measures import Cell, cell
from aladdin_env.cli.output import print_json, progress_bar, say_if_compiling, stdout

if TYPE_CHECKING:
    from aladdin_env.bridge.record.outcome import Interval
    from aladdin_env.bridge.record.shadow import Line, ShadowReport


def shadow_report(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Decision logs; earlier parts beside them are read too.")
    ],
    seeds: Annotated[int, typer.Option(help="Simulations of each policy.")] = 5,
    block: Annotated[
        float | None, typer.Option(help="Seconds of a block of the bootstrap; by default a thirtieth of the whole.")
    ] = None,
    json: opt.JsonOption = False,
) -> None:
    """Tell what the policy that was only asked would have changed, and how far to trust that."""
    from aladdin_env.bridge.record.log import read_logs
    from aladdin_env.bridge.record.shadow import ShadowSettings, shadow_report, simulations

    settings = ShadowSettings(seeds, block)
    say_if_compiling()
    logs = read_logs(files)
    with progress_bar("simulating", simulations(logs, settings)) as told:
        found = shadow_report(logs, settings, told)
    if json:
        lines = [asdict(line) | {"is_doubtful": line.is_doubtful} for line in found.lines]
        print_json(asdict(found) | {"lines": lines})
    else:
        _print(found)


def _print(found: ShadowReport) -> None:
    console = stdout()
    agreement = Cell("", 100.0, 1)
    console.print(
        f"{found.policy} would have answered as {found.baseline} did for {agreement.text(found.agreement.value)} % of "
        f"{found.asked:,} requests{_interval(agreement, found.agreement)}.",
        markup=False,
    )
    simulated = f"{found.seeds} simulations of each policy, 95 % intervals over {found.blocks} blocks of time"
    title = f"{found.requests:,} requests in {found.span_s:,.0f} s; {simulated}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("")
    names = f"{found.baseline}\nsimulated", "simulator's error", f"{found.policy}\nsimulated", "it would change"
    for heading in ("recorded", *names):
        table.add_column(heading, justify="right")
    table.add_column("")
    for line in found.lines:
        table.add_row(*_cells(line))
    console.print(table)
    console.print("?: the simulator errs by more than the two policies differ.", style="dim")
    for note in found.notes:
        console.print(note, style="dim")


def _cells(line: Line) -> list[str]:
    how = cell(line.measure)
    return [
        how.heading,
        how.text(line.recorded),
        how.text(line.acting),
        f"{how.text(line.error.value, '+')}\n{_interval(how, line.error, '+')}".rstrip(),
        how.text(line.shadow),
        f"{how.text(line.gain.value, '+')}\n{_interval(how, line.gain, '+')}".rstrip(),
        "?" if line.is_doubtful else "",
    ]


def _interval(how: Cell, value: Interval, sign: str = "") -> str:
    if value.low != value.low:  # there are no intervals
        return ""
    return f" ({how.text(value.low, sign)} to {how.text(value.high, sign)})"
