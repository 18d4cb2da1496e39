"""What a worker counts, and how it tells it: the names, types and labels of vLLM's metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from aladdin_env.bridge.emulator.engine import Engine, Times

CONTENT_TYPE = CONTENT_TYPE_LATEST
#: Upper edges of vLLM's histograms, seconds.
FIRST_TOKEN_EDGES_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
TOKEN_EDGES_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_EDGES_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
REASONS = ("stop", "length", "abort", "error")
_ENGINE = "0"


class Histogram:
    """How many values were at most each edge and above the one before, and their sum."""

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value


class Measures:
    """Counts over the requests of a worker since its start. Times as its clients see them, seconds.

    Attributes:
        prompt_tokens: Of all requests with a first token.
        ended: Requests by how they ended, one of ``REASONS``.
    """

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.ended = dict.fromkeys(REASONS, 0)
        self.first_token = Histogram(FIRST_TOKEN_EDGES_S)
        self.per_token = Histogram(TOKEN_EDGES_S)
        self.whole, self.queue, self.prefill, self.decode, self.inference = (
            Histogram(REQUEST_EDGES_S) for _ in range(5)
        )

    def begun(self, prompt_tokens: int, ttft_s: float) -> None:
        """A request has its first token."""
        self.prompt_tokens += prompt_tokens
        self.first_token.observe(ttft_s)

    def finished(self, times: Times, overhead_s: float, tokens: int, reason: str) -> None:
        """A request has its last token."""
        self.ended[reason] += 1
        admitted_s = times.admitted_s + overhead_s  # of the engine; the other times are later by as much
        decode_s = times.finish_s - times.first_token_s
        self.whole.observe(times.finish_s - times.arrival_s)
        self.queue.observe(times.admitted_s - times.arrival_s)
        self.prefill.observe(times.first_token_s - admitted_s)
        self.decode.observe(decode_s)
        self.inference.observe(times.finish_s - admitted_s)
        self.per_token.observe(decode_s / (tokens - 1) if tokens > 1 else 0.0)  # vLLM counts those without one as 0


class Exposition(Collector):
    """The text of ``/metrics``.

    Args:
        measures: The counts over requests.
        engine: What is running; ``catch_up`` is called before it is looked at.
        catch_up: Brings the engine to the present.
        model: The label ``model_name``.
    """

    def __init__(self, measures: Measures, engine: Engine, catch_up: Callable[[], object], model: str) -> None:
        self._measures, self._engine, self._catch_up = measures, engine, catch_up
        self._labels = {"model_name": model, "engine": _ENGINE}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All metrics as they are now."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is is seen when it is collected."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The metrics, for the registry."""
        self._catch_up()
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()

    def _gauges(self) -> Iterable[Metric]:
        load, kind = self._engine.load(), self._engine.kind
        usage = load.kv_used_blocks / kind.kv_blocks
        yield self._gauge("num_requests_running", "Requests in the batch.", load.running)
        yield self._gauge("num_requests_waiting", "Requests in the queue.", load.waiting)
        yield self._gauge("kv_cache_usage_perc", "KV blocks in use, 0 to 1.", usage)
        cache = {
            "block_size": str(kind.block_size),
            "cache_dtype": "auto",
            "enable_prefix_caching": str(kind.prefix_cache),
            "engine": _ENGINE,
            "num_gpu_blocks": str(kind.kv_blocks + 1),  # vLLM counts the null block, which no request may use
        }
        yield self._gauge("cache_config_info", "How the KV memory is cut.", 1, cache)

    def _counters(self) -> Iterable[Metric]:
        load, measures = self._engine.load(), self._measures
        yield self._counter("num_preemptions", "Requests put back into the queue for want of KV.", load.preemptions)
        yield self._counter(
            "prompt_tokens", "Prompt tokens of requests that have begun to answer.", measures.prompt_tokens
        )
        yield self._counter("generation_tokens", "Tokens generated.", self._engine.tokens)
        queries, hits = load.prefix_queries, load.prefix_hits
        yield self._counter("prefix_cache_queries", "Prompt tokens looked for in the prefix cache.", queries)
        yield self._counter("prefix_cache_hits", "Prompt tokens found in the prefix cache.", hits)
        text = "Requests by how they ended."
        success = CounterMetricFamily("vllm:request_success", text, labels=[*self._labels, "finished_reason"])
        for reason, count in measures.ended.items():
            success.add_metric([*self._labels.values(), reason], count)
        yield success

    def _histograms(self) -> Iterable[Metric]:
        measures = self._measures
        gaps = Histogram(TOKEN_EDGES_S)
        gaps.counts, gaps.sum = self._engine.gap_counts.tolist(), self._engine.gaps_s
        request = "Seconds of a request {}."
        per_token = "Seconds per token after the first, on average over a request."
        for name, text, histogram in (
            ("time_to_first_token", "Seconds from arrival to the first token.", measures.first_token),
            ("inter_token_latency", "Seconds between two tokens of a request.", gaps),
            ("request_time_per_output_token", per_token, measures.per_token),
            ("e2e_request_latency", "Seconds from arrival to the last token.", measures.whole),
            ("request_queue_time", request.format("in the queue"), measures.queue),
            ("request_inference_time", request.format("in the batch"), measures.inference),
            ("request_prefill_time", request.format("in the batch before its first token"), measures.prefill),
            ("request_decode_time", request.format("from its first token to its last"), measures.decode),
        ):
            yield self._histogram(f"{name}_seconds", text, histogram)

    def _gauge(self, name: str, text: str, value: float, labels: Mapping[str, str] | None = None) -> Metric:
        given = self._labels if labels is None else labels
        family = GaugeMetricFamily(f"vllm:{name}", text, labels=list(given))
        family.add_metric(list(given.values()), value)
        return family

    def _counter(self, name: str, text: str, value: int) -> Metric:
        family = CounterMetricFamily(f"vllm:{name}", text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(f"vllm:{name}", text, labels=list(self._labels))
        edges = (*map(str, histogram.edges), "+Inf")
        buckets = [(edge, float(count)) for edge, count in zip(edges, accumulate(histogram.counts), strict=True)]
        family.add_metric(list(self._labels.values()), buckets, histogram.sum)
        return family
