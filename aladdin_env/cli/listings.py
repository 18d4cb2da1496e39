"""``aladdin scenarios`` and ``aladdin policies``: what there is to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tomli_w
import typer
from rich import box
from rich.table import Table

from aladdin_env import presets
from aladdin_env.cli.options import DEFAULT_SCENARIO, JsonOption, ScenarioOption, complete_scenarios
from aladdin_env.cli.output import print_json, say_if_compiling, stdout
from aladdin_env.compare.catalogue import describe_policies
from aladdin_env.scenario import Scenario
from aladdin_env.scenario_file import scenario_to_dict

scenarios = typer.Typer(help="List the shipped scenarios, or show one.", invoke_without_command=True)


@scenarios.callback()
def list_scenarios(context: typer.Context, json: JsonOption = False) -> None:
    """List the shipped scenarios, a line each."""
    if context.invoked_subcommand is not None:
        return
    rows = [_scenario_row(presets.load_scenario(name)) for name in presets.scenario_names()]
    if json:
        print_json(rows)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("scenario", "requests/s", "hours", "workers", "what"):
        table.add_column(heading, justify="right" if heading in ("requests/s", "hours") else "left")
    for row in rows:
        table.add_row(row["name"], f"{row['rate_rps']:.3g}", f"{row['hours']:.3g}", row["fleet"], row["description"])
    stdout().print(table)


def _scenario_row(scenario: Scenario) -> dict[str, Any]:
    types = scenario.fleet.types
    return {
        "name": scenario.name,
        "description": scenario.description,
        "rate_rps": scenario.workload.mean_rate_rps,
        "hours": (scenario.horizon_s or 0.0) / 3600,
        "fleet": ", ".join(f"{kind.minimum}-{kind.maximum} {kind.name}" for kind in types),
    }


@scenarios.command("show")
def show_scenario(
    name: Annotated[str, typer.Argument(help="Name or TOML file.", autocompletion=complete_scenarios)],
    json: JsonOption = False,
) -> None:
    """Print a scenario as TOML: change it, save it, give it back with --scenario FILE."""
    table = scenario_to_dict(presets.load_scenario(name), Path())
    if json:
        print_json(table)
    else:
        print(tomli_w.dumps(table, indent=2), end="")


def policies(scenario: ScenarioOption = DEFAULT_SCENARIO, json: JsonOption = False) -> None:
    """List placements and scalers with what they do and the settings they have in a scenario."""
    say_if_compiling()
    rows = describe_policies(presets.load_scenario(scenario))
    if json:
        print_json(rows)
        return
    for kind in ("placement", "scaler"):
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column(kind, no_wrap=True)
        table.add_column("what")
        table.add_column("settings")
        for row in rows:
            if row["kind"] == kind:
                table.add_row(row["name"], row["description"], settings_text(row["settings"]))
        stdout().print(table)


def settings_text(settings: dict[str, Any]) -> str:
    """Settings as ``name=value`` pairs."""
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items()
    )
