"""Throughput per GPU against GPUs per worker: ``python -m experiments.paper.worker_size``.

By the formula (:func:`aladdin_agents.sizing.capacity`), and by simulation: the fewest workers of that size that hold
99 % under the Aladdin placement. All sizes of a model on a GPU get the same load, one that takes about 48 GPUs of the
best size by the formula.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from aladdin_agents.sizing import Capacity, LengthStatistics, Safety, capacity
from aladdin_env.scenario import SLO, Scenario, WorkerType
from experiments.paper.pictures import SERIES, legend, name_axes, new_figure
from experiments.paper.shared import (
    Asked,
    Finding,
    Need,
    at_rate,
    fewest_gpus,
    most,
    of_profile,
    paper_setting,
    policy,
    script,
    sizes_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = Path(__file__).stem
OBJECTIVES = {"llama-2-13b": SLO(1.0, 0.05), "llama-2-70b": SLO(2.0, 0.08), "llama-3.1-70b": SLO(2.0, 0.08)}
"""Models, and what we ask of them; the paper's values are not known to us."""
DEVICES = ("a100", "h100")
LOAD_GPUS = 48
HORIZON_S = 90.0
SEED = 0


@dataclass(frozen=True)
class Size:
    """A worker of one size, what the formula says of it, and one such worker under the load to simulate."""

    model: str
    device: str
    kind: WorkerType
    each: Capacity
    scenario: Scenario

    @property
    def formula_rps(self) -> float:
        """Requests per second and GPU by the formula, its safety included."""
        return Safety().rho * self.each.rate_rps / self.kind.gpus


def find(asked: Asked) -> Finding:
    """Formula and simulation for every model, GPU and size."""
    pairs = [("llama-2-13b", "a100")] if asked.quick else list(product(OBJECTIVES, DEVICES))
    load_gpus, horizon_s = (8, 20.0) if asked.quick else (LOAD_GPUS, HORIZON_S)
    sizes = [size for model, device in pairs for size in _sizes(model, device, load_gpus, horizon_s)]
    needs = {(size.kind.name, "aladdin", SEED): Need(size.scenario, policy("aladdin"), SEED) for size in sizes}
    needed = fewest_gpus(needs, asked)
    table = pd.DataFrame(
        {
            "model": size.model,
            "gpu": size.device.upper(),
            "gpus_per_worker": size.kind.gpus,
            "formula_rps_per_gpu": size.formula_rps,
            "binds": size.each.binds,
            "simulated_rps_per_gpu": size.scenario.workload.mean_rate_rps / amount,
        }
        for size, amount in zip(sizes, needed.values(), strict=True)
    )
    paper = "the GPUs per worker are chosen for most throughput per GPU within the SLO (no figures known to us)"
    return Finding(table, {"": _picture(table)}, paper, _told(table))


def _sizes(model: str, device: str, load_gpus: int, horizon_s: float) -> Iterator[Size]:
    """The sizes of a model on a GPU for which there is a profile, under the same load."""
    base = paper_setting(1.0)
    slo = OBJECTIVES[model]
    trace = base.workload.sample(np.random.default_rng(SEED), 20_000.0)
    lengths = LengthStatistics.of(trace.prompt_tokens, trace.output_tokens)
    sizes = [of_profile(replace(base, slo=slo), profile) for profile in sizes_of(model, device)]
    kinds = [scenario.fleet.types[0] for scenario in sizes]
    each = [capacity(kind, slo, lengths) for kind in kinds]
    best = max(Safety().rho * one.rate_rps / kind.gpus for kind, one in zip(kinds, each, strict=True))
    for scenario, kind, one in zip(sizes, kinds, each, strict=True):
        yield Size(model, device, kind, one, at_rate(scenario, best * load_gpus, horizon_s))


def _told(table: pd.DataFrame) -> str:
    """The best size by formula and by simulation, and how far the formula is off there."""
    parts = []
    for (model, gpu), rows in table.groupby(["model", "gpu"], sort=False):
        by_formula, by_simulation = (most(rows, f"{how}_rps_per_gpu") for how in ("formula", "simulated"))
        off = by_formula["simulated_rps_per_gpu"] / by_formula["formula_rps_per_gpu"] - 1.0
        sizes = f"{by_formula['gpus_per_worker']} (simulated {by_simulation['gpus_per_worker']}, {100 * off:+.0f} %)"
        parts.append(f"{model} {gpu} {sizes}")
    return "best GPUs per worker by the formula (by simulation, its throughput against the formula's): " + "; ".join(
        parts
    )


def _picture(table: pd.DataFrame) -> Figure:
    models = list(dict.fromkeys(table["model"]))
    title = (
        "Throughput per GPU within the SLO: line by the formula, crosses simulated (99 %); ring: the formula's choice"
    )
    figure = new_figure(title, columns=len(models), width=4.6)
    for axes, model in zip(figure.axes, models, strict=True):
        of_model = table[table["model"] == model]
        for (device, rows), colour in zip(of_model.groupby("gpu"), SERIES, strict=False):
            x, formula, simulated = (
                rows[name] for name in ("gpus_per_worker", "formula_rps_per_gpu", "simulated_rps_per_gpu")
            )
            axes.plot(x, formula, marker="o", markersize=4, color=colour, label=f"{device}")
            axes.plot(x, simulated, "x", markersize=8, markeredgewidth=1.8, color=colour)
            best = formula.idxmax()
            axes.plot(x[best], formula[best], "o", markersize=13, markerfacecolor="none", color=colour)
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
        axes.set_xlim(0.8, 10.0)
        axes.set_ylim(bottom=0.0)
        slo = OBJECTIVES[model]
        name_axes(
            axes,
            f"{model}: {slo.ttft_s:g} s, {1e3 * slo.atgt_s:g} ms per token",
            "GPUs per worker",
            "requests/s and GPU",
        )
        legend(axes)
    return figure


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
