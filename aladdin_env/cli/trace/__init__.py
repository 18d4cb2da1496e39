"""``aladdin trace``: read, convert, describe, fit and fetch request traces; each command has its own module."""

from __future__ import annotations

import typer

from aladdin_env.cli.trace.convert import convert
from aladdin_env.cli.trace.fetch import fetch
from aladdin_env.cli.trace.look import fit, info

trace = typer.Typer(help="Request traces: look at them, convert them, fit them, fetch them.", no_args_is_help=True)
trace.command()(convert)
trace.command()(fetch)
trace.command()(info)
trace.command()(fit)
