"""What a GPU session brought home: ``python -m experiments.calibration.gpu_results DIR``.

Every recording becomes a measurement (Parquet) and a profile; every replay is compared with the simulation under the
profile that was measured in the same process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

from aladdin_calibration.engine.measure import read_recording, read_served
from aladdin_calibration.measurement import Measurement
from aladdin_calibration.profiles import profile_of
from aladdin_calibration.validation.agreement import compare
from aladdin_env.latency import LatencyProfile
from aladdin_env.simulator.run import Simulator
from aladdin_traces import Trace
from experiments.calibration.truth import scenario_of, table_of


def profiles(folder: Path) -> dict[str, tuple[Measurement, LatencyProfile]]:
    """Measurement and profile of every recording, by its name."""
    found: dict[str, tuple[Measurement, LatencyProfile]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        if path.name.endswith(".trace.jsonl") or "replay" in path.name:
            continue
        measured = read_recording(path, "wall")  # as the replays
        measured.save(path.with_suffix(".parquet"))
        profile = profile_of(measured, path.stem, source="experiments/calibration/gpu_session.py")
        profile.to_json(path.with_suffix(".json"))
        found[path.stem] = (measured, profile)
    return found


def replays(folder: Path, known: dict[str, tuple[Measurement, LatencyProfile]]) -> pd.DataFrame:
    """Errors of the simulation of every replay, in the form of ``experiments.calibration.truth``."""
    parts = []
    for path in sorted(folder.glob("*replay*.jsonl")):
        if path.name.endswith(".trace.jsonl"):
            continue
        real, preemptions, _ = read_served(path)
        measured, profile = known[path.stem.partition("-replay")[0]]
        trace = Trace.from_arrays(real["arrival_s"], real["prompt_tokens"], real["output_tokens"])
        scenario = scenario_of(profile, measured.facts, trace)
        simulated = Simulator(scenario, 0).run("least_request").requests
        agreement = compare(real, simulated, scenario.slo, "client", preemptions)
        parts.append(agreement.table.rename_axis("measure").reset_index().assign(case=path.stem, comparison="wall"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def main(folder: Annotated[Path, typer.Argument(help="Folder that gpu_session.py filled.")]) -> None:
    """Fit, compare, print."""
    known = profiles(folder)
    console = Console(width=200)
    errors: dict[str, Any] = {name: profile.provenance.errors for name, (_, profile) in known.items()}
    console.print(json.dumps(errors, indent=1))
    results = replays(folder, known)
    if len(results):
        results.to_csv(folder / "replays.csv", index=False)
        console.print(table_of(results))


if __name__ == "__main__":
    typer.run(main)
