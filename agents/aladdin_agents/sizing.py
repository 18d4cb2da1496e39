"""How many requests per second a worker can serve within its SLO, and how many workers a load needs (docs/aladdin.md).

Closed formulas, no simulation. [P] paper, [R] our reconstruction. Symbols: s mean prompt tokens, m mean decoded tokens
(output - 1), L context of a decoding request averaged over its stay, b requests in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aladdin_env.errors import InputError
from aladdin_env.latency import load_profile, profile_names
from aladdin_env.scenario import SLO, Scenario, WorkerType
from aladdin_traces import Trace, checks

_LATE_SHARE = 0.005  # of the requests may queue too long for prefill: half of what an objective for 99 % allows
_BUSIEST = 0.95  # a pool of prefill workers is never planned fuller than this
_SAMPLED_S = 3600.0  # a generated workload is sampled for as long as its horizon, and at most this


@dataclass(frozen=True)
class Safety:
    """How much of what the formulas promise is used.

    They speak of means; an objective for 99 % of requests needs room for what varies. The defaults are those with which
    fleets of the computed size held 99 % attainment in simulation under the Aladdin placement (docs/aladdin.md).

    Attributes:
        theta: Share of ATGT that the mean time per token may take, 0 to 1.
        decode: The same on decode workers of a split fleet, whose pace no prefill disturbs, 0 to 1.
        gamma: Share of the KV memory that the mean use may take, 0 to 1.
        rho: Share of the throughput at that pace that is planned with, 0 to 1.
        prefill: Most time that a worker that decodes too may spend on prefill, a share, 0 to 1: queueing for prefill
            grows beyond it. Prefill workers: see :func:`prefill_use`.
    """

    theta: float = 0.9
    decode: float = 0.97
    gamma: float = 0.9
    rho: float = 0.85
    prefill: float = 0.7

    def __post_init__(self) -> None:
        for name in ("theta", "decode", "gamma", "rho", "prefill"):
            checks.number(f"safety.{name}", getattr(self, name), above=0.0, high=1.0)


@dataclass(frozen=True)
class LengthStatistics:
    """What sizing needs to know of the requests' lengths, tokens.

    Attributes:
        prompt: Mean prompt, s.
        prompt_square: Mean of the squared prompt.
        prompt_p99: 99th percentile of the prompt.
        decoded: Mean of output - 1, m.
        context: L = E[(prompt + output / 2) (output - 1)] / m, the context of a request weighted by its stay.
    """

    prompt: float
    prompt_square: float
    prompt_p99: float
    decoded: float
    context: float

    @classmethod
    def of(cls, prompt_tokens: npt.ArrayLike, output_tokens: npt.ArrayLike) -> LengthStatistics:
        """Statistics of given requests."""
        prompt = np.asarray(prompt_tokens, dtype=np.float64)
        output = np.asarray(output_tokens, dtype=np.float64)
        if len(prompt) == 0 or len(prompt) != len(output):
            raise InputError("prompt_tokens", len(prompt), f"give as many as output_tokens ({len(output)}), 1 or more")
        decoded = output - 1.0
        mean = max(float(decoded.mean()), 1.0)
        context = float(((prompt + output / 2) * decoded).mean()) / mean
        return cls(
            float(prompt.mean()), float((prompt**2).mean()), float(np.percentile(prompt, 99)), mean, max(context, 1.0)
        )

    @classmethod
    def from_sums(cls, cluster: Any, prompt_square: float, prompt_p99: float) -> LengthStatistics | None:
        """Statistics of what has finished, from the cluster's sums; None before anything has.

        The sums say nothing of the spread of prompts, hence the two other arguments.
        """
        finished = int(cluster["finished"])
        if finished == 0:
            return None
        decoded = max(float(cluster["finished_output_tokens"]) - finished, float(finished))
        prompt = float(cluster["finished_prompt_tokens"]) / finished
        context = max(float(cluster["finished_context_tokens"]) / decoded, 1.0)
        return cls(prompt, max(prompt_square, prompt**2), max(prompt_p99, prompt), decoded / finished, context)


@dataclass(frozen=True)
class Capacity:
    """What one worker can do within the SLO.

    Attributes:
        batch: b*, requests at once; 0 where not even one alone is in time.
        rate_rps: X, requests per second at that batch, before the safety ``rho``.
        pace_s: Mean seconds per token, prefills included.
        ttft_s: First token of a long (p99) prompt at that batch, seconds, without queueing.
        binds: What limits it: "pace", "memory", "places" (max_num_seqs), "prefill", or "ttft" (infeasible).
    """

    batch: int
    rate_rps: float
    pace_s: float
    ttft_s: float
    binds: str


def prefill_seconds(kind: WorkerType, lengths: LengthStatistics) -> float:
    """Mean seconds of prefill per request: ``k1 s + c1`` in the paper's law."""
    return kind.latency.prefill_s(lengths.prompt, lengths.prompt_square)


def prefill_use(kind: WorkerType, lengths: LengthStatistics, spare_s: float) -> float:
    """Largest share of its time that a prefill worker may be busy, 0 to 0.95, so that hardly anybody queues too long.

    The tail of the wait in M/G/1 in heavy traffic, ``P(W > t) = u exp(-2 (1 - u) t E[S] / E[S^2])``, t what TTFT leaves
    beside a long prompt's own prefill, at most half a per cent; ``E[S^2] / E[S]^2`` is taken from the prompts [R].
    Workers that share a queue do better than each alone.
    """
    residual_s = prefill_seconds(kind, lengths) * lengths.prompt_square / lengths.prompt**2
    shares = np.linspace(0.0, _BUSIEST, 96)
    late = shares * np.exp(-2.0 * (1.0 - shares) * max(0.0, spare_s) / residual_s)
    return float(shares[late <= _LATE_SHARE].max())


def pace(kind: WorkerType, lengths: LengthStatistics, batch: int) -> float:
    """Seconds per token with ``batch`` requests in steady state: ``tau(b) = decode(b, b L) + (b / m) prefill(s)`` [R].

    In the paper's linear laws ``b (k2 L + c2) + c3 + (b / m) (k1 s + c1)``. Chunked steps save the overlap of both
    parts but are no shorter than the prefill, decode workers have no prefill.
    """
    decode = kind.latency.decode_s(batch, batch * lengths.context)
    if kind.role == "decode":
        return decode
    prefill = prefill_seconds(kind, lengths)
    if kind.scheduler == "chunked":
        prefill = max(0.0, prefill - kind.latency.saved_s(lengths.prompt), prefill - decode)
    return decode + batch / lengths.decoded * prefill


def _most(allowed: int, holds: Any) -> int:
    """The largest b in 0..allowed with ``holds(b)``, where ``holds`` goes from true to false."""
    low, high = 0, allowed
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def capacity(kind: WorkerType, slo: SLO, lengths: LengthStatistics, safety: Safety | None = None) -> Capacity:
    """What a worker of type ``kind`` can do for requests of these lengths [R].

    ``b* = min(b_latency, b_memory, max_num_seqs)``: ``b_latency`` the largest b with ``tau(b) <= theta ATGT`` (in the
    linear laws ``(theta ATGT - c3) / (k2 L + c2 + (k1 s + c1) / m)``), ``b_memory = gamma M / (h L + j)``. Throughput
    ``X = b* / (m tau(b*))``, at most ``prefill / (k1 s + c1)``. TTFT: a decode step at b*, the prefill of a p99 prompt
    and the front end's overhead must fit. Several SLO classes: the strictest.
    """
    safe = safety or Safety()
    used = slo.targets()[: max(1, len(slo.classes))]
    ttft_s, atgt_s = float(used[:, 0].min()), float(used[:, 1].min())
    profile = kind.latency
    long_s = profile.overhead_s + (0.0 if kind.role == "decode" else profile.prefill_s(lengths.prompt_p99))
    if kind.role == "prefill":
        share = prefill_use(kind, lengths, ttft_s - long_s)
        if long_s > ttft_s or share <= 0.0:
            return Capacity(0, 0.0, 0.0, long_s, "ttft")
        return Capacity(1, share / prefill_seconds(kind, lengths), 0.0, long_s, "prefill")
    busiest = safe.prefill / prefill_seconds(kind, lengths)
    each = lengths.context + profile.kv_overhead_tokens
    by_memory = int(safe.gamma * kind.kv_blocks * kind.block_size / each)
    by_places = min(by_memory, kind.max_num_seqs)
    theta = safe.decode if kind.role == "decode" else safe.theta
    by_pace = _most(by_places, lambda b: b == 0 or pace(kind, lengths, b) <= theta * atgt_s)
    batch = by_pace
    if kind.role == "mixed":
        batch = _most(by_pace, lambda b: profile.decode_s(b, b * lengths.context) + long_s <= ttft_s)
        if profile.decode_s(1, lengths.context) + long_s > ttft_s:
            batch = 0
    if batch == 0:
        binds = "memory" if by_places == 0 else "pace" if by_pace == 0 else "ttft"
        return Capacity(0, 0.0, pace(kind, lengths, 1), profile.decode_s(1, lengths.context) + long_s, binds)
    tau = pace(kind, lengths, batch)
    rate = batch / (lengths.decoded * tau)
    binds = (
        "ttft"
        if batch < by_pace
        else "pace"
        if by_pace < by_places
        else "memory"
        if by_memory < kind.max_num_seqs
        else "places"
    )
    if kind.role == "mixed" and rate > busiest:
        rate, binds = busiest, "prefill"
    return Capacity(batch, rate, tau, profile.decode_s(batch, batch * lengths.context) + long_s, binds)


def workers_for(rate_rps: float, each: Capacity, safety: Safety | None = None) -> int:
    """``W = ceil(rate / (rho X))`` [R], at least 1; 0 where no number would do."""
    if each.rate_rps <= 0:
        return 0
    return max(1, math.ceil(rate_rps / ((safety or Safety()).rho * each.rate_rps) - 1e-9))


@dataclass(frozen=True)
class Candidate:
    """A fleet of one worker type for a load.

    Attributes:
        type: Name of the worker type.
        profile: Its latency profile.
        role: "mixed", "prefill" or "decode"; a split fleet needs one candidate of each of the last two.
        workers: How many; 0 where no number holds the SLO.
        gpus: GPUs of all of them.
        cost_per_hour: Currency per hour.
        batch: Requests at once on a worker.
        rate_per_worker_rps: Requests per second that a worker can take, before the safety ``rho``.
        rate_per_gpu_rps: The same per GPU: what the worker configuration is chosen by [P].
        pace_s: Mean seconds per token.
        ttft_s: First token of a long prompt, without queueing, seconds.
        binds: The constraint that limits a worker; see :class:`Capacity`.
        feasible: Whether it holds the SLO.
    """

    type: str
    profile: str
    role: str
    workers: int
    gpus: int
    cost_per_hour: float
    batch: int
    rate_per_worker_rps: float
    rate_per_gpu_rps: float
    pace_s: float
    ttft_s: float
    binds: str
    feasible: bool


def _candidate(kind: WorkerType, slo: SLO, lengths: LengthStatistics, rate_rps: float, safety: Safety) -> Candidate:
    each = capacity(kind, slo, lengths, safety)
    workers = workers_for(rate_rps, each, safety)
    return Candidate(
        kind.name,
        kind.latency.name,
        kind.role,
        workers,
        workers * kind.gpus,
        workers * kind.gpus * kind.price_per_gpu_hour,
        each.batch,
        each.rate_rps,
        each.rate_rps / kind.gpus,
        each.pace_s,
        each.ttft_s,
        each.binds,
        workers > 0,
    )


def _siblings(kind: WorkerType) -> list[WorkerType]:
    """The same worker with the other shipped profiles of its model: other GPUs, other tensor-parallel sizes."""
    found = []
    for name in profile_names():
        profile = load_profile(name)
        if profile.provenance.model == kind.latency.provenance.model and profile.name != kind.latency.name:
            found.append(replace(kind, name=name, profile=profile, kv_capacity_tokens=None))
    return found


def plan(
    scenario: Scenario,
    rate_rps: float | None = None,
    trace: Trace | None = None,
    *,
    prompt_tokens: npt.ArrayLike | None = None,
    output_tokens: npt.ArrayLike | None = None,
    safety: Safety | None = None,
    all_profiles: bool = False,
    seed: int = 0,
) -> list[Candidate]:
    """Fleets of one worker type each that would carry the load, cheapest first, those that cannot last.

    Args:
        scenario: Worker types and SLO; and the workload, where nothing else is given.
        rate_rps: Requests per second; by default the mean rate of the trace or of the workload.
        trace: Requests whose lengths count.
        prompt_tokens: Lengths instead of a trace, together with ``output_tokens``.
        output_tokens: Lengths instead of a trace.
        safety: How much of the computed capacity is used.
        all_profiles: Also look at the other shipped profiles of the same model, at the same price per GPU.
        seed: Seed of the sample of a generated workload.
    """
    if trace is None and prompt_tokens is None:
        horizon = scenario.horizon_s
        horizon = horizon if scenario.workload.trace is not None else min(horizon or _SAMPLED_S, _SAMPLED_S)
        trace = scenario.workload.sample(np.random.default_rng(seed), horizon)
    if prompt_tokens is None or output_tokens is None:
        if trace is None:
            raise InputError("output_tokens", None, "give prompt_tokens and output_tokens together")
        prompt_tokens, output_tokens = trace.prompt_tokens, trace.output_tokens
    if rate_rps is None:
        rate_rps = trace.rate_rps if trace is not None else scenario.workload.mean_rate_rps
    if not 0 < rate_rps < math.inf:
        raise InputError("rate_rps", rate_rps, "give a finite number of requests per second above 0")
    lengths = LengthStatistics.of(prompt_tokens, output_tokens)
    kinds: Sequence[WorkerType] = scenario.fleet.types
    if all_profiles:
        kinds = [*kinds, *(other for kind in kinds for other in _siblings(kind))]
    found = [_candidate(kind, scenario.slo, lengths, rate_rps, safety or Safety()) for kind in kinds]
    return sorted(found, key=lambda c: (not c.feasible, c.role, c.cost_per_hour, c.gpus, c.type))
