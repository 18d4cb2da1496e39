"""The commands put together, and what every command does with a mistake or Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from aladdin_env.cli.bench import bench
from aladdin_env.cli.compare import compare
from aladdin_env.cli.conformance import conformance
from aladdin_env.cli.exit_codes import INTERRUPTED, OUTSIDE_FAULT, USER_ERROR
from aladdin_env.cli.listings import policies, scenarios
from aladdin_env.cli.plan import plan
from aladdin_env.cli.replay_log import replay_log
from aladdin_env.cli.serve import serve
from aladdin_env.cli.shadow_report import shadow_report
from aladdin_env.cli.simulate import simulate
from aladdin_env.cli.trace import trace
from aladdin_env.cli.worker import worker
from aladdin_env.errors import InputError, OutsideFault


class OneLineErrors(TyperGroup):
    """A group whose commands answer a user's mistake, or Ctrl-C, with one line on stderr and an exit code."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options of the group itself."""
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        _leave(str(error), USER_ERROR)
    except OutsideFault as fault:
        _leave(" ".join(str(fault).split()), OUTSIDE_FAULT)
    except KeyboardInterrupt as stop:
        _leave("".join(("interrupted", *map(str, stop.args))), INTERRUPTED)
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        tell = getattr(error, "format_message", None)
        message = tell() if callable(tell) else str(error)
        _leave(" ".join(message.split()), getattr(error, "exit_code", USER_ERROR))


def _leave(message: str, code: int) -> NoReturn:
    sys.stdout.flush()
    print(f"aladdin: {message}", file=sys.stderr)
    raise typer.Exit(code)


app = typer.Typer(
    name="aladdin",
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Place LLM requests, size and scale their workers: simulate, compare, plan.",
    epilog="Exit codes: 0 done; 1 done, and the answer is no (no fleet holds the SLO); 2 a mistake in what was given; "
    "3 a server failed or was not free; 130 interrupted.",
)
app.command()(compare)
app.command()(simulate)
app.command()(plan)
app.command()(bench)
app.command()(conformance)
app.add_typer(scenarios, name="scenarios")
app.add_typer(trace, name="trace")
app.command()(policies)
app.command()(serve)
app.command()(shadow_report)
app.command()(replay_log)
app.command()(worker)
for entry in sorted(metadata.entry_points(group="aladdin.commands")):
    command = entry.load()  # these modules are light: what they need is imported when they run
    if isinstance(command, typer.Typer):  # several commands under one name
        app.add_typer(command, name=entry.name)
    else:
        app.command(name=entry.name)(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(metadata.version("aladdin-env"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """The script ``aladdin``."""
    app(prog_name="aladdin")
