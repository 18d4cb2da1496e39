"""A vLLM engine in this process whose every step is timed and described, and how one is started and left.

Needs nothing but vLLM and the standard library. The batch of a step is read from the scheduler's own output. Its time
is that of ``engine.step()``, which returns when the sampled tokens are known: without async scheduling every step is
timed by itself. Where one CPU thread does it all, a fixed job is timed beside every step
(:mod:`aladdin_calibration.engine.reference`).
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

from aladdin_calibration.engine.plan import Limits
from aladdin_calibration.engine.reference import ReferenceJob

_POOL_TOKENS = 65_536  # beside two of the longest prompts: hardly two begin at the same place


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
        """Add a request with a random prompt, which hardly any other begins with; return its id."""
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


def leave(status: int = 0) -> None:
    """End at once: the engine's own shutdown waits for threads that some versions never end; all is on disk."""
    sys.stdout.flush()
    os._exit(status)
