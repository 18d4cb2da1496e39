"""All to measure on a GPU machine, in order of worth: ``python experiments/calibration/gpu_session.py --out DIR``.

Needs vLLM and the standard library there, nothing of ours but this checkout. Every run of the list is a process of its
own with a time limit; what it wrote is on disk whatever happens to the next, and the same command goes on where the
last one stopped. ``--dry-run`` takes the same way on a CPU with a small model in a few minutes.

Afterwards, on any machine: ``aladdin calibrate --from DIR/NAME.jsonl -o profile.json``; the replays are compared by
``python -m experiments.calibration.gpu_results DIR``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
MARGIN_S = 150.0  # start of the engine, graphs captured, and the end


@dataclass(frozen=True)
class Task:
    """One process on the GPU: iterations are measured, then open-loop traces are replayed.

    Attributes:
        name: Of its files.
        shape: Model shape.
        arguments: Engine arguments.
        budget_s: Seconds of measuring.
        rates_rps: Rates of the replays.
        replay_s: Seconds of each replay's arrivals.
    """

    name: str
    shape: str
    arguments: dict[str, Any]
    budget_s: float
    rates_rps: tuple[float, ...] = ()
    replay_s: float = 45.0

    @property
    def longest_s(self) -> float:
        """Time after which it is stopped."""
        return self.budget_s + 1.5 * self.replay_s * len(self.rates_rps) + MARGIN_S


def tasks(dry: bool) -> list[Task]:
    """The list; the first are worth most."""
    if dry:
        return [
            Task("llama-24m-eager", "llama-24m", CPU_ARGUMENTS, 30.0, rates_rps=(2.0,), replay_s=15.0),
            Task("llama-24m-small", "llama-24m", {**CPU_ARGUMENTS, "max_num_seqs": 8}, 10.0),
        ]
    llama8, llama13 = {**GPU_ARGUMENTS, **GRAPHS}, {**GPU_ARGUMENTS, **GRAPHS, "max_model_len": 4096}
    return [
        Task("llama-3.1-8b-graphs", "llama-3.1-8b", llama8, 240.0, rates_rps=(10.0, 25.0)),
        Task("llama-2-13b-graphs", "llama-2-13b", llama13, 200.0, rates_rps=(8.0,)),
        Task("llama-3.1-8b-eager", "llama-3.1-8b", {**GPU_ARGUMENTS, **EAGER}, 150.0),
        Task("llama-2-13b-eager", "llama-2-13b", {**GPU_ARGUMENTS, **EAGER, "max_model_len": 4096}, 120.0),
        # 138 GB of bfloat16 weights leave no room on one GPU of 141 GB; in 8 bits they do.
        Task("llama-2-70b-fp8-graphs", "llama-2-70b", {**llama13, "quantization": "fp8"}, 180.0),
    ]


def lengths(rng: random.Random, longest: int) -> tuple[int, int]:
    """Prompt and output tokens like ShareGPT's, two lognormals each, cut to what a model of this length takes."""
    prompt = rng.lognormvariate(3.186, 0.977) if rng.random() < 0.75 else rng.lognormvariate(6.288, 1.036)
    output = rng.lognormvariate(4.166, 1.088) if rng.random() < 0.283 else rng.lognormvariate(5.872, 0.545)
    return min(2048, longest // 2, max(4, round(prompt))), min(1024, longest // 4, max(4, round(output)))


def write_trace(path: Path, rate_rps: float, seconds: float, longest: int) -> None:
    """Poisson arrivals for so many seconds."""
    rng, now_s, rows = random.Random(0), 0.0, []
    while (now_s := now_s + rng.expovariate(rate_rps)) < seconds:
        prompt, output = lengths(rng, longest)
        rows.append({"arrival_s": now_s, "prompt_tokens": prompt, "output_tokens": output})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def command(task: Task, out: Path, python: str) -> list[str]:
    """The command line of a task."""
    replays = []
    for rate_rps in task.rates_rps:
        name = f"{task.name}-replay-{rate_rps:g}"
        write_trace(out / f"{name}.trace.jsonl", rate_rps, task.replay_s, int(task.arguments["max_model_len"]))
        replays += ["--trace", str(out / f"{name}.trace.jsonl"), "--served", str(out / f"{name}.jsonl")]
    return [
        *(python, "-m", "aladdin_calibration.engine.session", "--model", str(HERE / "shapes" / task.shape)),
        *("--name", task.shape, "--load-format", "dummy", "--engine-args", json.dumps(task.arguments)),
        *("--out", str(out / f"{task.name}.jsonl"), "--budget-s", str(task.budget_s), "--passes", "2"),
        *("--clock", "wall", *replays),
    ]


def run(task: Task, out: Path, python: str, limit_s: float) -> str:
    """Run one task; return what became of it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_paths()), "VLLM_NO_USAGE_STATS": "1"}
    log = out / f"{task.name}.log"
    began = time.monotonic()
    with log.open("wb") as words:
        try:
            ended = subprocess.run(
                command(task, out, python), stdout=words, stderr=words, env=environment, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {limit_s:.0f} s; what was complete is kept"
    if ended.returncode != 0:
        return f"failed: {_last_line(log)}"
    return f"done in {time.monotonic() - began:.0f} s"


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
    arguments.out.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + 60 * arguments.minutes
    chosen = None if arguments.only is None else set(arguments.only.split(","))
    for task in tasks(arguments.dry_run):
        left_s = ends - time.monotonic()
        if chosen is not None and task.name not in chosen:
            continue
        if left_s < task.longest_s - MARGIN_S / 2:
            print(f"{task.name}: left out, {left_s:.0f} s are left", flush=True)
            continue
        told = run(task, arguments.out, arguments.python, min(left_s, task.longest_s))
        print(f"{task.name}: {told}", flush=True)


if __name__ == "__main__":
    main()
