"""What a GPU session brought home: ``python -m experiments.calibration.gpu_results DIR``.

Every recording becomes a measurement (Parquet) and a profile; every replay is compared with the simulation under the
profile that was measured in the same process. What is too thin, broken, or of a replay that was stopped is named and
left out; it does not keep the others from being used.
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
from aladdin_traces.errors import InputError
from experiments.calibration.truth import scenario_of, table_of

Known = dict[str, tuple[Measurement, LatencyProfile]]
_REPLAY, _TRACE = "-replay-", ".trace.jsonl"  # in the names of gpu_session.py's files


def profiles(folder: Path, console: Console) -> Known:
    """Measurement and profile of every recording that is enough for one, by its name."""
    found: Known = {}
    for path in sorted(folder.glob("*.jsonl")):
        if _REPLAY in path.name:
            continue
        try:
            found[path.stem] = _profiled(path, console)
        except InputError as error:
            _leave_out(console, path.stem, error)
    return found


def _profiled(path: Path, console: Console) -> tuple[Measurement, LatencyProfile]:
    measured = read_recording(path, "wall")  # as the replays
    if measured.facts.gpu.startswith("CPU"):
        _say(console, f"{path.stem}: the wall clock of a CPU that others may use: its errors are the machine's, too")
    measured.save(path.with_suffix(".parquet"))
    profile = profile_of(measured, path.stem, source="experiments/calibration/gpu_session.py")
    profile.to_json(path.with_suffix(".json"))
    return measured, profile


def replays(folder: Path, known: Known, console: Console) -> pd.DataFrame:
    """Errors of the simulation of every whole replay, in the form of ``experiments.calibration.truth``."""
    parts = []
    names = {path.name.removesuffix(_TRACE).removesuffix(".jsonl") for path in folder.glob(f"*{_REPLAY}*.jsonl")}
    for name in sorted(names):
        try:
            parts.append(_compared(folder / f"{name}.jsonl", known))
        except InputError as error:
            _leave_out(console, name, error)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _compared(path: Path, known: Known) -> pd.DataFrame:
    real, preemptions, _ = read_served(path)
    recording = path.stem.partition(_REPLAY)[0]
    if recording not in known:
        raise InputError("recording", recording, "measure again: there is no profile to simulate this replay with")
    measured, profile = known[recording]
    trace = Trace.from_arrays(real["arrival_s"], real["prompt_tokens"], real["output_tokens"])
    scenario = scenario_of(profile, measured.facts, trace)
    simulated = Simulator(scenario, 0).run("least_request").requests
    agreement = compare(real, simulated, scenario.slo, "client", preemptions)
    return agreement.table.rename_axis("measure").reset_index().assign(case=path.stem, comparison="wall")


def _leave_out(console: Console, name: str, error: InputError) -> None:
    _say(console, f"{name} left out: {error}")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def main(folder: Annotated[Path, typer.Argument(help="Folder that gpu_session.py filled.")]) -> None:
    """Fit, compare, print."""
    console = Console(width=260)
    known = profiles(folder, console)
    errors: dict[str, Any] = {name: profile.provenance.errors for name, (_, profile) in known.items()}
    console.print(json.dumps(errors, indent=1))
    results = replays(folder, known, console)
    if len(results):
        results.to_csv(folder / "replays.csv", index=False)
        console.print(table_of(results))


if __name__ == "__main__":
    typer.run(main)
