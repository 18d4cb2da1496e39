"""Run a sweep inside a vLLM engine and write one JSON line per engine step.

``python -m aladdin_calibration.engine.recorder --out FILE --model FOLDER ...`` under the interpreter that has vLLM;
nothing but vLLM and the standard library is needed there. The first line holds the facts of the engine, every other
line a step or the mark that a configuration is complete. Lines are on disk before the next configuration begins, and
the same command goes on where an earlier one stopped. On standard output it reports its progress as JSON lines.

The batch of a step is read from the scheduler's own output. Its time is that of ``engine.step()``, which returns when
the sampled tokens are known: without async scheduling every step is timed by itself. Where one CPU thread does it all,
a fixed job is timed beside every step (:mod:`aladdin_calibration.engine.reference`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aladdin_calibration.engine.plan import (
    TRAFFIC_STEPS,
    Configuration,
    Hold,
    Limits,
    Prompts,
    Traffic,
    configurations,
)
from aladdin_calibration.engine.reference import ReferenceJob

FORMAT = 1
SHARE_OF_BUDGET = 0.1  # one configuration may take so much of the time there is
SKIPPED = "too slow for the time budget"
_POOL_TOKENS = 65_536  # beside two of the longest prompts: hardly two begin at the same place
_SAME_KV = 0.02  # vLLM sizes the KV by the memory that is free at its start: a restart differs by some blocks


def tell(**report: object) -> None:
    """Report progress to whoever started us."""
    print(json.dumps(report), flush=True)


class Engine:
    """A vLLM engine whose every step is timed and described.

    ``preemptions`` counts requests that had to give up their KV, where this version lets us (``counts_preemptions``).
    """

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        """Start it; ``options`` are vLLM's engine arguments."""
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine must live in this process
        import vllm
        from vllm import EngineArgs, LLMEngine, SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self.version = vllm.__version__
        self._sampling = SamplingParams
        self._delta = RequestOutputKind.DELTA
        self.engine = LLMEngine.from_engine_args(EngineArgs(model=model, **options))
        self.core = self.engine.engine_core.engine_core
        self._rng = random.Random(0)
        self._pool = self._random_tokens()
        self._asked = 0
        self._scheduled: Any = None
        self._returned: list[Any] = []
        self.preemptions = 0
        self._prompts: dict[str, int] = {}  # prompt tokens by the engine's own names of the requests
        self._reference = ReferenceJob() if _is_one_cpu_thread() else None
        self._watch(self.core.scheduler)

    def _watch(self, scheduler: Any) -> None:
        schedule = scheduler.schedule

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._scheduled = schedule(*args, **kwargs)
            return self._scheduled

        scheduler.schedule = watched
        preempt: Any = getattr(scheduler, "_preempt_request", None)
        self.counts_preemptions = preempt is not None

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.preemptions += 1
            return preempt(*args, **kwargs)

        if preempt is not None:
            scheduler._preempt_request = counted

    def _random_tokens(self) -> list[int]:
        """Tokens that prompts are cut from: drawing each when a request joins would hold up the next step."""
        config = self.engine.model_config
        vocabulary = range(3, config.get_vocab_size())
        return self._rng.choices(vocabulary, k=2 * config.max_model_len + _POOL_TOKENS)

    def alone(self) -> None:
        """Take no more fixed jobs beside the steps: on the wall clock they would count."""
        self._reference = None

    def ask(self, tokens: int, output_tokens: int) -> str:
        """Add a request with a random prompt, so that no cache can know it; return its id."""
        self._asked += 1
        start = self._rng.randrange(len(self._pool) - tokens)
        prompt = {"prompt_token_ids": self._pool[start : start + tokens]}
        params = self._sampling(
            max_tokens=output_tokens, ignore_eos=True, temperature=0.0, detokenize=False, output_kind=self._delta
        )
        self.engine.add_request(f"r{self._asked}", prompt, params)
        return f"r{self._asked}"

    def drop(self, requests: list[str]) -> None:
        """End these requests."""
        self.engine.abort_request(requests)

    @property
    def is_busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self.engine.has_unfinished_requests())

    def step(self) -> dict[str, float]:
        """Take one engine step; return what it did and how long it took."""
        self._scheduled = None
        cpu, wall = time.process_time(), time.perf_counter()
        self._returned = self.engine.step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        beside = {} if self._reference is None else {"reference_s": self._reference()}
        return {**self._batch(), "wall_s": wall, "cpu_s": cpu, **beside}

    def new_tokens(self) -> Iterator[tuple[str, int]]:
        """Requests that got tokens in the last step, and how many."""
        for output in self._returned:
            yield output.request_id, sum(len(part.token_ids) for part in output.outputs)

    def ended(self) -> set[str]:
        """Requests that ended with the last step."""
        return {output.request_id for output in self._returned if output.finished}

    def _batch(self) -> dict[str, float]:
        """What the last step did, from the scheduler's output."""
        prefill_tokens = sum_squares = batch = context_tokens = 0
        if self._scheduled is not None:
            new, cached = self._scheduled.scheduled_new_reqs, self._scheduled.scheduled_cached_reqs
            self._prompts.update({request.req_id: len(request.prompt_token_ids) for request in new})
            known = {request.req_id: request.num_computed_tokens for request in new}
            known.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
            for request, tokens in self._scheduled.num_scheduled_tokens.items():
                if known[request] < self._prompts[request]:
                    prefill_tokens += tokens
                    sum_squares += tokens * (2 * known[request] + tokens)
                else:
                    batch += 1
                    context_tokens += known[request] + 1
        return {
            "prefill_tokens": prefill_tokens,
            "sum_squares": sum_squares,
            "batch": batch,
            "context_tokens": context_tokens,
        }

    def limits(self, decode_steps: int) -> Limits:
        """What the engine allows, as it says itself."""
        config = self.core.vllm_config
        cache = config.cache_config
        return Limits(
            max_model_len=config.model_config.max_model_len,
            max_num_seqs=config.scheduler_config.max_num_seqs,
            max_num_batched_tokens=config.scheduler_config.max_num_batched_tokens,
            kv_capacity_tokens=(cache.num_gpu_blocks - 1) * cache.block_size,  # one is vLLM's own null block
            decode_steps=decode_steps,
        )

    def facts(self, model: str) -> dict[str, Any]:
        """The facts that a measurement keeps (:class:`aladdin_calibration.measurement.WorkerFacts`)."""
        config, limits = self.core.vllm_config, self.limits(0)
        return {
            "model": model,
            "gpu": _device_name(),
            "engine": "vllm",
            "engine_version": self.version,
            "tensor_parallel": config.parallel_config.tensor_parallel_size,
            "kv_capacity_tokens": limits.kv_capacity_tokens,
            "block_size": config.cache_config.block_size,
            "max_num_seqs": limits.max_num_seqs,
            "max_num_batched_tokens": limits.max_num_batched_tokens,
            "max_model_len": limits.max_model_len,
            "prefix_cache": bool(config.cache_config.enable_prefix_caching),
            "kv_bytes_per_token": self._kv_bytes_per_token(),
        }

    def _kv_bytes_per_token(self) -> float | None:
        groups = self.core.scheduler.kv_cache_config.kv_cache_groups
        pages = [len(group.layer_names) * group.kv_cache_spec.page_size_bytes for group in groups]
        sizes = {group.kv_cache_spec.block_size for group in groups}
        return sum(pages) / sizes.pop() if len(sizes) == 1 else None


def _is_one_cpu_thread() -> bool:
    import torch

    return not torch.cuda.is_available() and torch.get_num_threads() == 1


def _device_name() -> str:
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    names = []
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"CPU {names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def _are_of_one_engine(kept: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether facts are the same, the KV capacity nearly so."""
    before, after = kept.get("kv_capacity_tokens"), now.get("kv_capacity_tokens")
    if before is not None and after is not None and abs(after - before) <= _SAME_KV * before:
        now = {**now, "kv_capacity_tokens": before}
    return kept == now


class Recording:
    """The file of an earlier or a new run, to which complete configurations are added."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Open it; a file with other facts is refused, one with some KV blocks more or fewer keeps its own."""
        self.done: set[tuple[str, int]] = set()
        self._began = time.time()
        if path.exists():
            self._continue(path, facts)
        self._path = path
        if not path.exists() or path.stat().st_size == 0:
            self._write([{"format": FORMAT, "began": self._began, "facts": facts}])

    def _continue(self, path: Path, facts: dict[str, Any]) -> None:
        """Take over what is complete and cut off the rest: a line or a configuration that an end left half done."""
        whole, length = 0, 0
        with path.open("rb") as file:
            for line in file:
                length += len(line)
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if "facts" in row and not _are_of_one_engine(row["facts"], facts):
                    raise SystemExit(f"{path} is of another engine ({row['facts']}): give another name")
                self._began = row.get("began", self._began)
                if "done" in row:
                    self.done.add((row["done"], row["repeat"]))
                if "done" in row or "facts" in row:
                    whole = length
        os.truncate(path, whole)

    def add(self, name: str, repeat: int, steps: list[dict[str, Any]]) -> None:
        """Put a complete configuration on disk."""
        self._write([*steps, {"done": name, "repeat": repeat}])
        self.done.add((name, repeat))

    def lack(self, gap: str) -> None:
        """Note what was not measured; a later run on the same file drops the note and says anew."""
        self._write([{"gap": gap}])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())

    @property
    def age_s(self) -> float:
        """Seconds since the first run on this file began."""
        return time.time() - self._began


def run(engine: Engine, configuration: Configuration, limits: Limits) -> Iterator[tuple[str, dict[str, float]]]:
    """Run one configuration; yield the name and the figures of every step."""
    if isinstance(configuration, Prompts):
        for _ in range(configuration.count):
            engine.ask(configuration.tokens, 1)
        while engine.is_busy:
            yield configuration.name, engine.step()
    elif isinstance(configuration, Traffic):
        yield from _come_and_go(engine, configuration)
    else:
        yield from _hold(engine, configuration, limits)


def _come_and_go(engine: Engine, traffic: Traffic) -> Iterator[tuple[str, dict[str, float]]]:
    rng = random.Random(traffic.name)  # the same in every pass: equal steps tell the noise
    here: set[str] = set()
    for _ in range(TRAFFIC_STEPS):
        while len(here) < traffic.running:
            here.add(engine.ask(*traffic.lengths(rng)))
        yield traffic.name, engine.step()
        here -= engine.ended()
    engine.drop(sorted(here))
    while engine.is_busy:
        engine.step()


def _hold(engine: Engine, hold: Hold, limits: Limits) -> Iterator[tuple[str, dict[str, float]]]:
    held = [engine.ask(hold.context, limits.max_model_len - hold.context) for _ in range(hold.levels[0].batch)]
    while True:
        step = engine.step()  # the prompts first: the steps that fill the contexts are worth keeping as well
        if step["prefill_tokens"] == 0:
            break
        yield f"{hold.name}-fill", step
    for level in hold.levels:
        engine.drop(held[level.batch :])
        held = held[: level.batch]
        engine.step()  # lets the dropped ones go; its time would count that
        for _ in range(limits.decode_steps):
            yield hold.level_name(level), engine.step()
        for chunk in level.chunks:
            engine.ask(chunk, 1)
            yield hold.level_name(level, chunk), engine.step()
    engine.drop(held)
    while engine.is_busy:
        engine.step()


class Pace:
    """How long prompts and steps take here, to tell what would not fit into the time there is."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        """Warm the engine up; kernels are chosen and compiled at the first use of a shape."""
        self.prefill_s_per_token = 0.0
        for tokens in (16, 256, min(1024, limits.longest_prompt_tokens)):
            steps = [step for _, step in run(engine, Prompts(1, tokens), limits)]
            self.prefill_s_per_token = sum(step["wall_s"] for step in steps) / tokens

    def fitting(self, configuration: Configuration, seconds: float) -> Configuration | None:
        """The configuration, or what of it takes no more than so many seconds of prompts; None if nothing does."""
        if isinstance(configuration, Hold):
            return configuration.within(seconds / self.prefill_s_per_token)
        return configuration if self.seconds(configuration) <= seconds else None

    def seconds(self, configuration: Configuration) -> float:
        """A guess, for a configuration's prompts alone."""
        return configuration.work_tokens * self.prefill_s_per_token


def sweep(engine: Engine, recording: Recording, arguments: argparse.Namespace) -> None:
    """Run every configuration, pass after pass, until the passes or the time end."""
    limits = engine.limits(arguments.decode_steps)
    pace, ends = Pace(engine, limits), time.perf_counter() + arguments.budget_s
    for repeat in range(arguments.passes):
        wanted = configurations(limits, random.Random(f"{arguments.seed} {repeat}"))
        for number, whole in enumerate(wanted):
            if (whole.name, repeat) in recording.done:
                continue
            configuration = pace.fitting(whole, SHARE_OF_BUDGET * arguments.budget_s)
            if configuration is None:
                tell(skipped=whole.name, why=SKIPPED)
                recording.lack(f"{whole.name}: {SKIPPED}")
                continue
            if time.perf_counter() + pace.seconds(configuration) > ends:
                tell(ended="the time budget")
                missing = [c.name for c in wanted if (c.name, 0) not in recording.done]
                if missing:
                    recording.lack(f"not measured for lack of time: {', '.join(missing)}")
                return
            tell(done=repeat * len(wanted) + number, of=arguments.passes * len(wanted), now=configuration.name)
            at_s = recording.age_s
            steps = [
                {"config": name, "repeat": repeat, "at_s": round(at_s, 3), **step}
                for name, step in run(engine, configuration, limits)
            ]
            recording.add(configuration.name, repeat, steps)
    tell(ended="all passes")


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Engine arguments: steps that can be timed, no cache that would shorten a prompt, then what the user wants."""
    fixed = {
        "async_scheduling": False,
        "enable_prefix_caching": False,
        "distributed_executor_backend": "uni",
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "load_format": arguments.load_format,
    }
    return {**fixed, **json.loads(arguments.engine_args)}


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which engine."""
    parser.add_argument("--model", required=True, help="folder with config.json, or a model's name")
    parser.add_argument("--name", help="what to call the model; by default as above")
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--load-format", default="auto", help="'dummy' needs no weights, and times the same")
    parser.add_argument("--engine-args", default="{}", help="engine arguments of vLLM, as a JSON object")


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of :func:`sweep`."""
    parser.add_argument("--budget-s", type=float, default=480.0, help="seconds of measuring, after the start")
    parser.add_argument("--passes", type=int, default=3, help="how often every configuration is measured at most")
    parser.add_argument("--decode-steps", type=int, default=8, help="decode steps at every batch size")
    parser.add_argument("--seed", type=int, default=0, help="of the order")


def leave(status: int = 0) -> None:
    """End at once: the engine's own shutdown waits for threads that some versions never end; all is on disk."""
    sys.stdout.flush()
    os._exit(status)


def main() -> None:
    """Measure until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_engine_arguments(parser)
    add_sweep_arguments(parser)
    arguments = parser.parse_args()
    tell(starting=arguments.model)
    engine = Engine(arguments.model, options(arguments))
    recording = Recording(arguments.out, engine.facts(arguments.name or arguments.model))
    sweep(engine, recording, arguments)
    leave()


if __name__ == "__main__":
    main()
