"""``aladdin replay-log``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from aladdin_env.cli import options as opt
from aladdin_env.cli.exit_codes import NO_ANSWER
from aladdin_env.cli.measures import cell
from aladdin_env.cli.output import print_json, say_if_compiling, stdout
from aladdin_env.errors import InputError
from aladdin_traces.readers.aladdin_log import EVENTS

if TYPE_CHECKING:
    from aladdin_env.bridge.record.log import Log
    from aladdin_env.bridge.record.replay import Difference, Replayed, Tally
    from aladdin_env.bridge.record.sim_to_real import SimToReal

_ANSWERS = {-1: "hold", -2: "reject", None: "no answer"}


def replay_log(
    file: Annotated[Path, typer.Argument(help="A decision log; its earlier parts beside it are read too.")],
    policy: Annotated[
        str | None,
        typer.Option(help="Ask this policy instead of those that decided.", autocompletion=opt.complete_policies),
    ] = None,
    json: opt.JsonOption = False,
) -> None:
    """Ask a bridge's policies again what they decided, and simulate what came of it.

    Exit code 1: the policies that decided do not answer as they did.
    """
    from aladdin_env.bridge.record.replay import read_events, replay_log

    say_if_compiling()
    log = read_events(file)
    replayed = replay_log(log, policy) if log.header.level == EVENTS else None
    simulated, why = _simulated(log, policy)
    if json:
        print_json(_plain(replayed, simulated, why))
    else:
        _print_replayed(replayed)
        _print_simulated(simulated, why)
    if replayed is not None and policy is None and not replayed.is_same:
        raise typer.Exit(NO_ANSWER)


def _simulated(log: Log, policy: str | None) -> tuple[SimToReal | None, str]:
    """The simulation, or why there is none: a log without served requests can be replayed all the same."""
    from aladdin_env.bridge.record.sim_to_real import sim_to_real

    try:
        return sim_to_real(log, policy), ""
    except InputError as error:
        return None, str(error)


def _plain(replayed: Replayed | None, simulated: SimToReal | None, why: str) -> dict[str, Any]:
    found: dict[str, Any] = {"decisions": None, "simulation": None if simulated is None else asdict(simulated)}
    if replayed is not None:
        tallies = {"placements": replayed.placements, "shadow": replayed.shadows, "scalings": replayed.scalings}
        found["decisions"] = {"policy": replayed.policy, "same": replayed.is_same, "nobody_asked": replayed.nobody}
        found["decisions"] |= {name: asdict(tally) | {"share": tally.share} for name, tally in tallies.items()}
    return found | ({"not_simulated": why} if why else {})


def _print_replayed(replayed: Replayed | None) -> None:
    console = stdout()
    if replayed is None:
        console.print("Decisions: not in this log, it was recorded with the level 'requests'.")
        return
    whose = "the policies that decided" if replayed.policy is None else replayed.policy
    table = Table(box=box.SIMPLE_HEAD, title=f"Decisions asked again, of {whose}", title_justify="left")
    table.add_column("")
    for heading in ("asked", "same answer", "%"):
        table.add_column(heading, justify="right")
    tallies = {"placements": replayed.placements, "shadow answers": replayed.shadows, "scalings": replayed.scalings}
    for name, tally in tallies.items():
        if tally.asked:
            table.add_row(name, f"{tally.asked:,}", f"{tally.agreed:,}", f"{100 * tally.share:.2f}")
    console.print(table)
    if replayed.nobody:
        console.print(f"{replayed.nobody:,} times no worker could take a request, and nobody was asked.")
    for name, tally in tallies.items():
        _print_first(name, tally)


def _print_first(name: str, tally: Tally) -> None:
    if tally.first is None:
        return
    first: Difference = tally.first
    told = f"{first.asked} answered {_answer(first.recorded)}, and answers {_answer(first.answered)} now"
    where = f"{first.what} at {first.time_s:.6f} s ({first.place})"
    stdout().print(f"First difference of {name}: {where}: {told}.", markup=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in first.workers[0] if first.workers else ():
        table.add_column(heading.replace("_", " "), justify="right")
    for worker in first.workers:
        table.add_row(*(f"{value:.1%}" if isinstance(value, float) else str(value) for value in worker.values()))
    stdout().print(table)


def _answer(answer: Any) -> str:
    if isinstance(answer, list):
        return f"{answer} workers"
    return _ANSWERS.get(answer) or f"slot {answer}"


def _print_simulated(simulated: SimToReal | None, why: str) -> None:
    console = stdout()
    if simulated is None:
        console.print(f"Not simulated: {why}", markup=False, soft_wrap=True)
        return
    title = f"{simulated.requests:,} requests in {simulated.span_s:,.0f} s, simulated under {simulated.policy}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for heading in ("", "recorded", "simulated", "difference"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, was in simulated.recorded.items():
        now = simulated.simulated[name]
        table.add_row(cell(name).heading, cell(name).text(was), cell(name).text(now), cell(name).text(now - was, "+"))
    console.print(table)
    for note in simulated.notes:
        console.print(note, style="dim")
