"""What a GPU session brought home: ``python -m experiments.calibration.gpu_results DIR``.

Every recording becomes a measurement (Parquet) and a profile; every replay is compared with the simulation under the
profile that was measured in the same process, or an earlier one of the same engine. What is too thin, broken, or of a
replay that was stopped is named and left out; it does not keep the others from being used. Measurements and
``replays.parquet`` are all that is needed to do it again: ``calibration/measurements/h200`` holds those of a session on
an H200 (``--out`` keeps results out of it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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
from aladdin_traces.files import whole_file
from experiments.calibration.truth import scenario_of, table_of

Known = dict[str, tuple[Measurement, LatencyProfile]]
_REPLAY, _TRACE = "-replay-", ".trace.jsonl"  # in the names of gpu_session.py's files
_REPLAYS = "replays.parquet"
_OF_REPLAY = ("recording", "replay", "preemptions")  # its columns beside those of the requests


def gather(folder: Path, out: Path, console: Console) -> Path:
    """Put what the session wrote into Parquet files of ``out``; where there are none but these, they stay.

    Returns:
        The folder that holds the Parquet files.
    """
    if not any(folder.glob("*.jsonl")):
        return folder
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.jsonl")):
        if _REPLAY in path.name:
            continue
        try:
            read_recording(path, "wall").save(out / f"{path.stem}.parquet")  # as the replays: not the CPU's time
        except InputError as error:
            _leave_out(console, path.stem, error)
    served = list(_served(folder, console))
    if served:
        with whole_file(out / _REPLAYS) as file:
            pd.concat(served, ignore_index=True).to_parquet(file, compression="zstd")
    return out


def _served(folder: Path, console: Console) -> Iterator[pd.DataFrame]:
    names = {path.name.removesuffix(_TRACE).removesuffix(".jsonl") for path in folder.glob(f"*{_REPLAY}*.jsonl")}
    for name in sorted(names):
        try:
            served, preemptions, _ = read_served(folder / f"{name}.jsonl")
        except InputError as error:
            _leave_out(console, name, error)
            continue
        recording, _, replay = name.partition(_REPLAY)
        yield served.assign(recording=recording, replay=replay, preemptions=preemptions)


def profiles(folder: Path, console: Console) -> Known:
    """Measurement and profile of every recording that is enough for one, by its name."""
    found: Known = {}
    for path in sorted(folder.glob("*.parquet")):
        if path.name == _REPLAYS:
            continue
        try:
            measured = Measurement.load(path)
            found[path.stem] = measured, profile_of(measured, path.stem, source="gpu_session.py")
        except InputError as error:
            _leave_out(console, path.stem, error)
            continue
        if measured.facts.gpu.startswith("CPU"):
            _say(console, f"{path.stem}: the wall clock of a CPU that others may use: its errors are the machine's")
    return found


def replays(folder: Path, known: Known, console: Console) -> pd.DataFrame:
    """Errors of the simulation of every whole replay, in the form of ``experiments.calibration.truth``."""
    if not (folder / _REPLAYS).exists():
        return pd.DataFrame()
    parts = []
    for (recording, replay), real in pd.read_parquet(folder / _REPLAYS).groupby(["recording", "replay"]):
        if recording not in known:
            missing = InputError("recording", recording, "measure again: there is no profile to simulate with")
            _leave_out(console, f"{recording}{_REPLAY}{replay}", missing)
            continue
        table = compared(real.reset_index(drop=True), *known[recording])
        parts.append(table.assign(case=f"{recording}{_REPLAY}{replay}", comparison="engine"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def compared(real: pd.DataFrame, measured: Measurement, profile: LatencyProfile) -> pd.DataFrame:
    """Measures of one replay and of its simulation under ``profile``: columns measure, real, simulated, error."""
    counted = real["preemptions"].iloc[0]
    trace = Trace.from_arrays(real["arrival_s"], real["prompt_tokens"], real["output_tokens"])
    scenario = scenario_of(profile, measured.facts, trace)
    simulated = Simulator(scenario, 0).run("least_request").requests
    preemptions = None if pd.isna(counted) else int(counted)
    served = real.drop(columns=list(_OF_REPLAY))
    return compare(served, simulated, scenario.slo, "client", preemptions).table.rename_axis("measure").reset_index()


def _leave_out(console: Console, name: str, error: InputError) -> None:
    _say(console, f"{name} left out: {error}")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def main(
    folder: Annotated[Path, typer.Argument(help="Folder that gpu_session.py filled, or of Parquet files.")],
    out: Annotated[Path | None, typer.Option(help="Folder of what is made of it; by default the same.")] = None,
) -> None:
    """Fit, compare, print."""
    console = Console(width=260)
    out = out or folder
    measured = gather(folder, out, console)
    out.mkdir(parents=True, exist_ok=True)
    known = profiles(measured, console)
    for name, (_, profile) in known.items():
        profile.to_json(out / f"{name}.json")
    errors: dict[str, Any] = {name: profile.provenance.errors for name, (_, profile) in known.items()}
    console.print(json.dumps(errors, indent=1))
    results = replays(measured, known, console)
    if len(results):
        results.to_csv(out / "replays.csv", index=False)
        console.print(table_of(results))


if __name__ == "__main__":
    typer.run(main)
