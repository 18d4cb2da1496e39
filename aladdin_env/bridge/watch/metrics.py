"""Everything that Prometheus can ask the bridge, under names that begin with ``aladdin_``."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

from aladdin_env.bridge.watch.counts import Counts
from aladdin_env.bridge.watch.gauges import fleet_metrics, loop_metrics, policy_metrics, queue_metrics, scaling_metrics
from aladdin_env.bridge.watch.journal import Journal
from aladdin_env.bridge.watch.labels import ANSWERS, class_names, label
from aladdin_env.bridge.watch.recent import Recent
from aladdin_env.bridge.watch.sources import Sources
from aladdin_env.bridge.watch.tally import Tally
from aladdin_env.simulator.state import MAX_CLASSES

#: Over which time attainment is shown as a gauge, seconds.
ATTAINMENT_S = 300.0
_PLAIN = "text/plain; version=0.0.4; charset=utf-8"


@cache
def own_version() -> str:
    """The version of aladdin-env."""
    try:
        return version("aladdin-env")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


class Metrics(Collector):
    """The metrics of a bridge, on a registry of their own.

    Args:
        sources: The bridge.
        counts: What was counted.
        recent: The last hour.
        journal: What came last.

    Attributes:
        registry: For whoever wants to add to it.
    """

    def __init__(self, sources: Sources, counts: Counts, recent: Recent, journal: Journal) -> None:
        self._sources, self._counts, self._recent, self._journal = sources, counts, recent, journal
        self._classes = class_names(sources.cluster.view.scenario)
        self._named = len(sources.cluster.view.scenario.slo.names())
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(namespace="aladdin", registry=self.registry)

    def page(self, accepts: str = "") -> tuple[bytes, str]:
        """The metrics as text, and its content type.

        Args:
            accepts: The client's ``Accept`` header: Prometheus asks for OpenMetrics there.
        """
        try:
            encode, content_type = choose_encoder(accepts)
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = generate_latest, _PLAIN
        return encode(self.registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is is seen when it is collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        sources, counts, beats = self._sources, self._counts, self._journal.beats
        last = beats[-1] if beats else None
        yield from self._build()
        yield from self._requests()
        yield from self._objectives()
        yield from self._latencies()
        yield from self._decisions()
        yield from policy_metrics(sources)
        yield from queue_metrics(sources)
        yield from fleet_metrics(sources)
        yield from scaling_metrics(sources, last)
        yield _counter("heartbeats", "Heartbeats of the control loop.", counts.beats)
        yield _by("guard_rails", "Heartbeats at which a guard rail changed what was wanted.", "rail", counts.rails)
        yield from loop_metrics()

    def _build(self) -> Iterator[Metric]:
        built = GaugeMetricFamily("aladdin_build_info", "Version that runs.", labels=("version", "python"))
        built.add_metric((own_version(), platform.python_version()), 1.0)
        yield built
        yield GaugeMetricFamily("aladdin_uptime_seconds", "Since the bridge began.", self._sources.clock())

    def _requests(self) -> Iterator[Metric]:
        counts = self._counts
        yield _counter("requests_arrived", "Requests that came, those refused at once included.", counts.arrivals)
        ended = CounterMetricFamily(
            "aladdin_requests", "Requests that ended, by how and by SLO class.", labels=("outcome", "class")
        )
        for klass, name in self._used():
            for outcome, count in counts.outcomes[klass].items():
                ended.add_metric((outcome, name), count)
        yield ended
        yield _by("shed", "Requests refused, by reason.", "reason", counts.shed)
        yield _counter("retries", "Times that a worker failed a request before its first token.", counts.retries)
        yield _counter("prompt_tokens", "Prompt tokens of requests answered to the end.", counts.prompt_tokens)
        yield _counter("output_tokens", "Tokens that workers sent back.", counts.output_tokens)

    def _objectives(self) -> Iterator[Metric]:
        judged = CounterMetricFamily("aladdin_slo_judged", "Requests held to their objectives.", labels=("class",))
        met = CounterMetricFamily("aladdin_slo_met", "Requests within their objectives.", labels=("class",))
        missed = CounterMetricFamily(
            "aladdin_slo_misses", "Requests beyond their objectives, by which; one may miss in several.",
            labels=("kind", "class"),
        )  # fmt: skip
        share = GaugeMetricFamily(
            "aladdin_slo_attainment_ratio", "Share within objectives of the requests of the last 5 minutes.",
            labels=("class",),
        )  # fmt: skip
        limit = GaugeMetricFamily("aladdin_slo_objective_seconds", "Objectives.", labels=("kind", "class"))
        now_s, objectives = self._sources.clock(), self._sources.cluster.view.slo
        for klass, name in self._used():
            judged.add_metric((name,), self._counts.judged[klass])
            met.add_metric((name,), self._counts.met[klass])
            for kind, count in self._counts.missed[klass].items():
                missed.add_metric((kind, name), count)
            attained = self._recent.within(ATTAINMENT_S, now_s, klass).attainment
            if attained is not None:
                share.add_metric((name,), attained)
            for kind, seconds in zip(("ttft", "atgt"), objectives[klass].tolist(), strict=True):
                limit.add_metric((kind, name), seconds)
        yield from (judged, met, missed, share, limit)

    def _latencies(self) -> Iterator[Metric]:
        counts = self._counts
        yield self._by_class("ttft_seconds", "From arrival to the first token, as streams showed it.", counts.ttft)
        yield self._by_class("atgt_seconds", "Mean time between the tokens of a finished stream.", counts.atgt)
        yield self._by_class("e2e_seconds", "From arrival to the end of finished requests.", counts.e2e)

    def _decisions(self) -> Iterator[Metric]:
        counts = self._counts
        took = HistogramMetricFamily(
            "aladdin_decision_seconds", "Time that a decision took, all policies asked included.", labels=("stage",)
        )
        for stage, tally in (("place", counts.placing), ("scale", counts.scaling)):
            took.add_metric((stage,), tally.buckets(), tally.sum)
        yield took
        by = CounterMetricFamily(
            "aladdin_decisions", "Decisions on requests, by whose they were.", labels=("policy", "answer")
        )
        for policy, answers in counts.decisions.items():
            for answer, count in zip(ANSWERS, answers, strict=True):
                by.add_metric((label(policy), answer), count)
        yield by
        yield _by("fallbacks", "Decisions by another policy than the one whose they were.", "reason", counts.fallbacks)
        agreed = {"agreed": counts.agreed, "disagreed": counts.disagreed}
        yield _by("shadow_decisions", "What the policy in the shadow would have done.", "result", agreed)

    def _by_class(self, name: str, text: str, tallies: Sequence[Tally]) -> Metric:
        family = HistogramMetricFamily(f"aladdin_{name}", text, labels=("class",))
        for klass, class_name in self._used():
            family.add_metric((class_name,), tallies[klass].buckets(), tallies[klass].sum)
        return family

    def _used(self) -> Iterator[tuple[int, str]]:
        """The scenario's classes, and those beyond it that requests were of."""
        for klass in range(MAX_CLASSES):
            if klass < self._named or self._counts.is_used(klass):
                yield klass, self._classes[klass]


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"aladdin_{name}", text, value)


def _by(name: str, text: str, by: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"aladdin_{name}", text, labels=(by,))
    for value, count in values.items():
        family.add_metric((label(value),), count)
    return family
