"""How true the simulator is to a real vLLM engine: ``python -m experiments.calibration.truth``.

One engine is measured iteration by iteration, a profile is fitted, and what it simulates is compared with replays in
the same process of traces that had no part in the fit: at shares of the capacity that the simulator finds, and with
preemption forced by little KV memory. The clock is the CPU time of the engine's steps over that of a fixed job beside
each: what the engine does, step by step, is the same, and neighbours on the machine stretch both alike
(:mod:`aladdin_calibration.engine.reference`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from aladdin_calibration.engine.measure import EngineRun, read_recording, record, record_and_replay, replay
from aladdin_calibration.forms import scaled
from aladdin_calibration.measurement import Measurement, WorkerFacts
from aladdin_calibration.profiles import profile_of
from aladdin_calibration.validation.agreement import compare
from aladdin_env.latency import LatencyProfile
from aladdin_env.scenario import SLO, Fleet, Scenario, WorkerType
from aladdin_env.simulator.run import Simulator, simulate
from aladdin_traces import LENGTHS, Poisson, Trace, Workload
from experiments.calibration.local_server import ENVIRONMENT, PYTHON, SHAPES

LOADS = (0.5, 0.8, 1.0)
MOST_PROMPT_TOKENS, MOST_OUTPUT_TOKENS = 600, 120
SLACK = 2.0  # the SLO is so many times what a median request takes alone: some miss it at high load
TIGHT_BLOCKS = 96  # KV blocks that force preemption, vLLM's own null block not counted


@dataclass(frozen=True)
class Bench:
    """The engine under test and how much work it gets."""

    shape: str
    requests: int
    budget_s: float
    engine_args: dict[str, object]

    def run(self, **more: object) -> EngineRun:
        """The engine, with further arguments."""
        return EngineRun(
            str(SHAPES / self.shape),
            python=str(PYTHON),
            name=self.shape,
            load_format="dummy",
            engine_args={**self.engine_args, **more},
            budget_s=self.budget_s,
            environment=ENVIRONMENT,
        )


def bench(shape: str, requests: int, budget_s: float) -> Bench:
    """A small engine on one CPU thread."""
    arguments = {
        "dtype": "float32",
        "enforce_eager": True,
        "block_size": 32,
        "max_model_len": 2048,
        "max_num_seqs": 32,
        "max_num_batched_tokens": 512,
        "kv_cache_memory_bytes": 512 * 2**20,
    }
    return Bench(shape, requests, budget_s, arguments)


def scenario_of(profile: LatencyProfile, facts: WorkerFacts, trace: Trace, kv_blocks: int | None = None) -> Scenario:
    """One worker like the measured engine."""
    assert facts.block_size and facts.max_num_seqs and facts.max_num_batched_tokens
    kind = WorkerType(
        "engine",
        profile,
        initial=1,
        minimum=1,
        maximum=1,
        max_num_seqs=facts.max_num_seqs,
        max_num_batched_tokens=facts.max_num_batched_tokens,
        block_size=facts.block_size,
        kv_capacity_tokens=None if kv_blocks is None else kv_blocks * facts.block_size,
        prefix_cache=False,
    )
    median = int(np.median(trace.prompt_tokens))
    slo = SLO(SLACK * 5 * profile.prefill_s(median), SLACK * profile.decode_s(8, 8 * median))
    return Scenario("truth", Workload.from_trace(trace), Fleet((kind,)), slo, horizon_s=None)


def trace_of(rate_rps: float, requests: int, seed: int) -> Trace:
    """Poisson arrivals with ShareGPT's lengths, cut to what a CPU can serve."""
    workload = Workload.generated(Poisson(rate_rps), LENGTHS["sharegpt"])
    trace = workload.sample(np.random.default_rng(seed), 1.5 * requests / rate_rps)
    return trace.take(np.arange(min(requests, len(trace)))).clip(MOST_PROMPT_TOKENS, MOST_OUTPUT_TOKENS)


def scouted_rps(tested: Bench, out: Path) -> float:
    """The capacity by a short recording."""
    record(replace(tested, budget_s=tested.budget_s / 3).run(), out / "scout.jsonl")
    scouted = read_recording(out / "scout.jsonl")
    found = simulated_capacity_rps(profile_of(scouted, "scout"), scouted, tested.requests)
    print(f"capacity: about {found:.2f} requests/s; to judge it again at these rates: --capacity-rps {found!r}")
    return found


def simulated_capacity_rps(profile: LatencyProfile, measured: Measurement, requests: int) -> float:
    """Requests per second of an engine that is never out of work, in the simulator."""
    crowd = trace_of(1e4, requests, seed=99)
    return float(simulate(scenario_of(profile, measured.facts, crowd), "least_request").summary["throughput_rps"])


@dataclass(frozen=True)
class Case:
    """One trace, and KV blocks if other than the engine's own."""

    name: str
    trace: Trace
    kv_blocks: int | None = None


def cases(tested: Bench, capacity: float) -> list[Case]:
    """Poisson arrivals at shares of the capacity (requests per second), and one that runs out of KV memory."""
    loads = [
        Case(f"{load:.0%} of capacity", trace_of(load * capacity, tested.requests, seed=number))
        for number, load in enumerate(LOADS)
    ]
    tight = Case(f"{TIGHT_BLOCKS} KV blocks", trace_of(capacity, tested.requests // 2, seed=len(LOADS)), TIGHT_BLOCKS)
    return [*loads, tight]


def law_clock(profile: LatencyProfile) -> Callable[[dict[str, float]], float]:
    """The seconds of a step by the profile's laws, from what the engine did in it."""

    def seconds(step: dict[str, float]) -> float:
        batch, tokens = int(step["batch"]), step["prefill_tokens"]
        if tokens == 0:
            return profile.decode_s(batch, step["context_tokens"]) if batch else 0.0
        if batch == 0:
            return profile.prefill_s(tokens, step["sum_squares"])
        return profile.mixed_s(tokens, batch, step["context_tokens"], step["sum_squares"])

    return seconds


def judge(tested: Bench, group: list[Case], out: Path, rounds: int, with_laws: bool) -> pd.DataFrame:
    """Cases of one engine, measured and replayed in one process; a row per case, comparison and measure.

    Comparisons: ``clock`` (the engine by the clock ``reference``, mean of ``rounds`` replays, against the simulator
    with the laws measured in the same process), ``again`` (the second such replay, against the first: the noise that
    no simulator can undercut), ``laws`` (the engine decides, every step takes what the laws say, against the
    simulator), ``laws + 1 %`` (the simulator with all steps 1 % longer, against itself: what an error of the laws makes
    of itself at that load).
    """
    kv_blocks = group[0].kv_blocks
    run = tested.run() if kv_blocks is None else tested.run(num_gpu_blocks_override=kv_blocks + 1)
    recording = out / f"recording-{kv_blocks or 'all'}.jsonl"
    with Progress() as bar:
        task = bar.add_task("measure and replay")
        in_rounds = [case.trace for _ in range(rounds) for case in group]
        kept = recording.with_suffix("")
        replays = record_and_replay(run, recording, in_rounds, "reference", _told(bar, task), kept)
        measured = read_recording(recording)
        profile = profile_of(measured, f"{tested.shape}-cpu", source="measured by this script")
        profile.to_json(recording.with_suffix(".json"))
        print(profile.provenance.errors)
        parts = []
        for number, case in enumerate(group):
            scenario = scenario_of(profile, measured.facts, case.trace, kv_blocks)
            simulated = Simulator(scenario, 0).run("least_request").requests
            own = replays[number :: len(group)]
            against = [compare(real, simulated, scenario.slo, "client", count).table for real, count in own]
            first, second = own[0][0], own[1][0]
            longer = Simulator(scenario_of(slower(profile, 1.01), measured.facts, case.trace, kv_blocks), 0)
            found = {
                "clock": mean_of(against),
                "again": compare(second, _as_simulated(first), scenario.slo, "client").table,
                "laws + 1 %": compare(
                    _as_real(simulated), longer.run("least_request").requests, scenario.slo, "client"
                ).table,
            }
            if with_laws:
                task = bar.add_task(f"{case.name}, laws", total=len(case.trace))
                real, count = replay(run, case.trace, law_clock(profile), _told(bar, task))
                found["laws"] = compare(real, simulated, scenario.slo, "client", count).table
            for comparison, table in found.items():
                rows = table.rename_axis("measure").reset_index()
                parts.append(rows.assign(case=case.name, comparison=comparison))
    return pd.concat(parts, ignore_index=True)[["case", "comparison", "measure", "real", "simulated", "error"]]


def mean_of(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Several replays against one simulation: the mean of what was measured, and the error against that mean."""
    real = pd.concat([table["real"] for table in tables], axis=1).mean(axis=1)
    simulated = tables[0]["simulated"]
    error = (simulated / real - 1.0).fillna(0.0)  # 0 of 0 preemptions is no error
    error["attainment"] = 100.0 * (simulated["attainment"] - real["attainment"])
    return pd.DataFrame({"real": real, "simulated": simulated, "error": error})


def slower(profile: LatencyProfile, factor: float) -> LatencyProfile:
    """The same worker with every step so many times as long."""
    laws = scaled(profile.prefill, profile.decode, profile.mixed_overlap_s, factor)
    return replace(profile, prefill=laws[0], decode=laws[1], mixed_overlap_s=laws[2])


def _as_real(simulated: pd.DataFrame) -> pd.DataFrame:
    return simulated.assign(output_tokens=simulated["generated_tokens"], error="", late_s=0.0)


def _as_simulated(real: pd.DataFrame) -> pd.DataFrame:
    return real.assign(generated_tokens=real["output_tokens"], preemptions=0)


def _told(bar: Progress, task: TaskID) -> Callable[[int, int, str], None]:
    return lambda done, of, said: bar.update(task, completed=done)


def table_of(results: pd.DataFrame) -> Table:
    """The errors, a row per case."""
    measures = list(dict.fromkeys(results["measure"]))
    table = Table("case", "against", *measures)
    for (name, comparison), rows in results.groupby(["case", "comparison"], sort=False):
        errors = rows.set_index("measure")["error"]
        cells = [_cell(m, errors.get(m)) for m in measures]
        table.add_row(str(name), str(comparison), *cells)
    return table


def _cell(measure: str, error: float | None) -> str:
    if error is None:
        return "-"
    return f"{error:+.1f} pt" if measure == "attainment" else f"{error:+.1%}"


def main(
    out: Annotated[Path, typer.Option(help="Folder of the recordings and the results.")] = Path("runs/truth"),
    shape: Annotated[str, typer.Option(help="A shape of experiments/calibration/shapes.")] = "llama-24m",
    requests: Annotated[int, typer.Option(help="Requests per replay.")] = 400,
    budget_s: Annotated[float, typer.Option(help="Seconds of measuring.")] = 240.0,
    rounds: Annotated[int, typer.Option(min=2, help="Replays of each case, one case after the other.")] = 3,
    capacity_rps: Annotated[
        float | None, typer.Option(help="Requests per second of a full engine; by default measured first, in short.")
    ] = None,
    laws: Annotated[bool, typer.Option(help="Also the engine under the laws' clock.")] = True,
) -> None:
    """Measure, replay and compare; sessions that are there already are judged again, not run again."""
    out.mkdir(parents=True, exist_ok=True)
    tested = bench(shape, requests, budget_s)
    every = cases(tested, capacity_rps or scouted_rps(tested, out))
    groups = [[case for case in every if case.kv_blocks == kv] for kv in (None, TIGHT_BLOCKS)]
    results = []
    for group in groups:
        results.append(judge(tested, group, out, rounds, laws))
        pd.concat(results).to_csv(out / "truth.csv", index=False)
    Console(width=200).print(table_of(pd.concat(results)))


if __name__ == "__main__":
    typer.run(main)
