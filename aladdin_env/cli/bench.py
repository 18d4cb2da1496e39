"""``aladdin bench``."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aladdin_env.bench import FIGURES, run_bench
from aladdin_env.bench.report import DERIVED
from aladdin_env.cli import options as opt
from aladdin_env.cli.output import (
    check_writable,
    json_text,
    print_json,
    progress_bar,
    say_if_compiling,
    stderr,
    stdout,
)
from aladdin_env.cli.tables import pairs_table
from aladdin_env.errors import InputError
from aladdin_traces.files import whole_file


def bench(
    only: Annotated[str | None, typer.Option(help="Comma-separated names of benchmarks; all by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures as .json.")] = None,
    bridge: Annotated[
        bool, typer.Option("--bridge", help="Measure instead what the live bridge adds, beside other routers.")
    ] = False,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COMMAND",
            help="With --bridge, one more router: {port} and {backends} are filled in. Those on PATH are found.",
        ),
    ] = None,
    json: opt.JsonOption = False,
) -> None:
    """Measure the speed of the simulator and the environments on this machine, on one core; or of the live bridge."""
    check_writable("--out", out, (".json",))
    if (bridge and only is not None) or (peer and not bridge):
        raise InputError("--bridge", bridge, "give it with --peer, and without --only")
    found = _routers(peer or ()) if bridge else _figures(only)
    if out is not None:
        with whole_file(out) as temporary:
            temporary.write_text(json_text(found) + "\n", encoding="utf-8")
    if json:
        print_json(found)
        return
    told_of = {figure.name: (figure.unit, figure.what) for figure in FIGURES}
    rows = {}
    for name, value in found.items():
        unit, what = _described(name) if bridge else told_of.get(name, ("", DERIVED.get(name, "")))
        rows[name] = (f"{value:,.3g}" if value < 1000 else f"{value:,.0f}", f"{unit}; {what}".strip("; "))
    stdout().print(pairs_table(f"{platform.machine()}, Python {platform.python_version()}", rows))


def _figures(only: str | None) -> dict[str, float]:
    say_if_compiling()
    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    with progress_bar("measuring", len(FIGURES if names is None else names)) as told:
        return run_bench(names, told)


def _routers(peers: Sequence[str]) -> dict[str, float]:
    from aladdin_env.bench.bridge import OURS, Effort, known_peers, measure_bridge, peers_given

    templates = OURS | known_peers() | peers_given(peers)
    effort = Effort()
    with progress_bar("measuring", effort.rounds) as told:
        return measure_bridge(templates, effort, told, lambda text: stderr().print(text))


def _described(name: str) -> tuple[str, str]:
    from aladdin_env.bench.bridge import describe

    return describe(name)
