"""What a vLLM worker says of itself at ``/metrics``: the one reader of that page, for bridge and calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aladdin_env.errors import InputError

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

METRICS_PATH = "/metrics"
_CACHE = "vllm:cache_config_info"
_NULL_BLOCKS = 1  # of each engine: vLLM sets one block aside, and counts it in all that it tells

#: Series that are added up where several engines share an address.
_SUMMED = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:num_preemptions_total": "preemptions",
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generation_tokens",
    "vllm:prefix_cache_queries_total": "queried_tokens",
    "vllm:prefix_cache_hits_total": "hit_tokens",
    "vllm:time_to_first_token_seconds_count": "begun",
    "http_requests_total": "asked",
    "vllm:request_success_total": "finished",
    "vllm:request_prefill_time_seconds_sum": "prefill_s",
    "vllm:request_prefill_time_seconds_count": "prefills",
}
#: Series of which the largest counts: the fullest engine is the one that preempts.
_LARGEST = {"vllm:kv_cache_usage_perc": "kv_usage"}
_FIELDS = {**_SUMMED, **_LARGEST}
_READ = (*_FIELDS, _CACHE)


@dataclass(frozen=True)
class Scrape:
    """One look at a server's metrics; a series that is missing is None, never 0. Counters run since its start.

    Attributes:
        running: Requests in the batch.
        waiting: Requests in the queue.
        kv_usage: Share of the KV blocks in use, 0 to 1; of several engines the fullest one's.
        preemptions: Requests that lost their KV to others.
        prompt_tokens: Prompt tokens processed.
        generation_tokens: Tokens generated.
        queried_tokens: Prompt tokens that were looked for in the prefix cache.
        hit_tokens: Prompt tokens found in the prefix cache.
        asked: Completions that were asked for over HTTP and have ended, whatever became of them.
        begun: Requests that got a first token, whatever became of them.
        finished: Requests that were answered to the end.
        prefill_s: Seconds that ended requests spent from being scheduled to their first token.
        prefills: How many requests ``prefill_s`` is the sum of.
        engines: Engines behind this address.
        cache: Labels of ``vllm:cache_config_info``; empty without it.
    """

    running: float | None = None
    waiting: float | None = None
    kv_usage: float | None = None
    preemptions: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    queried_tokens: float | None = None
    hit_tokens: float | None = None
    asked: float | None = None
    begun: float | None = None
    finished: float | None = None
    prefill_s: float | None = None
    prefills: float | None = None
    engines: int = 1
    cache: dict[str, str] = field(default_factory=dict)

    @property
    def busy(self) -> int:
        """Requests in the batch and the queue; 0 where the server does not say."""
        return int((self.running or 0) + (self.waiting or 0))

    @property
    def block_size(self) -> int | None:
        """Tokens per KV block; None if the server does not say."""
        return _whole(self.cache.get("block_size"))

    @property
    def num_gpu_blocks(self) -> int | None:
        """KV blocks of all engines together (each of them tells the sum), the null blocks included."""
        return _whole(self.cache.get("num_gpu_blocks"))

    @property
    def kv_capacity_tokens(self) -> int | None:
        """Tokens of KV that requests can fill; None if the server does not say."""
        blocks, size = self.num_gpu_blocks, self.block_size
        return None if blocks is None or size is None else (blocks - _NULL_BLOCKS * self.engines) * size


def parse(page: str) -> Scrape | None:
    """Read a page of metrics; None when it has none that we know, or is no such page.

    Raises:
        InputError: prometheus-client is not installed.
    """
    families = _parser()
    # A worker shows some 600 lines, mostly buckets of histograms: parsing all of them takes 10 ms, in which nothing
    # else of a process happens; the few that are read here take 0.1 ms.
    wanted = [line for line in page.splitlines() if line.startswith(_READ)]
    try:
        return _gather(sample for family in families("\n".join(wanted) + "\n") for sample in family.samples)
    except ValueError:  # no exposition format
        return None


def _gather(samples: Iterable[Sample]) -> Scrape | None:
    found: dict[str, float] = {}
    engines, cache = set(), {}
    for sample in samples:
        name = _FIELDS.get(sample.name)
        if sample.name == _CACHE:
            cache = dict(sample.labels)
        elif name is not None and _counts(sample.labels) and math.isfinite(sample.value):
            before = found.get(name, 0.0)
            found[name] = max(before, sample.value) if sample.name in _LARGEST else before + sample.value
            if "engine" in sample.labels:
                engines.add(sample.labels["engine"])
    return Scrape(**found, engines=max(1, len(engines)), cache=cache) if found or cache else None


def _counts(labels: Mapping[str, str]) -> bool:
    """Whether a sample is one of those to count: no aborted requests, and of HTTP requests those for completions."""
    handler = labels.get("handler")
    return labels.get("finished_reason") != "abort" and (handler is None or "completions" in handler)


def _whole(text: str | None) -> int | None:
    """A positive whole number from a label; None for anything else, such as "None"."""
    return int(text) or None if text is not None and text.isdecimal() else None


def _parser() -> Callable[[str], Iterable[Any]]:
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        raise InputError("prometheus_client", None, "it is missing: pip install 'aladdin-env[serve]'") from None
    return text_string_to_metric_families
