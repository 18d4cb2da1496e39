"""``aladdin calibrate``."""

from __future__ import annotations

import json as jsonlib
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aladdin_calibration.pages import places
from aladdin_env.cli import options as opt
from aladdin_env.cli.output import check_writable, print_json, progress_bar, say_if_compiling, stderr, stdout
from aladdin_env.errors import InputError
from aladdin_env.latency import LatencyProfile

if TYPE_CHECKING:
    from aladdin_calibration.measurement import Measurement
    from aladdin_calibration.request_log.judged import Unqueued
    from aladdin_calibration.request_log.log import EngineLimits, RequestLog
    from aladdin_calibration.request_log.result import LogFit

_SOURCES = "--url, --engine, --from, --from-log"
_DOUBTFUL = 0.15  # the paper's own laws are validated within 10 %
_DOUBTFUL_UNQUEUED = 0.25  # a log under load has few requests that hardly queue
_KV_STAND_IN = 131_072.0  # Llama-3.1-8B's bytes per token: a log shows none, and only transfers between workers need it


def calibrate(
    url: Annotated[str | None, typer.Option(help="Measure this running server from outside.")] = None,
    engine: Annotated[str | None, typer.Option(help="Measure this model inside an engine: a folder or a name.")] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Fit iterations measured elsewhere: .csv, .parquet, a recording.")
    ] = None,
    from_log: Annotated[Path | None, typer.Option(help="Fit a served request log: .csv or .parquet.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The profile to write.")] = Path("profile.json"),
    name: Annotated[str | None, typer.Option(help="Name of the profile; by default that of the file.")] = None,
    budget: Annotated[float, typer.Option(help="Seconds of measuring.")] = 480.0,
    seed: opt.SeedOption = 0,
    max_share: Annotated[float, typer.Option(help="Most of the server's slots and KV to fill, 0 to 1.")] = 0.5,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before loading the server.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Of --url which served model; else the model's name in the profile.")
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Device; no server tells it.")] = None,
    tensor_parallel: Annotated[int | None, typer.Option(help="GPUs that the model is split over.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(help="The server's limit; probed or vLLM's if not given.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(help="The server's token budget of a step.")] = None,
    kv_capacity_tokens: Annotated[int | None, typer.Option(help="KV tokens by the server's start-up log.")] = None,
    block_size: Annotated[int, typer.Option(help="Tokens of a KV block, for --from-log.")] = 16,
    scheduler: Annotated[
        str, typer.Option(help="For --from-log: chunked (vLLM V1) or prefill_first (V0).")
    ] = "chunked",
    engine_version: Annotated[str, typer.Option(help="For --from-log: version of the serving engine.")] = "",
    load_format: Annotated[str, typer.Option(help="For --engine: 'dummy' needs no weights.")] = "auto",
    engine_arg: Annotated[list[str] | None, typer.Option(help="For --engine: NAME=VALUE of vLLM, repeatable.")] = None,
    python: Annotated[str | None, typer.Option(help="For --engine: interpreter that has vLLM.")] = None,
    clock: Annotated[
        str, typer.Option(help="For --engine and --from: auto, wall, cpu, reference; or a CSV's column.")
    ] = "auto",
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE: of a file with several runs, this one.")
    ] = None,
    json: opt.JsonOption = False,
) -> None:
    """Make a latency profile of a real engine: from outside, from inside, from timings, or from a request log."""
    given = [source for source in (url, engine, from_, from_log) if source is not None]
    if len(given) != 1:
        raise InputError("source", len(given), f"give exactly one of {_SOURCES}")
    if where and from_ is None and from_log is None:
        raise InputError("--where", where[0], "leave it out: it chooses rows of a file, for --from and --from-log")
    check_writable("--out", out, (".json",))
    places(out.with_suffix(""), "--out")  # now, not after the measuring
    known = {"gpu": gpu, "tensor_parallel": tensor_parallel, "max_num_seqs": max_num_seqs}
    known |= {"max_num_batched_tokens": max_num_batched_tokens, "kv_capacity_tokens": kv_capacity_tokens}
    known |= {"model": model if url is None else None}  # a server's is chosen by it, and called as the server calls it
    job = _Job(out, name or out.stem, _pairs("--where", where), {k: v for k, v in known.items() if v is not None}, seed)
    say_if_compiling()
    if from_log is not None:
        job.fit_log(from_log, block_size, scheduler, engine_version, json)
        return
    if url is not None:
        measured = job.measure_server(url, budget, max_share, yes, model, api_key_env)
        job.finish(measured, json, kept=out.with_suffix(".parquet"))
    elif engine is not None:
        arguments = {key: _literal(value) for key, value in _pairs("--engine-arg", engine_arg).items()}
        measured = job.measure_engine(engine, budget, load_format, arguments, python, clock)
        job.finish(measured, json, kept=out.with_suffix(".jsonl"))
    else:
        assert from_ is not None
        job.finish(job.read(from_, clock), json)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(option, text, "give NAME=VALUE")
        pairs[key.strip()] = value
    return pairs


def _literal(text: str) -> Any:
    """A JSON value, or the text itself."""
    try:
        return jsonlib.loads(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class _Job:
    """One calibration: where it goes, and what the user knows."""

    out: Path
    name: str
    where: dict[str, str]
    known: dict[str, Any]
    seed: int

    def measure_server(
        self, url: str, budget: float, max_share: float, yes: bool, model: str | None, api_key_env: str | None
    ) -> Measurement:
        """From outside."""
        from aladdin_calibration.server.plan import Plan
        from aladdin_calibration.server.run import measure_server

        planned = {k: v for k, v in self.known.items() if k != "kv_capacity_tokens"}
        plan = Plan(budget_s=budget, max_share=max_share, seed=self.seed, **planned)
        raw = self.out.with_suffix(".parquet")
        with _bar() as told:
            measured = measure_server(
                url,
                plan,
                raw,
                model=model,
                api_key_env=api_key_env,
                progress=told,
                approve=None if yes else _approve,
            )
        stderr().print(f"measurements: {raw}")
        return self._told(measured)

    def measure_engine(
        self, model: str, budget: float, load_format: str, arguments: dict[str, Any], python: str | None, clock: str
    ) -> Measurement:
        """From inside."""
        from aladdin_calibration.engine.measure import EngineRun, read_recording, record

        shown = Path(model).name if Path(model).is_dir() else model
        run = EngineRun(
            model, name=shown, load_format=load_format, engine_args=arguments, budget_s=budget, seed=self.seed
        )
        if python is not None:
            run = replace(run, python=python)
        recording = self.out.with_suffix(".jsonl")
        try:
            with _bar() as told:
                record(run, recording, told)
        except KeyboardInterrupt:
            kept = f"; complete steps are kept in {recording}: the same command goes on from there"
            raise KeyboardInterrupt(kept if recording.exists() else "") from None
        measured = self._told(read_recording(recording, clock))
        measured.save(self.out.with_suffix(".parquet"))
        stderr().print(f"recording: {recording}; measurements: {self.out.with_suffix('.parquet')}")
        return measured

    def read(self, path: Path, clock: str) -> Measurement:
        """From timings taken elsewhere."""
        from aladdin_calibration.engine.measure import read_recording
        from aladdin_calibration.measurement_files import read_measurement

        if path.suffix == ".jsonl":
            if self.where:
                raise InputError("--where", self.where, "leave it out: a recording is of one engine")
            return self._told(read_recording(path, clock))
        return self._told(read_measurement(path, clock=None if clock == "auto" else clock, only=self.where))

    def _told(self, measured: Measurement) -> Measurement:
        """The same, with the facts that the user knows better."""
        return replace(measured, facts=measured.facts.knowing(**self.known))

    def finish(self, measured: Measurement, json: bool, kept: Path | None = None) -> None:
        """Fit, write the profile and the report, and say how good they are; a longer run goes on from ``kept``."""
        from aladdin_calibration.profiles import gaps, profile_of
        from aladdin_calibration.report import write_report

        try:
            profile = profile_of(measured, self.name)
        except InputError as error:
            if kept is None:
                raise
            mend = f"{error.mend}; {kept} keeps what is measured, and the same command with more --budget goes on"
            raise InputError(error.field, error.value, mend) from error
        profile.to_json(self.out)
        pages = write_report(measured, profile, self.out.with_suffix(""))
        self._present(profile, [self.out, *pages], list(gaps(measured)), json)

    def fit_log(self, path: Path, block_size: int, scheduler: str, engine_version: str, json: bool) -> None:
        """From a request log."""
        from aladdin_calibration.request_log.fit import fit_request_log
        from aladdin_calibration.request_log.judged import Unqueued
        from aladdin_calibration.request_log.reader import read_request_log
        from aladdin_calibration.request_log.report import simulated_measures, write_log_report

        log = read_request_log(path, self.where)
        limits = self._limits(log, block_size, scheduler)
        with progress_bar("fitting", 1) as told:
            fit = fit_request_log(log, limits, refit=True, seed=self.seed, progress=told)
        profile = self._of_log(path, log, fit, engine_version)
        profile.to_json(self.out)
        pages = write_log_report(log, fit, profile, self.out.with_suffix(""))
        soon = Unqueued.of(log, simulated_measures(log, fit))
        found = _in_json(fit, soon) if json else _in_words(fit, soon)
        gap = f"KV bytes per token: a log shows none; {_KV_STAND_IN:.0f} stands in, for KV transfers alone"
        self._present(profile, [self.out, *pages], [gap], json, **found)

    def _limits(self, log: RequestLog, block_size: int, scheduler: str) -> EngineLimits:
        """Limits of the server: as given, else as the log's file tells them."""
        from aladdin_calibration.request_log.log import EngineLimits

        def known(key: str) -> int:
            told: int | None = self.known.get(key, _whole(log.told.get(key)))
            if told is None:
                raise InputError(f"--{key.replace('_', '-')}", None, "give what the server was started with")
            return told

        seqs, budget = known("max_num_seqs"), known("max_num_batched_tokens")
        return EngineLimits(seqs, budget, block_size, self.known.get("kv_capacity_tokens"), scheduler)

    def _of_log(self, path: Path, log: RequestLog, fit: LogFit, engine_version: str) -> LatencyProfile:
        """The profile; what the user does not say of the server the log's file may."""
        told = log.told
        return fit.to_profile(
            self.name,
            model=self.known.get("model", told.get("model", self.name)),
            gpu=self.known.get("gpu", told.get("hardware", told.get("gpu", "unknown"))),
            kv_bytes_per_token=_KV_STAND_IN,
            tensor_parallel=self.known.get("tensor_parallel", _whole(told.get("tp")) or 1),
            engine_version=engine_version or told.get("vllm", ""),
            date=datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat(),
            source=f"{path.name} (dated by the file)",
        )

    def _present(self, profile: LatencyProfile, files: list[Path], gaps: list[str], json: bool, **more: Any) -> None:
        errors = profile.provenance.errors
        if json:
            print_json(
                {
                    "profile": self.name,
                    "files": [str(file) for file in files],
                    "errors": errors,
                    "not_covered": gaps,
                    "warning": _doubt(errors),
                    **more,
                }
            )
            return
        console = stdout()
        console.print(f"{self.name}: {profile.provenance.method}")
        for key, value in errors.items():
            console.print(f"  {key}: {value:.2%}")
        for key, value in more.items():
            console.print(f"  {key}: {value}")
        doubt = _doubt(errors)
        if doubt:
            console.print(f"  [yellow]warning[/yellow]: {doubt}")
        for gap in gaps:
            console.print(f"  not covered: {gap}")
        console.print("wrote " + ", ".join(str(file) for file in files))


def _in_json(fit: LogFit, soon: Unqueued) -> dict[str, Any]:
    """What a fit to a log found beside its errors."""
    coefficients = {key: estimate._asdict() for key, estimate in fit.coefficients.items()}
    return {"coefficients": coefficients, "kv_capacity_tokens": asdict(fit.kv), "hardly_queued": soon._asdict()}


def _in_words(fit: LogFit, soon: Unqueued) -> dict[str, str]:
    """The same for people."""
    lines = (
        f"\n    {key}: {estimate.value:.4g} (95 %: {estimate.low:.4g} to {estimate.high:.4g})"
        for key, estimate in fit.coefficients.items()
        if estimate.value
    )
    kv = fit.kv
    room = f"{kv.tokens}" if kv.identified else f"at least {kv.low:.0f}: memory never ran short"
    return {"coefficients": "".join(lines), "kv_capacity_tokens": room, "hardly_queued": str(soon)}


def _whole(text: str | None) -> int | None:
    """The whole number in a log's column; None where there is no column, or another thing in it."""
    number = (text or "").removesuffix(".0")
    return int(number) if number.isdecimal() else None


def _doubt(errors: dict[str, float]) -> str | None:
    """What to say of laws that are too far off to decide by; None where they will do."""
    bad = {key: value for key, value in errors.items() if value > _doubtful(key)}
    if not bad:
        return None
    told = ", ".join(f"{key} {value:.0%}" for key, value in bad.items())
    mend = "measure again on a quieter machine, or for longer"
    if all("_unqueued_" in key for key in bad):
        mend = "do not decide by it where requests hardly queue, or give a log that has more of these"
    return f"this profile misses by much ({told}): {mend}"


def _doubtful(key: str) -> float:
    """How large an error of this name is too large."""
    if not key.endswith(("median", "_mean")):
        return math.inf
    return _DOUBTFUL_UNQUEUED if "_unqueued_" in key else _DOUBTFUL


class _bar:
    """A progress bar for (done, total, what is going on)."""

    def __enter__(self) -> Callable[[int, int, str], None]:
        """Show it."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (BarColumn(30), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
        self._progress = Progress(*columns, TextColumn("{task.description}"), console=stderr())
        self._progress.start()
        task = self._progress.add_task("")
        return lambda done, total, said: self._progress.update(task, completed=done, total=total, description=said)

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._progress.stop()


def _approve(load: str) -> bool:
    """Ask a person; where there is none, the answer is no."""
    if not os.isatty(0):
        raise InputError("--yes", None, f"this would put load on {load}: give --yes to allow it")
    return typer.confirm(f"This puts load on {load}. Go on?", err=True)
