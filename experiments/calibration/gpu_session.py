"""All to measure on a GPU machine, in order of worth: ``python experiments/calibration/gpu_session.py --out DIR``.

Needs vLLM and the standard library there, nothing of ours but this checkout. Every run of the list is a process of its
own with a time limit; what it wrote is on disk whatever happens to the next, and the same command goes on where the
last one stopped, replays that are whole included. Beside replays at fixed rates there are some at shares of the
capacity, which the same process measures first, by a crowd that comes at once. ``--dry-run`` takes the same way on a
CPU with a small model in a few minutes.

Afterwards, on any machine: ``aladdin calibrate --from DIR/NAME.jsonl -o profile.json``; the replays are compared by
``python -m experiments.calibration.gpu_results DIR``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CALIBRATION = HERE.parents[1] / "calibration"
GRAPHS = {"compilation_config": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}}
EAGER = {"enforce_eager": True}
GPU_ARGUMENTS: dict[str, Any] = {"max_model_len": 16_640, "max_num_seqs": 257, "max_num_batched_tokens": 8192}
CPU_ARGUMENTS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "block_size": 32,
    "max_model_len": 1024,
    "max_num_seqs": 17,
    "max_num_batched_tokens": 512,
    "kv_cache_memory_bytes": 256 * 2**20,
}
# Greedy sampling needs no FlashInfer, and a vLLM that thinks it has it does not start without.
DEFAULTS = {"VLLM_NO_USAGE_STATS": "1", "VLLM_USE_FLASHINFER_SAMPLER": "0"}
MARGIN_S = 90.0  # start of the engine (30 s on an H200), graphs captured, and the end
LOADS = (0.5, 0.8, 1.0)
CROWD_PER_PLACE = 2  # requests that come at once, per place: all places are taken until half of them have begun
CROWD_S = 40.0  # for these
UNIT_REQUESTS = 4000  # of a trace whose rate is not known yet
GRACE_S = 20.0  # to write what is served so far


@dataclass(frozen=True)
class Task:
    """One process on the GPU: iterations are measured, then open-loop traces are replayed.

    Attributes:
        name: Of its files.
        shape: Model shape.
        arguments: Engine arguments.
        budget_s: Seconds of measuring.
        rates_rps: Rates of replays.
        loads: Shares of the capacity of further replays.
        replay_s: Seconds of each replay's arrivals.
    """

    name: str
    shape: str
    arguments: dict[str, Any]
    budget_s: float
    rates_rps: tuple[float, ...] = ()
    loads: tuple[float, ...] = ()
    replay_s: float = 30.0

    @property
    def longest_s(self) -> float:
        """Time after which it is stopped."""
        replays_s = 1.5 * self.replay_s * (len(self.rates_rps) + len(self.loads))
        return self.budget_s + replays_s + (CROWD_S if self.loads else 0.0) + MARGIN_S

    def within(self, seconds: float) -> Task | None:
        """As much of it as so many seconds are good for: at least half of the measuring, or None."""
        budget_s = min(self.budget_s, seconds - MARGIN_S / 2)
        return replace(self, budget_s=budget_s) if budget_s >= self.budget_s / 2 else None


def tasks(dry: bool) -> list[Task]:
    """The list; the first are worth most."""
    if dry:
        return [
            Task("llama-24m-eager", "llama-24m", CPU_ARGUMENTS, 30.0, (2.0,), LOADS, replay_s=10.0),
            Task("llama-24m-small", "llama-24m", {**CPU_ARGUMENTS, "max_num_seqs": 8}, 10.0),
        ]
    llama8, llama13 = {**GPU_ARGUMENTS, **GRAPHS}, {**GPU_ARGUMENTS, **GRAPHS, "max_model_len": 4096}
    return [
        Task("llama-3.1-8b-graphs", "llama-3.1-8b", llama8, 130.0, loads=LOADS),
        Task("llama-2-13b-graphs", "llama-2-13b", llama13, 100.0, loads=(0.8, 1.0)),
        Task("llama-3.1-8b-eager", "llama-3.1-8b", {**GPU_ARGUMENTS, **EAGER}, 100.0, (25.0,)),
        Task("llama-2-13b-eager", "llama-2-13b", {**GPU_ARGUMENTS, **EAGER, "max_model_len": 4096}, 100.0),
        # 138 GB of bfloat16 weights leave no room on one GPU of 141 GB; in 8 bits they do.
        Task("llama-2-70b-fp8-graphs", "llama-2-70b", {**llama13, "quantization": "fp8"}, 180.0),
    ]


def lengths(rng: random.Random, longest: int) -> tuple[int, int]:
    """Prompt and output tokens like ShareGPT's, two lognormals each, cut to what a model of this length takes."""
    prompt = rng.lognormvariate(3.186, 0.977) if rng.random() < 0.75 else rng.lognormvariate(6.288, 1.036)
    output = rng.lognormvariate(4.166, 1.088) if rng.random() < 0.283 else rng.lognormvariate(5.872, 0.545)
    return min(2048, longest // 2, max(4, round(prompt))), min(1024, longest // 4, max(4, round(output)))


def poisson(rng: random.Random, rate_rps: float, seconds: float) -> Iterator[float]:
    """Arrivals within so many seconds."""
    now_s = 0.0
    while (now_s := now_s + rng.expovariate(rate_rps)) < seconds:
        yield now_s


@dataclass(frozen=True)
class Replays:
    """The options of a task's replays; their traces are written on the way."""

    task: Task
    out: Path

    def options(self) -> Iterator[str]:
        """The crowd that shows the capacity, shares of that, fixed rates: the worthiest first."""
        task = self.task
        if task.loads:
            crowd = CROWD_PER_PLACE * int(task.arguments["max_num_seqs"])
            yield from ("--crowd", *self._files("crowd", random.Random("crowd"), [0.0] * crowd))
            yield from ("--load-s", str(task.replay_s))
        for share in task.loads:
            rng = random.Random(f"load {share}")
            files = self._files(f"{100 * share:.0f}pct", rng, poisson(rng, 1.0, UNIT_REQUESTS))
            yield from ("--load", str(share), *files)
        for rate_rps in task.rates_rps:
            rng = random.Random(0)
            trace, served = self._files(f"{rate_rps:g}", rng, poisson(rng, rate_rps, task.replay_s))
            yield from ("--trace", trace, "--served", served)

    def _files(self, name: str, rng: random.Random, arrivals: Iterable[float]) -> tuple[str, str]:
        """A trace with these arrivals, and where what becomes of it is to be written."""
        longest = int(self.task.arguments["max_model_len"])
        lines = []
        for arrival_s in arrivals:
            prompt, output = lengths(rng, longest)
            lines.append(json.dumps({"arrival_s": arrival_s, "prompt_tokens": prompt, "output_tokens": output}) + "\n")
        stem = self.out / f"{self.task.name}-replay-{name}"
        Path(f"{stem}.trace.jsonl").write_text("".join(lines), encoding="utf-8")
        return f"{stem}.trace.jsonl", f"{stem}.jsonl"


def command(task: Task, out: Path, python: str) -> list[str]:
    """The command line of a task."""
    return [
        *(python, "-m", "aladdin_calibration.engine.session", "--model", str(HERE / "shapes" / task.shape)),
        *("--name", task.shape, "--load-format", "dummy", "--engine-args", json.dumps(task.arguments)),
        *("--out", str(out / f"{task.name}.jsonl"), "--budget-s", str(task.budget_s), "--passes", "2"),
        *("--clock", "steps", *Replays(task, out).options()),
    ]


def run(task: Task, out: Path, python: str, limit_s: float) -> str:
    """Run one task; return what became of it."""
    environment = {**DEFAULTS, **os.environ, "PYTHONPATH": os.pathsep.join(_paths())}
    log = out / f"{task.name}.log"
    began = time.monotonic()
    with (
        log.open("wb") as words,
        subprocess.Popen(command(task, out, python), stdout=words, stderr=words, env=environment) as process,
    ):
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return f"stopped after {limit_s:.0f} s; what was complete is kept"
        except BaseException:  # such as Ctrl-C: nothing of ours stays on the GPU
            _end(process)
            raise
    if status != 0:
        return f"failed: {_last_line(log)}"
    return f"done in {time.monotonic() - began:.0f} s"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it; it has a moment to write what is served so far."""
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _paths() -> Iterator[str]:
    yield str(CALIBRATION)
    if os.environ.get("PYTHONPATH"):
        yield os.environ["PYTHONPATH"]


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line] or lines or ["nothing was said"]
    return told[-1][:300]


def main() -> None:
    """Run the list until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=28.0, help="time there is")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has vLLM")
    parser.add_argument("--only", help="names of tasks, with commas")
    parser.add_argument("--dry-run", action="store_true", help="a small model on the CPU")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # by whoever ends the job
    arguments.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * arguments.minutes
    chosen = None if arguments.only is None else set(arguments.only.split(","))
    for task in tasks(arguments.dry_run):
        left_s = ends - time.monotonic()
        if chosen is not None and task.name not in chosen:
            continue
        fitting = task.within(left_s)
        if fitting is None:
            print(f"{task.name}: left out, {left_s:.0f} s are left", flush=True)
            continue
        told = run(fitting, arguments.out, arguments.python, min(left_s, task.longest_s))
        print(f"{task.name}: {told}", flush=True)


if __name__ == "__main__":
    main()
