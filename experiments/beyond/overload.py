"""What is left of the goodput when more comes than a fleet can serve: ``python -m experiments.beyond.overload``.

Fixed fleets of the presets, on which counting requests holds 99 % at a steady rate (the preset's mean, or that of its
bursts), under that rate times 1 to 2. Goodput: requests that are served within their objectives, per second of the time
within which requests arrive; how long what is left is then worked off does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from aladdin_env.compare import estimate
from aladdin_env.presets import load_scenario
from aladdin_traces import Poisson, Workload
from experiments.beyond.script import Script
from experiments.beyond.settings import Setting
from experiments.beyond.tables import by_setting, grid
from experiments.beyond.units import Episodes, Unit, together
from experiments.heuristics import heuristics
from experiments.paper.pictures import COLOURS, RED, band, legend, name_axes, new_figure
from experiments.paper.shared import Asked, at_rate, only, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
LOADS = (1.0, 1.25, 1.5, 2.0)
HORIZON_S, SEEDS = 120.0, 10
SHOWN = {name: COLOURS[name] for name in ("round_robin", "least_request", "aladdin")} | {"aladdin_plus": RED}
"""In the picture, with their colours."""
RATES_RPS = {"sharegpt-poisson": 25.0, "azure-conv": 90.0, "azure-code": 80.0}
"""The mean of the preset; of "azure-code" that of its bursts."""


def fleets(traces: Path | None = None) -> dict[str, Setting]:
    """The presets; ``traces`` is not used."""
    found = {}
    for name, rate_rps in RATES_RPS.items():
        base = load_scenario(name)
        steady = Workload.generated(Poisson(rate_rps), name.removesuffix("-poisson"))
        scenario = replace(base, workload=steady, horizon_s=HORIZON_S)
        fixed = scenario.with_workers(tuple(kind.initial for kind in base.fleet.types))
        found[name] = Setting(f"{name}: {base.fleet.types[0].initial} workers", fixed, SEEDS)
    return found


def measure(setting: Setting, asked: Asked) -> pd.DataFrame:
    """A row per placement and load."""
    scenario, horizon_s = setting.scenario, setting.scenario.horizon_s or HORIZON_S
    labels = [one.label for one in heuristics(scenario)]
    units: dict[str, Unit] = {}
    for load in LOADS:
        busier = at_rate(scenario, load * scenario.workload.mean_rate_rps, horizon_s)
        entered = {one.label: one for one in heuristics(busier)}
        units |= {f"{label} {load}": Episodes(busier, setting.seeds, entered[label]) for label in labels}
    found = together(units, asked)
    rows = []
    for label in labels:
        for load in LOADS:
            mine = found[f"{label} {load}"]
            row: dict[str, object] = {"policy": label, "load": load, "seeds": setting.seeds}
            row |= {"rate_rps": load * scenario.workload.mean_rate_rps}
            goodput = [one["slo_attainment"] * one["requests"] / horizon_s for one in mine]
            row |= spread("goodput_rps", estimate(goodput, least=0.0))
            rows.append(row | spread("slo_attainment", estimate([one["slo_attainment"] for one in mine], least=0.0)))
    return pd.DataFrame(rows)


def told(table: pd.DataFrame) -> str:
    """Goodput by load, a table per setting."""
    parts = []
    for name, rows in by_setting(table):
        rate_rps = float(rows["rate_rps"].iloc[0] / rows["load"].iloc[0])
        headings = (f"{name}: goodput, requests/s", *(f"{load * rate_rps:g}/s ({load:g} times)" for load in LOADS))
        parts.append(grid(headings, [[f"`{policy}`", *_goodput(rows, policy)] for policy in rows["policy"].unique()]))
    return "\n\n".join(parts)


def _goodput(rows: pd.DataFrame, policy: str) -> list[str]:
    cells = (only(rows, policy=policy, load=load) for load in LOADS)
    return [f"{row['goodput_rps']:.1f} ({100.0 * row['slo_attainment']:.0f} %)" for row in cells]


def figures(table: pd.DataFrame, titles: Mapping[str, str]) -> dict[str, Figure]:
    """Goodput over load."""
    figure = new_figure("Goodput of a fixed fleet under more load than it can serve", len(titles))
    for axes, (name, rows) in zip(figure.axes, by_setting(table), strict=True):
        for policy, colour in SHOWN.items():
            band(axes, rows[rows["policy"] == policy], "load", "goodput_rps", colour, policy)
        axes.set_ylim(bottom=0.0)
        rate_rps = float(rows["rate_rps"].iloc[0] / rows["load"].iloc[0])
        name_axes(axes, titles[name], f"load over {rate_rps:g} requests/s", "goodput (requests/s)")
        legend(axes)
    return {"": figure}


SCRIPT = Script(NAME, fleets, ("azure-conv",), measure, figures, told)

if __name__ == "__main__":
    SCRIPT.main()
