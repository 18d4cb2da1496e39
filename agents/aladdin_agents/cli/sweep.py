"""``aladdin sweep``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from aladdin_agents.cli.options import RayOption
from aladdin_agents.cli.train import NO_LEARNERS
from aladdin_env.cli import options as opt
from aladdin_env.cli.output import say_if_compiling, stdout
from aladdin_env.errors import InputError

if TYPE_CHECKING:
    from aladdin_agents.scale_out.sweep_table import Group

_SHOWN = 10


def sweep(
    file: Annotated[Path, typer.Argument(help="What to vary: a TOML file (docs/scale-out.md).", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the sweep; by default runs/ and the name of the file.")
    ] = None,
    ray: RayOption = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Trials at a time; by default one for each CPU.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep in the folder.")] = False,
) -> None:
    """Train under several seeds and hyper-parameters; the best by validation, and a table of all.

    TensorBoard: tensorboard --logdir FOLDER. After Ctrl-C or a kill, --resume goes on.
    """
    opt.checked_jobs(jobs)
    try:
        from aladdin_agents.scale_out.sweep import run_sweep
        from aladdin_agents.scale_out.sweep_file import read_sweep
        from aladdin_agents.scale_out.sweep_table import TABLE, groups_of, rows_of, write_rows
    except ModuleNotFoundError as error:
        raise InputError("aladdin sweep", f"no module {error.name}", NO_LEARNERS) from None
    read = read_sweep(file)
    folder = out if out is not None else Path("runs") / file.stem
    say_if_compiling()
    try:
        run_sweep(read, folder, ray=ray, jobs=jobs, resume=resume)
    finally:
        rows = rows_of(read, folder)
        best = write_rows(read, rows, folder) if rows else None
    assert best is not None
    stdout().print(_table(groups_of(rows)))
    print(f"best: {best.trial.name}, score {best.score:.4f}, {best.attainment:.2%} within their objectives")
    print(f"{folder / 'best.npz'}: its checkpoint; {folder / TABLE}: all {len(rows)} trials")


def _table(groups: Sequence[Group]) -> Table:
    """The best combinations of parameters; the first line of the table is the one to take."""
    table = Table(box=None, pad_edge=False)
    for name in groups[0].changes:
        table.add_column(name)
    for name in ("seeds", "mean score", "worst", "best"):
        table.add_column(name, justify="right")
    for group in groups[:_SHOWN]:
        numbers = (group.mean, min(group.scores), max(group.scores))
        cells = [*map(str, group.changes.values()), str(len(group.scores)), *(f"{x:.4f}" for x in numbers)]
        table.add_row(*cells)
    return table
