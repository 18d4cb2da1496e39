"""``aladdin benchmark``: run the benchmark, show its table, run rows again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aladdin_agents.cli.options import RayOption
from aladdin_env.cli import options as opt
from aladdin_env.cli.exit_codes import NO_ANSWER
from aladdin_env.cli.output import print_json, progress_bar, say_if_compiling, stderr, stdout
from aladdin_env.errors import InputError, suggest

if TYPE_CHECKING:
    from aladdin_agents.benchmark.table import Line
    from aladdin_agents.benchmark.verify import Verdict

benchmark = typer.Typer(help="The benchmark: results anyone can run again (docs/benchmark.md).", no_args_is_help=True)

SplitOption = Annotated[str, typer.Option("--split", help="train, validate, or test: to report, never to choose by.")]
TaskOption = Annotated[
    list[str] | None, typer.Option("--task", help="placement, scaling or joint; repeatable, by default all.")
]
ScenarioOption = Annotated[list[str] | None, typer.Option("--scenario", help="Repeatable; by default all.")]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        help="placement, placement+scaler, or a policy file; repeatable; by default the heuristics.",
        autocompletion=opt.complete_policies,
    ),
]
ResultsArgument = Annotated[list[Path], typer.Argument(help="Files of results.", show_default=False)]


@benchmark.command()
def run(
    split: SplitOption = "validate",
    task: TaskOption = None,
    scenario: ScenarioOption = None,
    policy: PolicyOption = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Episodes of each scenario.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", help="File of results; rows that it has are kept.")] = None,
    jobs: opt.JobsOption = None,
    ray: RayOption = None,
) -> None:
    """Measure policies, and the clairvoyant bound, a row per scenario, policy and seed.

    Rows are written as they are done: after Ctrl-C the same command goes on where it was.
    """
    from aladdin_agents.benchmark.results import Ledger
    from aladdin_agents.benchmark.run import Asked, plan
    from aladdin_agents.benchmark.run import run as carry_out
    from aladdin_agents.benchmark.scenarios import BENCHMARK, TASKS
    from aladdin_agents.scale_out.engine import engine_of

    asked = Asked(split, tuple(task or TASKS), tuple(scenario or ()), tuple(policy or ()), seeds)
    opt.checked_jobs(jobs)
    file = out or Path(f"benchmark-{BENCHMARK}-{split}.csv")
    ledger = Ledger(file)
    planned = plan(asked, ledger)
    for note in planned.notes:
        stderr().print(note)
    if planned.kept:
        stderr().print(f"{file} has {planned.kept} of {planned.kept + len(planned.units)} rows already")
    say_if_compiling()
    with progress_bar("simulating", len(planned.units)) as told:
        carry_out(planned, ledger, engine=engine_of(ray, jobs), progress=told)
    stderr().print(f"{file}: {len(planned.units)} new rows")


@benchmark.command()
def table(
    files: ResultsArgument,
    task: TaskOption = None,
    scenario: Annotated[
        list[str] | None, typer.Option("--scenario", help='Repeatable; "all" for the summary; by default everything.')
    ] = None,
    json: opt.JsonOption = False,
) -> None:
    """Show results: mean, 95 % interval, interquartile mean, beside the best heuristic, Aladdin and the bound."""
    from aladdin_agents.benchmark.results import read_files
    from aladdin_agents.benchmark.table import lines, notes
    from aladdin_agents.cli.benchmark_table import tables

    rows = read_files(files)
    found = lines(rows)
    for option, attribute, chosen in (("--task", "task", task), ("--scenario", "scenario", scenario)):
        found = _only(option, attribute, chosen, found)
    if json:
        print_json([line.to_dict() for line in found])
        return
    for one in tables(found, notes(rows)):
        stdout().print(one)


def _only(option: str, attribute: str, chosen: list[str] | None, lines: list[Line]) -> list[Line]:
    """The lines with one of the chosen values, each of which some line must have."""
    known = list(dict.fromkeys(getattr(line, attribute) for line in lines))
    for value in chosen or ():
        if value not in known:
            raise InputError(option, value, suggest(value, known) if known else "the files have no such rows")
    return [line for line in lines if not chosen or getattr(line, attribute) in chosen]


@benchmark.command()
def verify(
    file: Annotated[Path, typer.Argument(help="File of results.", show_default=False)],
    rows: Annotated[int | None, typer.Option("--rows", help="So many rows, drawn; by default all.")] = None,
    jobs: opt.JobsOption = None,
    ray: RayOption = None,
) -> None:
    """Run rows again and compare every measure; exit code 1 if one differs.

    Policy files are looked for where the rows say, then beside the file of results.
    """
    from aladdin_agents.benchmark.results import read_rows
    from aladdin_agents.benchmark.verify import drawn, told
    from aladdin_agents.benchmark.verify import verify as run_again
    from aladdin_agents.scale_out.engine import engine_of

    opt.checked_jobs(jobs)
    chosen = drawn(read_rows(file), rows)
    say_if_compiling()
    with progress_bar("running again", len(chosen)) as tell:
        verdicts: list[Verdict] = run_again(chosen, file.parent, engine=engine_of(ray, jobs), progress=tell)
    other = [verdict for verdict in verdicts if verdict.measures]
    for verdict in other:
        stdout().print(told(verdict), soft_wrap=True)
    print(f"{len(verdicts) - len(other)} of {len(verdicts)} rows come out the same")
    if other:
        raise typer.Exit(NO_ANSWER)
