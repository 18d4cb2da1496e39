"""``aladdin bench``."""

from __future__ import annotations

import platform
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
    stdout,
)
from aladdin_env.cli.tables import pairs_table
from aladdin_traces.files import whole_file


def bench(
    only: Annotated[str | None, typer.Option(help="Comma-separated names of benchmarks; all by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures as .json.")] = None,
    json: opt.JsonOption = False,
) -> None:
    """Measure the speed of the simulator and the environments on this machine, on one core."""
    check_writable("--out", out, (".json",))
    say_if_compiling()
    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    with progress_bar("measuring", len(FIGURES if names is None else names)) as told:
        found = run_bench(names, told)
    if out is not None:
        with whole_file(out) as temporary:
            temporary.write_text(json_text(found) + "\n", encoding="utf-8")
    if json:
        print_json(found)
        return
    told_of = {figure.name: (figure.unit, figure.what) for figure in FIGURES}
    rows = {}
    for name, value in found.items():
        unit, what = told_of.get(name, ("", DERIVED.get(name, "")))
        rows[name] = (f"{value:,.3g}" if value < 1000 else f"{value:,.0f}", f"{unit}; {what}".strip("; "))
    stdout().print(pairs_table(f"{platform.machine()}, Python {platform.python_version()}", rows))
