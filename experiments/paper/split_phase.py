"""Decode GPUs where prefill and decode run apart: ``python -m experiments.paper.split_phase``.

The prefill pool is fixed, ample, and counts requests whatever the policy; compared is who places on the decode workers,
of which the fewest are searched that hold 99 %. The objective on the pace sets how much there is to save: two loads,
each from a loose objective to one near what a worker can do at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from aladdin_agents.sizing import plan
from aladdin_env.compare import Ladder, Search
from aladdin_env.latency import load_profile
from aladdin_env.scenario import SLO, Fleet, Scenario
from aladdin_traces import Workload
from experiments.paper.loads import mixed_load
from experiments.paper.phases import on_decode
from experiments.paper.pictures import COLOURS, POLICIES, band, legend, name_axes, new_figure, same_height
from experiments.paper.shared import (
    Asked,
    Finding,
    Key,
    Need,
    at_rate,
    fewest,
    most,
    of_profile,
    over_seeds,
    paper_setting,
    percent,
    script,
    seeds_text,
    stacked,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
RATE_RPS, HORIZON_S = 40.0, 300.0
PREFILL_WORKERS = 30
"""Several times what the prompts need."""
SHOWN = ("least_request", "power_of_two", "aladdin")
REFERENCES = {"least_request": "saved_against_jsq", "power_of_two": "saved_against_power_of_two"}


@dataclass(frozen=True)
class Load:
    """Requests, workers and objectives.

    Attributes:
        title: For people.
        profile: Of all workers.
        workload: At any rate.
        ttft_s: Objective on the first token.
        atgt_ms: Objectives on the pace.
    """

    title: str
    profile: str
    workload: Workload
    ttft_s: float
    atgt_ms: tuple[float, ...]

    def needs(self, asked: Asked) -> Iterator[tuple[Key, Need]]:
        """What is looked for, by objective, policy and seed."""
        atgt_ms, horizon_s = (self.atgt_ms[-1:], 20.0) if asked.quick else (self.atgt_ms, HORIZON_S)
        for objective, seed, name in product(atgt_ms, asked.seeds, SHOWN):
            scenario = self.scenario(objective, horizon_s)
            (decode,) = (one for one in plan(scenario) if one.role == "decode")
            ladder = DecodeLadder((1, 1), PREFILL_WORKERS + 8 * decode.workers + 8, 1)
            start = PREFILL_WORKERS + decode.workers
            yield (objective, name, seed), Need(scenario, on_decode(name), seed, start, ladder)

    def scenario(self, atgt_ms: float, horizon_s: float) -> Scenario:
        """The load on workers whose phases are apart, under one of the objectives."""
        base = replace(paper_setting(1.0), workload=self.workload, slo=SLO(self.ttft_s, atgt_ms / 1e3))
        (kind,) = of_profile(base, load_profile(self.profile)).fleet.types
        roles = tuple(replace(kind, name=role, scheduler="split", role=role) for role in ("prefill", "decode"))
        return at_rate(replace(base, fleet=Fleet(roles)), RATE_RPS, horizon_s)


@dataclass(frozen=True)
class DecodeLadder(Ladder):
    """Fleets of the fixed prefill pool and 1, 2, 3, ... decode workers."""

    @property
    def least(self) -> int:
        """Workers of the smallest fleet."""
        return PREFILL_WORKERS + 1

    def counts(self, workers: int) -> tuple[int, ...]:
        """All but the prefill pool decode."""
        return PREFILL_WORKERS, workers - PREFILL_WORKERS


def loads() -> dict[str, Load]:
    """The loads by their names in the table."""
    sharegpt = paper_setting(1.0).workload
    return {
        "sharegpt": Load(
            "Llama-2-13B on A100, ShareGPT", "llama-2-13b-a100-tp1", sharegpt, 1.0, (30.0, 32.5, 35.0, 40.0, 50.0)
        ),
        "mixed": Load(
            "Llama-3.1-8B on A100, 10 % long prompts", "llama-3.1-8b-a100-tp1", mixed_load(), 6.0,
            (16.0, 17.0, 18.0, 20.0, 25.0, 30.0),
        ),
    }  # fmt: skip


def find(asked: Asked) -> Finding:
    """Decode GPUs of the three policies under every objective."""
    known = loads()
    tables = {}
    for i, (name, load) in enumerate(known.items()):
        needs = dict(load.needs(asked))
        found = fewest(needs, asked.part(i / len(known), (i + 1) / len(known)))
        amounts = {key: _decode_gpus(need, found[key]) for key, need in needs.items()}
        tables[name] = over_seeds(amounts, "atgt_ms", REFERENCES)
    table = stacked(tables, "load")
    ours = "decode GPUs saved, at most: " + ", ".join(_most(table, name) for name in REFERENCES)
    paper = "decode GPUs saved: up to 60 % against join the shortest queue, up to 49 % against power of two"
    return Finding(table, {"": _picture(table, known, seeds_text(asked))}, paper, ours)


def _decode_gpus(need: Need, search: Search) -> float:
    (_, kind) = need.scenario.fleet.types
    return float("nan") if search.workers is None else float(search.counts[1] * kind.gpus)


def _most(table: pd.DataFrame, reference: str) -> str:
    """The largest saving against a policy, and where."""
    column = REFERENCES[reference]
    row = most(table[table["policy"] == "aladdin"], column)
    return f"{percent(row, column)} against {POLICIES[reference]} ({row['load']}, {row['atgt_ms']:g} ms per token)"


def _picture(table: pd.DataFrame, known: dict[str, Load], seeds: str) -> Figure:
    figure = new_figure(f"Split phase: decode workers at {RATE_RPS:g} requests/s; {seeds}", len(known), 2)
    above, below = figure.axes[: len(known)], figure.axes[len(known) :]
    for needed, saved, (name, load) in zip(above, below, known.items(), strict=True):
        of_load = table[table["load"] == name]
        for policy in SHOWN:
            band(needed, of_load[of_load["policy"] == policy], "atgt_ms", "gpus", COLOURS[policy], POLICIES[policy])
        of_aladdin = of_load[of_load["policy"] == "aladdin"]
        for policy, column in REFERENCES.items():
            band(saved, of_aladdin, "atgt_ms", column, COLOURS[policy], f"against {POLICIES[policy]}", scale=100.0)
        needed.set_ylim(bottom=0.0)
        saved.axhline(0.0, color="black", linewidth=0.8)
        name_axes(needed, load.title, "objective (ms per token)", "decode GPUs for 99 % attainment")
        name_axes(saved, "", "objective (ms per token)", "decode GPUs saved by Aladdin (%)")
        legend(needed)
        legend(saved)
    same_height(below)
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
