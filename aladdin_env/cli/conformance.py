"""``aladdin conformance``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from aladdin_env.cli import options as opt
from aladdin_env.cli.exit_codes import NO_ANSWER
from aladdin_env.cli.output import print_json, progress_bar, stderr, stdout
from aladdin_env.errors import InputError, suggest

if TYPE_CHECKING:
    from aladdin_env.bridge.conformance import Case, Outcome, Suite

_STYLES = {"pass": "green", "fail": "bold red", "skip": "dim"}


def _complete_case(incomplete: str) -> list[str]:
    from aladdin_env.bridge.conformance import CASES

    return [case.name for case in CASES if case.name.startswith(incomplete)]


def conformance(
    router: Annotated[str | None, typer.Option(help="Address of a router that runs before the backends.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Start this router: {port} and {backends} or {backends:--worker} or {backend0} ... are filled in.",
        ),
    ] = None,
    start_preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Start a known router: aladdin, vllm-router, smg.")
    ] = None,
    backends: Annotated[int, typer.Option(help="How many backends there are.")] = 2,
    backend_host: Annotated[str, typer.Option(help="Address on which they listen.")] = "127.0.0.1",
    backend_port: Annotated[
        int | None, typer.Option(help="Port of the first, the others follow; 9101, or free ones for --start.")
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option(help="Only this case; give it once for each.", autocompletion=_complete_case)
    ] = None,
    fill: Annotated[int, typer.Option(help="Requests at once that should make the router queue some.")] = 64,
    recovery: Annotated[float, typer.Option(help="Seconds within which a backend that is back must be used.")] = 15.0,
    wait: Annotated[float, typer.Option(help="Seconds until the router must serve.")] = 120.0,
    list_: Annotated[bool, typer.Option("--list", help="List the cases, with their reasons, and run nothing.")] = False,
    json: opt.JsonOption = False,
) -> None:
    """Check what a router does with requests, streams, hang-ups and dying backends: any router, before our backends.

    Exit code 0: no case failed; 1: some did.
    """
    from aladdin_env.bridge.conformance import FAIL, Bounds, Suite, chosen

    cases = chosen(case or ())
    if list_:
        _list(cases, json)
        return
    template = _template(router, start, start_preset)
    _check_positive({"--fill": fill, "--recovery": recovery, "--wait": wait})
    port = backend_port if backend_port is not None else (0 if template else 9101)
    if not 0 <= port <= 65535 - backends:
        raise InputError("--backend-port", port, "give 1 to 65535, with room for all backends")
    suite = Suite(backends, backend_host, port, Bounds(recovery_s=recovery, fill=fill))
    outcomes = asyncio.run(_Job(suite, router, template, wait).run(cases))
    if json:
        found: dict[str, object] = {outcome.case.name: outcome.verdict for outcome in outcomes}
        print_json(found | {"reasons": {outcome.case.name: outcome.reason for outcome in outcomes if outcome.reason}})
    else:
        _print(outcomes)
    if any(outcome.verdict == FAIL for outcome in outcomes):
        raise typer.Exit(NO_ANSWER)


def _template(router: str | None, start: str | None, preset: str | None) -> str | None:
    """The command line of the router to start; None where it runs already."""
    from aladdin_env.bridge.conformance import PRESETS

    given = [value for value in (router, start, preset) if value is not None]
    if len(given) != 1:
        raise InputError("router", len(given), "give exactly one of --router, --start, --start-preset")
    if router is not None and not router.startswith(("http://", "https://")):
        raise InputError("--router", router, "give an address such as http://127.0.0.1:8000")
    if preset is not None and preset not in PRESETS:
        raise InputError("--start-preset", preset, suggest(preset, PRESETS))
    return start if preset is None else PRESETS[preset]


def _check_positive(values: dict[str, float]) -> None:
    for option, value in values.items():
        if not value > 0:
            raise InputError(option, value, "give a number above 0")


@dataclass(frozen=True)
class _Job:
    """A suite and the router that it is for."""

    suite: Suite
    router: str | None
    template: str | None
    wait_s: float

    async def run(self, cases: Sequence[Case]) -> list[Outcome]:
        """Start what is to be started, and try the cases."""
        async with self.suite as suite:
            if self.template is not None:
                await suite.start(self.template, self.wait_s)
            elif self.router is not None:
                self._tell(suite.urls, self.router)
                await suite.use(self.router, self.wait_s)
            done = 0
            with progress_bar("trying", len(cases)) as told:

                def count(outcome: Outcome) -> None:
                    nonlocal done
                    done += 1
                    told(done)

                return await suite.run(cases, count)

    def _tell(self, urls: Sequence[str], router: str) -> None:
        """Say how routers are pointed at the backends."""
        from aladdin_env.bridge.conformance import PRESETS
        from aladdin_env.bridge.conformance.launch import filled

        stderr().print(f"backends: {' '.join(urls)}; waiting up to {self.wait_s:g} s for {router}, started as in:")
        port = router.rstrip("/").rpartition(":")[2]
        for template in PRESETS.values():
            stderr().print(f"  {filled(template, int(port) if port.isdecimal() else 80, urls)}", soft_wrap=True)


def _list(cases: Sequence[Case], json: bool) -> None:
    if json:
        print_json({case.name: {"theme": case.theme, "what": case.what, "why": case.why} for case in cases})
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("case", "what", "why"):
        table.add_column(heading, overflow="fold")
    for case in cases:
        table.add_row(case.name, case.what, Text(case.why, style="dim"))
    stdout().print(table)


def _print(outcomes: Sequence[Outcome]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("case", "", "what was seen; what is asked"):
        table.add_column(heading, overflow="fold")
    theme = ""
    for outcome in outcomes:
        if theme not in ("", outcome.case.theme):
            table.add_section()
        theme = outcome.case.theme
        told = Text(outcome.reason)
        if outcome.reason:
            told.append(f"\n{outcome.case.what}", style="dim")
        table.add_row(outcome.case.name, Text(outcome.verdict, style=_STYLES[outcome.verdict]), told)
    counts = Counter(outcome.verdict for outcome in outcomes)
    stdout().print(table)
    stdout().print(", ".join(f"{counts[verdict]} {verdict}" for verdict in _STYLES))
