"""Over how many tokens new requests are promised their pace: ``python -m experiments.tuning.promise``.

``aladdin.Settings.fresh_ahead``, on fixed fleets: the fewest workers that hold 99 %, under the placements ``aladdin``
and ``aladdin_plus``, with seeds from 1000 on; of the recorded code completion, where a folder has it, the first half.
Comparisons show seeds from 0 on, and the second half. Then the attainment on a fleet that is far too large, of short
answers to long prompts: what no worker more would mend.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from aladdin_agents import aladdin
from aladdin_agents.placements import PLUS
from aladdin_env.compare import Contender
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.run import simulate
from aladdin_traces import Histogram, IndependentLengths, LognormalMixture, Poisson, Workload, read_trace
from experiments.beyond.laws import Recorded
from experiments.beyond.placements import search_space
from experiments.beyond.settings import fixed_fleets
from experiments.beyond.tables import grid
from experiments.given import input_folder, processes
from experiments.paper.shared import Asked, Key, Need, fewest
from experiments.tuning.loads import TRACES

TRIES = (1.0, 2.0, 4.0, 8.0)
SEEDS = tuple(range(1000, 1004))
SETTINGS = ("paper", "classes", "conv", "code", "shift", "chat", "agents", "100/s")
SHORT = (range(2, 4), range(4, 12))
_SHORT_RPS, _SHORT_S, _MANY = 30.0, 60.0, 48
_SPEED = 10.0
"""Of the recorded code completion, as in :mod:`experiments.beyond.settings`."""


def scenarios(traces: Path | None) -> dict[str, Scenario]:
    """The settings, and the first half of the recorded code completion."""
    known = fixed_fleets()
    found = {name: known[name].scenario for name in SETTINGS}
    if traces is not None:
        whole = read_trace(traces / TRACES["trace azure-code"])
        law = Recorded(whole.window(0.0, 0.5 * whole.duration_s), speed=_SPEED)
        horizon_s = law.trace.duration_s / _SPEED
        found["trace code"] = replace(_on_h100(), workload=Workload.from_law(law), horizon_s=horizon_s)
    return found


def needs(scenario: Scenario) -> Iterator[tuple[Key, Need]]:
    """What is looked for, by tokens, placement and seed."""
    start, ladder = search_space(scenario)
    for name, settings in (("aladdin", aladdin.Settings()), ("aladdin_plus", PLUS)):
        for tokens in TRIES:
            make = partial(aladdin.make, settings=replace(settings, fresh_ahead=tokens))
            for seed in SEEDS:
                yield (tokens, name, seed), Need(scenario, Contender(name, make), seed, start, ladder)


def line(name: str, scenario: Scenario, jobs: int | None) -> list[str]:
    """The row of a setting: mean workers, and in how many episodes a fleet holds where not all do."""
    found = fewest(dict(needs(scenario)), Asked(jobs=jobs))
    cells = []
    for policy in ("aladdin", "aladdin_plus"):
        for tokens in TRIES:
            cells.append(_mean([found[tokens, policy, seed].workers for seed in SEEDS]))
    return [name, *cells]


def short_answers(outputs: Sequence[int]) -> Scenario:
    """Long prompts whose answers have one of these lengths, all equally likely, on many workers."""
    prompts = LognormalMixture((1.0,), (8.0,), (0.7,), minimum=100, maximum=16_000)
    lengths = IndependentLengths(prompts, Histogram(tuple(outputs), (1.0,) * len(outputs)))
    base = replace(_on_h100(), workload=Workload.generated(Poisson(_SHORT_RPS), lengths), horizon_s=_SHORT_S)
    return base.with_workers((_MANY,))


def _on_h100() -> Scenario:
    """Workers that take long prompts whole, under the objectives of code completion."""
    return replace(load_scenario("azure-conv"), slo=load_scenario("azure-code").slo)


def attained(outputs: Sequence[int]) -> list[str]:
    """The row of a range of lengths: mean attainment over the seeds, per cent."""
    scenario = short_answers(outputs)
    cells = [f"{outputs[0]} to {outputs[-1]} tokens"]
    for settings in (aladdin.Settings(), PLUS):
        for tokens in TRIES:
            made = aladdin.make(scenario, replace(settings, fresh_ahead=tokens))
            shares = [simulate(scenario, made, seed).summary["slo_attainment"] for seed in SEEDS]
            cells.append(f"{100.0 * sum(shares) / len(shares):.1f}")
    return cells


def _mean(workers: Sequence[int | None]) -> str:
    held = [one for one in workers if one is not None]
    mean = sum(held) / len(held) if held else math.nan
    return f"{mean:.2f}" if len(held) == len(workers) else f"{mean:.2f} ({len(held)} of {len(workers)})"


def main() -> None:
    """Print a table, each setting as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=input_folder, help="folder with Azure's 2023 traces")
    parser.add_argument("--jobs", type=processes)
    asked = parser.parse_args()
    columns = [f"`{name}`, {n:g}" for name in ("aladdin", "aladdin_plus") for n in TRIES]
    print(grid(["fewest workers", *columns], ()), flush=True)
    for name, scenario in scenarios(asked.traces).items():
        print("| " + " | ".join(line(name, scenario, asked.jobs)) + " |", flush=True)
    print("\n" + grid([f"attained on {_MANY} workers, per cent", *columns], map(attained, SHORT)))


if __name__ == "__main__":
    main()
