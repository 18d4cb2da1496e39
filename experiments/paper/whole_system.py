"""What each part of Aladdin saves where demand varies: ``python -m experiments.paper.whole_system``.

A day's rise and fall in an hour. Default vLLM is provisioned for the peak: a fixed fleet of one-GPU workers (the
model fits on one) under round robin, the smallest that holds 99 % over the whole. Aladdin's parts are then added one
by one: the GPUs per worker by the sizing formulas, the placement, both on the smallest fixed fleet that holds 99 %,
and at last the scaler, whose GPUs are the mean over the hour. How much each saves depends on the objective and the day.
A fixed fleet is looked for until it holds 99 %; a fleet that scales attains what it attains: in how many episodes it
holds 99 % is said beside what it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aladdin_env.compare import TARGET, Contender
from aladdin_env.scenario import SLO, Scenario
from aladdin_traces import PROFILES, Diurnal
from experiments.paper.pictures import SERIES, band, legend, name_axes, new_figure
from experiments.paper.shared import (
    Asked,
    Finding,
    Key,
    Need,
    configured,
    fewest_gpus,
    measured,
    measures_over_seeds,
    only,
    over_seeds,
    paper_setting,
    percent,
    policy,
    script,
    seeds_text,
    sized,
    stacked,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
DAYS = {"azure-conv-weekday": "conversations", "azure-code-weekday": "code completion"}
"""Azure's weekdays of 2024, of which only the hours are taken; lengths are ShareGPT's."""
ATGT_MS = (30.0, 40.0, 50.0)
RATE_RPS, HORIZON_S = 60.0, 3600.0
DEFAULT, SCALED = "default vLLM", "+ scaling"
FIXED = {
    DEFAULT: ("round_robin", False),
    "+ GPUs per worker": ("round_robin", True),
    "+ placement": ("aladdin", True),
}
"""Systems on fixed fleets: placement, and whether they choose the GPUs per worker. Each adds to the one before."""


def find(asked: Asked) -> Finding:
    """GPUs of every system, on every day, under every objective."""
    days = list(DAYS)[:1] if asked.quick else list(DAYS)
    stages = (asked.part(i / len(days), (i + 1) / len(days)) for i in range(len(days)))
    table = stacked({day: _of_day(day, stage) for day, stage in zip(days, stages, strict=True)}, "day")
    paper = "up to 71 % of the GPUs saved against default vLLM at the same SLO (the share of each part not known to us)"
    return Finding(table, {"": _picture(table, seeds_text(asked))}, paper, _told(table))


def _of_day(day: str, asked: Asked) -> pd.DataFrame:
    """GPUs of every system, the savings, and the attainment of the fleet that scales."""
    loads = {atgt_ms: load(day, atgt_ms, asked.quick) for atgt_ms in (ATGT_MS[1:] if asked.quick else ATGT_MS)}
    needs = {}
    for atgt_ms, seed, (system, (placement, chooses)) in product(loads, asked.seeds, FIXED.items()):
        scenario = configured(loads[atgt_ms]) if chooses else loads[atgt_ms]
        start = max(1, round(0.7 * peak_over_mean(day) * sized(scenario)))
        needs[atgt_ms, system, seed] = Need(scenario, policy(placement), seed, start)
    amounts = fewest_gpus(needs, asked.part(0.0, 0.85))
    both = Contender("aladdin+aladdin", "aladdin+aladdin")
    scaling = {
        (atgt_ms, SCALED, seed): Need(scaled(configured(one)), both, seed)
        for (atgt_ms, one), seed in product(loads.items(), asked.seeds)
    }
    runs = measured(scaling, None, asked.part(0.85, 1.0))
    amounts |= {key: summary["gpus_mean"] for key, summary in runs.items()}
    table = over_seeds(amounts, "atgt_ms", {DEFAULT: "saved"})
    attained = measures_over_seeds(runs, "atgt_ms", {"slo_attainment": "attainment"})
    held = {atgt_ms: _held(runs, atgt_ms) for atgt_ms in loads}
    attained = attained.assign(held=attained["atgt_ms"].map(held), seeds=len(asked.seeds))
    return table.merge(attained, on=["atgt_ms", "policy"], how="left").rename(columns={"policy": "system"})


def _held(runs: Mapping[Key, Mapping[str, float]], atgt_ms: float) -> int:
    """Episodes under an objective that hold the target."""
    return sum(one["slo_attainment"] >= TARGET for (at_ms, _, _), one in runs.items() if at_ms == atgt_ms)


def load(day: str, atgt_ms: float, quick: bool) -> Scenario:
    """The paper's setting under a day that passes in an hour."""
    rate_rps, horizon_s = (8.0, 120.0) if quick else (RATE_RPS, HORIZON_S)
    base = paper_setting(rate_rps, horizon_s)
    arrivals = Diurnal(rate_rps, day, noise_sd=0.05, period_s=horizon_s)
    return replace(base, slo=SLO(1.0, atgt_ms / 1e3), workload=replace(base.workload, arrivals=arrivals))


def peak_over_mean(day: str) -> float:
    """Demand of the busiest hour over that of the day."""
    return max(PROFILES[day]) * len(PROFILES[day]) / sum(PROFILES[day])


def scaled(fixed: Scenario) -> Scenario:
    """With a fleet that scales, at first of the size for the mean rate."""
    (kind,) = fixed.fleet.types
    workers = sized(fixed)
    scaling = replace(kind, initial=workers, minimum=1, maximum=4 * workers)
    return replace(fixed, fleet=replace(fixed.fleet, types=(scaling,)))


def _told(table: pd.DataFrame) -> str:
    """Savings under the tightest and the loosest objective, part by part."""
    parts = []
    for day, atgt_ms in product(dict.fromkeys(table["day"]), (table["atgt_ms"].min(), table["atgt_ms"].max())):
        rows = [(system, only(table, day=day, atgt_ms=atgt_ms, system=system)) for system in [*FIXED, SCALED][1:]]
        steps = ", ".join(f"{system} {percent(row, 'saved')}" for system, row in rows)
        parts.append(f"{DAYS[day]}, {atgt_ms:g} ms per token: {steps}, {_attained(rows[-1][1])}")
    return f"saved: {'; '.join(parts)}"


def _attained(row: Mapping[str, Any]) -> str:
    """What a fleet that scales attains, and in how many episodes that is enough."""
    return f"at {100.0 * row['attainment']:.1f} % ({row['held']:.0f} of {row['seeds']:.0f} hold {100.0 * TARGET:g} %)"


def _picture(table: pd.DataFrame, seeds: str) -> Figure:
    days = list(dict.fromkeys(table["day"]))
    title = f"Llama-2-13B on A100, ShareGPT lengths, a day's demand in an hour; {seeds}; hollow: some miss 99 %"
    figure = new_figure(title, len(days), 2)
    for needed, saved, day in zip(figure.axes[: len(days)], figure.axes[len(days) :], days, strict=True):
        for system, colour in zip([*FIXED, SCALED], (SERIES[-1], *SERIES[1:3], SERIES[0]), strict=True):
            rows = table[(table["day"] == day) & (table["system"] == system)]
            band(needed, rows, "atgt_ms", "gpus", colour, system)
            if system != DEFAULT:
                band(saved, rows, "atgt_ms", "saved", colour, system, scale=100.0)
            short = rows[rows["held"] < rows["seeds"]]
            for axes, column, scale in ((needed, "gpus", 1.0), (saved, "saved", 100.0)):
                axes.plot(short["atgt_ms"], scale * short[column], "o", markersize=4, color=colour, mfc="white")
        needed.set_xticks(table["atgt_ms"].unique())
        saved.set_xticks(table["atgt_ms"].unique())
        needed.set_ylim(bottom=0.0)
        saved.set_ylim(0.0, 100.0)
        title = f"Azure's hours, {DAYS[day]}: peak over mean {peak_over_mean(day):.2f}"
        name_axes(needed, title, "objective (ms per token)", "GPUs (with scaling: mean over time)")
        name_axes(saved, "", "objective (ms per token)", "GPUs saved against default vLLM (%)")
        legend(needed)
        legend(saved)
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
