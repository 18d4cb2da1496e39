"""Metrics of what is so at the moment they are asked for: queue, workers, scaling, who decides.

What is not known has no sample: a missing reading is not 0.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from aladdin_env.bridge.decider import CANARY, MODES
from aladdin_env.bridge.events import Beat
from aladdin_env.bridge.watch.sources import Sources
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.simulator.state import WORKER_STATUS


def policy_metrics(sources: Sources) -> Iterator[Metric]:
    """Who decides, in which mode, by which calibration."""
    decider = sources.decider
    mode = _gauge("mode", "1 for the mode that is on.", "mode")
    for name in MODES:
        mode.add_metric((name,), float(name == decider.mode))
    yield mode
    share = _gauge("canary_ratio", "Share of requests that the policy decides; only under canary.")
    if decider.mode == CANARY:
        share.add_metric((), decider.canary)
    yield share
    served = _gauge("policy_info", "The policy that is served, and the baseline.", "policy", "baseline")
    served.add_metric((decider.policy.name, decider.baseline.name), 1.0)
    yield served
    yield from _calibration_metrics(sources)


def _calibration_metrics(sources: Sources) -> Iterator[Metric]:
    used = _gauge("calibration_info", "The latency profile in use.", "type", "profile")
    drift = _gauge("calibration_drift_ratio", "Drift from the profile over the alarm's threshold.", "type")
    factor = _gauge("calibration_factor", "Factor on the profile's times, as learnt in service.", "type", "law")
    kinds = sources.cluster.view.scenario.fleet.types
    for kind, status in zip(kinds, sources.calibrations(), strict=True):
        used.add_metric((kind.name, kind.latency.name if status is None else status.prior), 1.0)
        if status is not None:
            drift.add_metric((kind.name,), status.drift)
            for law in ("prefill", "decode_alpha", "decode_beta"):
                factor.add_metric((kind.name, law), getattr(status, law))
    yield from (used, drift, factor)


def queue_metrics(sources: Sources) -> Iterator[Metric]:
    """Requests at the bridge that have not ended."""
    in_flight = float(sources.cluster.view.cluster["in_flight"])
    dispatcher = sources.dispatcher
    yield _gauge("requests_in_flight", "Requests that have come and not ended.", value=in_flight)
    yield _gauge("hold_queue_requests", "Requests that wait for a worker.", value=dispatcher.held)
    yield _gauge("hold_queue_limit", "Most requests that may wait.", value=dispatcher.queueing.max_held)
    yield _gauge(
        "hold_queue_oldest_seconds", "Time since the arrival of the one that came first; 0: nobody waits.",
        value=sources.oldest_held_s(),
    )  # fmt: skip


def fleet_metrics(sources: Sources) -> Iterator[Metric]:
    """Workers by state, and each that is there by its slot."""
    many = _gauge("workers", "Workers by state.", "type", "state")
    states = Counter((sources.type_of(worker.slot), worker.shown_status) for worker in sources.pool.workers)
    for type_name in sources.type_names:
        for status, name in enumerate(WORKER_STATUS):
            many.add_metric((type_name, name), states[type_name, status])
    yield many
    workers = sources.listed()
    yield from _states(workers)
    yield _each("worker_in_flight_requests", "Requests of ours on it.", ((w, w.in_flight) for w in workers))
    fresh = [worker for worker in workers if worker.scrape is not None and not worker.is_stale]
    for name, text, field in (
        ("worker_running_requests", "Requests in its batch, as it says.", "running"),
        ("worker_waiting_requests", "Requests in its queue, as it says.", "waiting"),
        ("worker_kv_usage_ratio", "Share of its KV memory in use, as it says.", "kv_usage"),
    ):
        yield _each(name, text, ((worker, getattr(worker.scrape, field)) for worker in fresh))
    ages = ((worker, worker.metrics_age_s) for worker in workers)
    yield _each("worker_metrics_age_seconds", "Since its metrics were last read.", ages)


def _states(workers: Iterable[LiveWorker]) -> Iterator[Metric]:
    """Only the state that each is in, not those that it is not in: of many workers that is much less to tell."""
    state = _gauge("worker_state", "1: the state that it is in.", "slot", "state")
    breaker = _gauge("worker_breaker_state", "1: the state of its circuit breaker.", "slot", "state")
    for worker in workers:
        state.add_metric((str(worker.slot), WORKER_STATUS[worker.shown_status]), 1.0)
        breaker.add_metric((str(worker.slot), worker.breaker.state), 1.0)
    yield from (state, breaker)


def scaling_metrics(sources: Sources, last: Beat | None) -> Iterator[Metric]:
    """How many workers there are and should be, and what they cost; ``last`` is the last heartbeat."""
    current = _gauge("current_replicas", "Workers that serve or are to come.", "type")
    desired = _gauge("desired_replicas", "Workers that there should be: for whoever scales them.", "type")
    proposed = _gauge("proposed_replicas", "Workers that the policy wanted before the guard rails.", "type")
    for kind in sources.replicas(last):
        current.add_metric((kind.name,), kind.current)
        desired.add_metric((kind.name,), kind.desired)
        if kind.proposed is not None:
            proposed.add_metric((kind.name,), kind.proposed)
    yield from (current, desired, proposed)
    cold = _gauge("cold_start_seconds", "Mean time from the wish for a worker until it serves.")
    if sources.pool.cold_start_s is not None:
        cold.add_metric((), sources.pool.cold_start_s)
    yield cold
    age = _gauge("heartbeat_age_seconds", "Since the control loop's last heartbeat.")
    if last is not None:
        age.add_metric((), sources.clock() - last.time_s)
    yield age
    spent = sources.spending()
    yield _gauge("gpus", "GPUs that are paid for.", value=spent.gpus)
    yield CounterMetricFamily("aladdin_gpu_seconds", "GPU time that was paid for.", spent.gpu_seconds)
    yield CounterMetricFamily("aladdin_cost", "Cost, in the currency of the scenario's prices.", spent.total)


def loop_metrics() -> Iterator[Metric]:
    """The event loop in which we are asked: one that leaks tasks leaks requests or connections."""
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:  # no loop runs here: there are none
        tasks = 0
    yield _gauge("asyncio_tasks", "Tasks of the event loop.", value=tasks)


def _gauge(name: str, text: str, *labels: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"aladdin_{name}", text, value, labels=labels or None)


def _each(name: str, text: str, values: Iterable[tuple[LiveWorker, float | None]]) -> Metric:
    """A gauge by slot; without those who do not say."""
    family = _gauge(name, text, "slot")
    for worker, value in values:
        if value is not None and math.isfinite(value):
            family.add_metric((str(worker.slot),), value)
    return family
