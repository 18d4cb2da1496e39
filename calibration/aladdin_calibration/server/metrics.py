"""What a server says of itself at ``/metrics`` (vLLM's names)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aladdin_calibration.server.client import Client, ServerFault
from aladdin_traces.errors import InputError

if TYPE_CHECKING:
    from prometheus_client import Metric

_SETTLE_S = 5.0  # a server takes a moment to notice that we hung up
_POLL_S = 0.05
_SUMMED = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:time_to_first_token_seconds_count": "begun",
    "http_requests_total": "asked",
    "vllm:request_success_total": "finished",
    "vllm:request_prefill_time_seconds_sum": "prefill_s",
    "vllm:request_prefill_time_seconds_count": "prefills",
    "vllm:prefix_cache_hits_total": "hit_tokens",
}


@dataclass(frozen=True)
class Scrape:
    """One look at a server's metrics; a series that is missing is None, never 0.

    Attributes:
        running: Requests in the batch.
        waiting: Requests in the queue.
        asked: Completions that were asked for over HTTP and have ended, whatever became of them.
        begun: Requests that got a first token since the server started, whatever became of them.
        finished: Requests that were answered to the end since the server started.
        prefill_s: Seconds that ended requests spent from being scheduled to their first token.
        prefills: How many requests ``prefill_s`` is the sum of.
        hit_tokens: Prompt tokens found in the prefix cache.
        engines: Engines behind this address.
        cache: Labels of ``vllm:cache_config_info``; empty without it.
    """

    running: float | None = None
    waiting: float | None = None
    asked: float | None = None
    begun: float | None = None
    finished: float | None = None
    prefill_s: float | None = None
    prefills: float | None = None
    hit_tokens: float | None = None
    engines: int = 1
    cache: dict[str, str] = field(default_factory=dict)

    @property
    def busy(self) -> int:
        """Requests in the batch and the queue; 0 where the server does not say."""
        return int((self.running or 0) + (self.waiting or 0))


async def scrape(client: Client) -> Scrape | None:
    """The server's metrics now; None when it has none that we know.

    Raises:
        ServerFault: No whole answer came.
        InputError: prometheus-client is not installed.
    """
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        raise InputError("prometheus_client", None, "it is missing: pip install 'aladdin-env[serve]'") from None
    status, text = await client.get("/metrics")
    if status != 200:
        return None
    try:
        return _scrape(text_string_to_metric_families(text))
    except ValueError:  # no exposition format
        return None


def _scrape(families: Iterable[Metric]) -> Scrape | None:
    sums: dict[str, float] = {}
    engines, cache = set(), {}
    for family in families:
        for sample in family.samples:
            name = _SUMMED.get(sample.name)
            if name is not None and _counts(sample.labels):
                sums[name] = sums.get(name, 0.0) + sample.value
                if "engine" in sample.labels:
                    engines.add(sample.labels["engine"])
            elif sample.name == "vllm:cache_config_info":
                cache = dict(sample.labels)
    return Scrape(**sums, engines=max(1, len(engines)), cache=cache) if sums or cache else None


def _counts(labels: Mapping[str, str]) -> bool:
    """Whether a sample is one of those to sum: no aborted requests, and of HTTP requests those for completions."""
    handler = labels.get("handler")
    return labels.get("finished_reason") != "abort" and (handler is None or "completions" in handler)


async def idle(client: Client) -> Scrape | None:
    """The metrics once the server works for nobody, to be called while we want nothing of it.

    Raises:
        ServerFault: It still works after some seconds, hence for others.
    """
    until = time.perf_counter() + _SETTLE_S
    while True:
        seen = await scrape(client)
        if seen is None or seen.busy == 0:
            return seen
        if time.perf_counter() > until:
            raise ServerFault(f"others use {client.url} ({seen.busy} requests): measure while it serves nobody else")
        await asyncio.sleep(_POLL_S)


class Watch:
    """Finds out whether others used the server between ``begin`` and ``end``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before: Scrape | None = None
        self._sent = self._finished = 0

    async def begin(self) -> Scrape | None:
        """Start on a server that is idle; ServerFault if it is not."""
        self._before = await idle(self._client)
        self._sent, self._finished = self._client.sent, self._client.finished
        return self._before

    async def end(self) -> Scrape | None:
        """The metrics afterwards; ServerFault if others were served meanwhile, or the server is not idle."""
        after = await idle(self._client)
        if after is not None and self._before is not None:
            strangers = max(
                _more(self._before.finished, after.finished, self._client.finished - self._finished),
                # Whoever hangs up early is in no count of finished ones. Not all of ours need have begun.
                _more(self._before.begun, after.begun, self._client.sent - self._sent),
                # Nor is who hangs up before a first token counted by the engine, only by the front end.
                _more(self._before.asked, after.asked, self._client.sent - self._sent),
            )
            if strangers > 0:
                raise ServerFault(
                    f"others use {self._client.url} ({strangers:g} requests came in between): "
                    "measure while it serves nobody else"
                )
        return after


def _more(before: float | None, after: float | None, ours: int) -> float:
    """By how much a counter has moved beyond ``ours``; 0 where the server does not count."""
    return 0.0 if before is None or after is None else after - before - ours
