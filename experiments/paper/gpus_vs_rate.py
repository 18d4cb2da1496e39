"""GPUs needed against the request rate, and what Aladdin saves: ``python -m experiments.paper.gpus_vs_rate``.

The fewest workers with 99 % attainment, in three settings: the paper's as we have it; the same with an objective near
what one GPU can do at all, where Aladdin may also choose the GPUs per worker while default vLLM stays at one; and
prompts of which every tenth is as long as Mooncake's. Demand is constant here; :mod:`experiments.paper.whole_system`
lets it vary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from aladdin_env.latency import load_profile
from aladdin_env.scenario import SLO, Scenario
from experiments.paper.loads import mixed_load
from experiments.paper.pictures import COLOURS, POLICIES, RED, band, legend, name_axes, new_figure, same_height
from experiments.paper.shared import (
    Asked,
    Finding,
    Key,
    Need,
    configured,
    fewest_gpus,
    of_profile,
    only,
    over_seeds,
    paper_setting,
    percent,
    policy,
    script,
    seeds_text,
    stacked,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
RATES_RPS = (12.5, 25.0, 50.0, 100.0)
HORIZON_S = 240.0
DEFAULT = "round_robin"
CONFIGURED = {"configured round_robin": "round_robin", "configured aladdin": "aladdin"}
"""Systems that choose the GPUs per worker, and their placements."""
_LABELS = POLICIES | {
    "configured round_robin": "round robin, Aladdin's GPUs per worker",
    "configured aladdin": "Aladdin, its GPUs per worker too",
}
_COLOURS = COLOURS | {"configured round_robin": "#6a4c93", "configured aladdin": RED}


@dataclass(frozen=True)
class Setting:
    """A load and an objective.

    Attributes:
        title: For people.
        scenario: At any rate.
        systems: What is compared, with the placement of each; "configured ..." also choose the GPUs per worker.
    """

    title: str
    scenario: Scenario
    systems: dict[str, str]

    def needs(self, asked: Asked) -> Iterator[tuple[Key, Need]]:
        """What is looked for, by rate, system and seed."""
        rates, horizon_s = (RATES_RPS[:2], 40.0) if asked.quick else (RATES_RPS, HORIZON_S)
        for rate, seed, (system, placement) in product(rates, asked.seeds, self.systems.items()):
            load = self.scenario.with_workload(self.scenario.workload.with_rate(rate), horizon_s)
            chosen = configured(load) if system in CONFIGURED else load
            yield (rate, system, seed), Need(chosen, policy(placement), seed)


def find(asked: Asked) -> Finding:
    """GPUs of every system at every rate, and the savings."""
    known = settings()
    tables = {}
    for i, (name, setting) in enumerate(known.items()):
        needs = dict(setting.needs(asked))
        needed = fewest_gpus(needs, asked.part(i / len(known), (i + 1) / len(known)))
        tables[name] = over_seeds(needed, "rate_rps", {DEFAULT: "saved"}).rename(columns={"policy": "system"})
    table = stacked(tables, "setting")
    paper = "up to 71 % of the GPUs saved against default vLLM at the same SLO, in simulation, at high demand"
    return Finding(table, {"": _picture(table, known, seeds_text(asked))}, paper, _told(table))


def settings() -> dict[str, Setting]:
    """The settings by their names in the table."""
    base, plain = paper_setting(1.0), {name: name for name in POLICIES}
    tight = replace(base, slo=SLO(1.0, 0.03))
    mixed = replace(of_profile(base, load_profile("llama-3.1-8b-h100-tp1")), slo=SLO(1.5, 0.025), workload=mixed_load())
    return {
        "paper": Setting("Llama-2-13B, A100, ShareGPT: 1 s, 50 ms per token", base, plain),
        "tight": Setting("The same: 1 s, 30 ms per token", tight, plain | CONFIGURED),
        "mixed": Setting("Llama-3.1-8B, H100, 10 % long prompts: 1.5 s, 25 ms per token", mixed, plain),
    }


def _told(table: pd.DataFrame) -> str:
    """The savings at the highest rate."""
    top = table[table["rate_rps"] == table["rate_rps"].max()]
    cases = {
        "paper's setting": ("paper", "aladdin"),
        "near the knee": ("tight", "aladdin"),
        "there with its own GPUs per worker": ("tight", "configured aladdin"),
        "10 % long prompts": ("mixed", "aladdin"),
    }
    rows = {words: only(top, setting=setting, system=system) for words, (setting, system) in cases.items()}
    told = (f"{words} {percent(row, 'saved')}" for words, row in rows.items())
    return f"saved at {table['rate_rps'].max():g}/s: " + ", ".join(told)


def _picture(table: pd.DataFrame, known: dict[str, Setting], seeds: str) -> Figure:
    figure = new_figure(f"Fewest GPUs with 99 % attainment, and saved against default vLLM; {seeds}", len(known), 2)
    above, below = figure.axes[: len(known)], figure.axes[len(known) :]
    for needed, saved, (name, setting) in zip(above, below, known.items(), strict=True):
        of_setting = table[table["setting"] == name]
        for system in setting.systems:
            rows = of_setting[of_setting["system"] == system]
            band(needed, rows, "rate_rps", "gpus", _COLOURS[system], _LABELS[system])
            if system != DEFAULT:
                band(saved, rows, "rate_rps", "saved", _COLOURS[system], _LABELS[system], scale=100.0)
        needed.set_ylim(bottom=0.0)
        saved.axhline(0.0, color="black", linewidth=0.8)
        name_axes(needed, setting.title, "rate (requests/s)", "GPUs")
        name_axes(saved, "", "rate (requests/s)", "GPUs saved against default vLLM (%)")
        legend(needed)
    same_height(below)
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
