"""What the numbers of an observation mean: name, meaning, and what a value of 1.0 stands for.

The encoder is :mod:`aladdin_env.observation`. A change here or there is a new :data:`OBSERVATION_VERSION`.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any, NamedTuple

OBSERVATION_VERSION = 1
LIMIT = 10.0  # every feature is clipped to [-LIMIT, LIMIT]


class Feature(NamedTuple):
    """One number of an observation."""

    name: str
    meaning: str
    scale: str  # what 1.0 stands for


WORKER_TABLE = (
    Feature("starting", "status STARTING (all four flags 0: OFF)", "flag"),
    Feature("ready", "status READY", "flag"),
    Feature("draining", "status DRAINING", "flag"),
    Feature("failed", "status FAILED", "flag"),
    Feature("type", "index of the worker type + 1", "number of types"),
    Feature("prefill_role", "prefill worker of a split fleet", "flag"),
    Feature("decode_role", "decode worker of a split fleet", "flag"),
    Feature("gpus", "GPUs of the worker", "8 GPUs"),
    Feature("price", "price of the worker per second", "the dearest worker type"),
    Feature("running", "requests admitted by the engine", "max_num_seqs"),
    Feature("waiting", "requests placed here and not admitted, those whose KV is on its way included", "32 requests"),
    Feature("waiting_tokens", "prompt tokens still to be prefilled", "max_num_batched_tokens"),
    Feature("outbound", "prefilled requests whose KV is still here", "32 requests"),
    Feature("kv_used", "KV blocks in use", "KV blocks of the worker"),
    Feature("context", "tokens attended by the next decode step", "KV tokens of the worker"),
    Feature("decode_now", "seconds of the next decode step", "ATGT objective"),
    Feature("decode_after", "seconds of a decode step with all requests here and this one, half way", "ATGT objective"),
    Feature("ttft_here", "predicted TTFT if placed here, seconds waited included", "TTFT objective"),
    Feature("slack", "least time in hand of a decoding request, less the prefill of this one", "ATGT of its class"),
    Feature("kv_peak", "prompts and predicted outputs of all requests here and this one", "KV tokens of the worker"),
    Feature("prediction_error", "decaying sum of predicted - true output of what ended here", "2048 tokens"),
    Feature("ready_in", "seconds until a STARTING or FAILED worker is READY", "60 s"),
    Feature("prefix_hit", "share of the prompt whose KV is cached here", "whole prompt"),
    Feature("can_place", "whether this request may be placed here now", "flag"),
)  # fmt: skip
REQUEST_TABLE = (
    Feature("present", "a request is at hand (otherwise all of these are 0)", "flag"),
    Feature("prompt", "prompt tokens", "4096 tokens"),
    Feature("log_prompt", "log2 of prompt tokens", "16"),
    Feature("predicted_output", "predicted output tokens", "1024 tokens"),
    Feature("ttft_slo", "TTFT objective of its class", "10 s"),
    Feature("atgt_slo", "ATGT of its class", "0.1 s"),
    Feature("waited", "seconds since it arrived", "TTFT objective"),
    Feature("held", "it is in the hold queue", "flag"),
    Feature("retries", "workers it has lost", "3"),
    Feature("prefilled", "it is prefilled and looks for a decode worker", "flag"),
)
CLUSTER_TABLE = (
    Feature("scaling_decision", "1: a scaling decision is asked for; 0: a placement", "flag"),
    Feature("rate", "arrivals per second since the last whole heartbeat began", "10 per slot"),
    Feature("rate_4", "the same over the last 4 whole heartbeats", "10 per slot"),
    Feature("rate_16", "the same over the last 16 whole heartbeats", "10 per slot"),
    Feature("trend", "(rate - rate_16) / (rate + rate_16)", "1"),
    Feature("token_rate", "prompt tokens per second since the last whole heartbeat began", "10,000 per slot"),
    Feature("mean_prompt", "prompt tokens per arrival so far", "4096 tokens"),
    Feature("mean_output", "output tokens per finished request so far", "1024 tokens"),
    Feature("attainment", "finished within SLO over finished, since the last whole heartbeat began (1 if none)", "1"),
    Feature("attainment_16", "the same over the last 16 whole heartbeats", "1"),
    Feature("unserved", "requests rejected, failed or truncated over all that arrived so far", "0.1"),
    Feature("held", "requests in the hold queue", "32 requests"),
    Feature("in_flight", "requests that have arrived and not ended", "64 per slot"),
    Feature("day_sin", "sine of the time of day", "1"),
    Feature("day_cos", "cosine of the time of day", "1"),
    Feature("heartbeat_in", "seconds to the next heartbeat", "one heartbeat"),
    Feature("horizon_left", "part of the scenario's horizon still to come (1 where there is none)", "horizon"),
    Feature("beats_left", "heartbeats to the horizon", "100"),
    Feature("cost_rate", "cost per second", "all slots running"),
    Feature("starting", "STARTING workers", "slots"),
    Feature("ready", "READY workers", "slots"),
    Feature("draining", "DRAINING workers", "slots"),
    Feature("failed", "FAILED workers", "slots"),
    Feature("ready_in", "seconds until the next STARTING or FAILED worker is READY (0 if none is)", "60 s"),
)
TYPE_TABLE = (
    Feature("serving", "READY workers of the type", "its slots"),
    Feature("coming", "STARTING and FAILED workers of the type", "its slots"),
    Feature("leaving", "DRAINING workers of the type", "its slots"),
    Feature("load", "requests on its READY workers, mean", "max_num_seqs"),
    Feature("kv_used", "KV blocks in use on its READY workers, mean", "KV blocks of a worker"),
)

WORKER_FEATURES = tuple(feature.name for feature in WORKER_TABLE)
REQUEST_FEATURES = tuple(feature.name for feature in REQUEST_TABLE)
CLUSTER_FEATURES = tuple(feature.name for feature in CLUSTER_TABLE)
TYPE_FEATURES = tuple(feature.name for feature in TYPE_TABLE)


def _indices(kind: str, names: tuple[str, ...]) -> Any:
    """A named tuple from feature to index, which compiled code reads as constants."""
    return namedtuple(kind, names)(*range(len(names)))


W = _indices("WorkerIndex", WORKER_FEATURES)
R = _indices("RequestIndex", REQUEST_FEATURES)
C = _indices("ClusterIndex", CLUSTER_FEATURES)
T = _indices("TypeIndex", TYPE_FEATURES)


def cluster_features(type_names: list[str]) -> list[str]:
    """Names of the whole ``cluster`` array for a fleet with these worker types."""
    return [*CLUSTER_FEATURES, *(f"{kind}_{name}" for kind in type_names for name in TYPE_FEATURES)]


def cluster_size(types: int) -> int:
    """Length of the ``cluster`` array for a fleet with ``types`` worker types."""
    return len(CLUSTER_FEATURES) + len(TYPE_FEATURES) * types
