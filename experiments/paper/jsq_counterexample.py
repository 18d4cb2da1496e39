"""Where join-shortest-queue breaks promises that Aladdin keeps: ``python -m experiments.paper.jsq_counterexample``.

Two workers of the paper's setting. Two long answers run on the one that counts more requests, but they have gathered
slack; the other counts fewer, but holds a short answer that has none, or a prompt that is still to be prefilled. The
shortest queue is then the wrong one, twice: a long prompt stalls the short answer beyond its pace, and a long prompt
queues behind another beyond its first token. Every request could be served in time, and under Aladdin it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from aladdin_env.presets import load_scenario
from aladdin_env.scenario import SLO, Scenario
from aladdin_env.simulator.run import simulate
from aladdin_traces import Workload
from experiments.paper.pictures import POLICIES, RED, legend, name_axes, new_figure
from experiments.paper.shared import Asked, Finding, script

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = Path(__file__).stem
OBJECTIVE = SLO(ttft_s=0.7, atgt_s=0.04)
SHOWN = ("least_request", "aladdin")


class Request(NamedTuple):
    """A request of the example: a letter, when it arrives, its lengths, what it is there for."""

    name: str
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    role: str


REQUESTS = (
    Request("A", 0.00, 200, 240, "long answer"),
    Request("B", 0.10, 100, 12, "keeps worker 1 busy while C arrives"),
    Request("C", 0.20, 200, 240, "long answer"),
    Request("D", 2.00, 100, 16, "short answer: no slack yet when E arrives"),
    Request("E", 2.20, 3900, 8, "long prompt: stalls whoever runs beside it"),
    Request("F", 3.60, 3900, 8, "long prompt"),
    Request("G", 3.65, 3900, 8, "long prompt: too late behind F"),
)
_PHASES = (("queue", "#d9d9d9"), ("prefill", "#b58900"), ("decode", "#2f5d8a"))


def example() -> Scenario:
    """Two workers of the paper's setting, and the requests."""
    base = load_scenario("sharegpt-poisson").with_workers((2,))
    columns = zip(*((r.arrival_s, r.prompt_tokens, r.output_tokens) for r in REQUESTS), strict=True)
    return replace(base.with_workload(Workload.from_arrays(*map(list, columns))), slo=OBJECTIVE)


def find(asked: Asked) -> Finding:
    """Both runs, and each worker's timeline."""
    scenario = example()
    tables = [_outcome(name, scenario) for name in SHOWN]
    table = pd.concat(tables, ignore_index=True)
    title = f"Objectives: first token in {OBJECTIVE.ttft_s:g} s, {OBJECTIVE.atgt_s * 1e3:g} ms per token"
    figure = new_figure(title, rows=len(SHOWN), width=11.0, height=3.2)
    for axes, (policy, rows) in zip(figure.axes, table.groupby("policy", sort=False), strict=True):
        _timeline(axes, str(policy), rows)
    missed = {name: int((~rows["met"]).sum()) for name, rows in table.groupby("policy")}
    ours = ", ".join(
        f"{POLICIES[name]}: {missed[name]} of {len(REQUESTS)} requests miss their objective" for name in SHOWN
    )
    paper = (
        "join-shortest-queue sends long prompts where they break running requests' pace, though another worker has room"
    )
    return Finding(table, {"": figure}, paper, ours)


def _outcome(policy: str, scenario: Scenario) -> pd.DataFrame:
    """A row per request under this policy."""
    found = simulate(scenario, policy).requests
    after_first = (found["output_tokens"] - 1).clip(lower=1)
    return pd.DataFrame(
        {
            "policy": policy,
            "request": [r.name for r in REQUESTS],
            "role": [r.role for r in REQUESTS],
            "worker": found["worker"],
            "arrival_s": found["arrival_s"],
            "admitted_s": found["arrival_s"] + found["queue_s"],
            "first_token_s": found["first_token_s"],
            "finish_s": found["finish_s"],
            "ttft_s": found["first_token_s"] - found["arrival_s"],
            "atgt_s": (found["finish_s"] - found["first_token_s"]) / after_first,
            "met": found["met_slo"],
        }
    )


def _timeline(axes: Axes, policy: str, rows: pd.DataFrame) -> None:
    """A lane per request, by worker: in the queue, in prefill, in decode."""
    ordered = rows.sort_values(["worker", "arrival_s"], ascending=False).reset_index(drop=True)
    for lane, row in enumerate(ordered.to_dict("records")):
        moments = [float(row[name]) for name in ("arrival_s", "admitted_s", "first_token_s", "finish_s")]
        for (_, colour), begin, end in zip(_PHASES, moments, moments[1:], strict=False):
            axes.barh(lane, end - begin, left=begin, color=colour, height=0.7)
        text = f"first token {row['ttft_s']:.2f} s, {row['atgt_s'] * 1e3:.0f} ms per token"
        colour, weight = ("#444444", "normal") if row["met"] else (RED, "bold")
        axes.text(moments[-1] + 0.03, lane, text, va="center", fontsize=8, color=colour, fontweight=weight)
    axes.set_yticks(
        ordered.index, [f"{r} on worker {w}" for r, w in zip(ordered["request"], ordered["worker"], strict=True)]
    )
    split = int((ordered["worker"] == ordered["worker"].max()).sum()) - 0.5
    axes.axhline(split, color="black", linewidth=0.6)
    axes.set_xlim(0.0, 1.24 * float(rows["finish_s"].max()))
    for name, colour in _PHASES:
        axes.barh([0.0], [0.0], color=colour, label=name)
    name_axes(axes, f"{POLICIES[policy]} (red: misses its objective)", "time (s)", "")
    legend(axes, ncols=len(_PHASES), loc="lower left")


def main(given: Sequence[str] | None = None) -> None:
    """The command line."""
    script(NAME, find, given)


if __name__ == "__main__":
    main()
