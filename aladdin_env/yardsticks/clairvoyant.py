"""The clairvoyant lower bound: what a trace costs at least, whatever places its requests and sizes the fleet.

Relaxed are: time (no request waits for a worker, none is idle, workers start at once), TTFT, stalls of running
requests by prefills, whole workers. Kept are: true lengths, the laws of time, continuous batching, the pace that the
SLO asks for over all requests together, KV memory, and that so many requests may miss their SLO. Lagrangian duality
makes any multipliers a valid bound; the best are searched. Proof: docs/yardsticks.md. Our reconstruction, not the
paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from aladdin_env.errors import InputError
from aladdin_env.scenario import Scenario, WorkerType
from aladdin_env.yardsticks.shares import Prices, WorkerShares
from aladdin_traces import Trace, checks

Array = NDArray[np.float64]
UNITS = ("cost", "gpu_seconds")
_SAMPLE = 20_000  # requests by which multipliers are searched; the bound is then of all
_EVALUATIONS = 160
_WINDOWS = 5  # halvings of the trace that least_workers looks at


@dataclass(frozen=True)
class LowerBound:
    """No policy that serves ``attainment`` of the requests within their SLO spends less.

    Attributes:
        value: Currency, or GPU-seconds, by ``unit``.
        unit: "cost" or "gpu_seconds".
        attainment: Share of the requests that must meet their SLO.
        requests: How many there are.
        misses: How many may miss it.
    """

    value: float
    unit: str
    attainment: float
    requests: int
    misses: int


def lower_bound(scenario: Scenario, trace: Trace, attainment: float = 0.99, unit: str = "cost") -> LowerBound:
    """The least that any policy spends on ``trace`` under the scenario's worker types and SLO.

    Args:
        scenario: Worker types, prices, SLO; how many workers run is free, but for the types' minima.
        trace: Requests with their true output lengths.
        attainment: Share that must meet the SLO, above 0 and at most 1.
        unit: "cost" (currency of the types' prices) or "gpu_seconds".

    Requests that fit on no worker are counted as free: no policy can serve them.

    Raises:
        InputError: No request, no share, or an unknown unit.
    """
    if unit not in UNITS:
        raise InputError("unit", unit, f"give one of {', '.join(UNITS)}")
    if len(trace) == 0:
        raise InputError("trace", "0 requests", "give at least one")
    fleet = _Fleet.of(scenario, trace, unit)
    misses = _allowed_misses(len(trace), attainment)
    requests = _Requests.of(scenario, trace)
    work = _best(fleet, requests.take(np.flatnonzero(requests.fits)), misses)
    value = max(work, fleet.kept_per_s * float(trace.arrival_s[-1]))
    return LowerBound(value, unit, attainment, len(trace), misses)


def least_workers(scenario: Scenario, trace: Trace, attainment: float = 0.99) -> int:
    """Workers that a fixed fleet of the scenario's one type needs at least.

    The work that arrives in a window must be done before its last request's objectives run out; the best of all
    windows of the trace, halved again and again, counts.

    Raises:
        InputError: The fleet has several types, or as for :func:`lower_bound`.
    """
    types = scenario.fleet.types
    if len(types) != 1:
        raise InputError("fleet.types", len(types), "give a fleet of one worker type")
    if len(trace) == 0:
        raise InputError("trace", "0 requests", "give at least one")
    misses, goal = _allowed_misses(len(trace), attainment), scenario.slo.targets()[trace.klass]
    fleet, requests = _Fleet.of(scenario, trace, "gpu_seconds"), _Requests.of(scenario, trace)
    due_s = trace.arrival_s + goal[:, 0] + goal[:, 1] * (trace.output_tokens - 1)
    best = 1
    for pieces in (2**k for k in range(_WINDOWS)):
        edges = np.linspace(0.0, float(trace.arrival_s[-1]), pieces + 1)
        for start_s, end_s in pairwise(edges.tolist()):
            inside = (trace.arrival_s >= start_s) & (trace.arrival_s <= end_s)
            if np.count_nonzero(inside) <= misses:
                continue
            work_s = _best(fleet, requests.take(np.flatnonzero(inside & requests.fits)), misses) / types[0].gpus
            best = max(best, math.ceil(work_s / float(due_s[inside].max() - start_s) - 1e-9))
    return best


@dataclass(frozen=True)
class _Requests:
    """Lengths in tokens, seconds between first and last token that the SLO allows, and who fits on some worker."""

    prompt: NDArray[np.int64]
    fresh: Array
    decoded: NDArray[np.int64]
    allowed_s: Array
    fits: NDArray[np.bool_]

    @classmethod
    def of(cls, scenario: Scenario, trace: Trace) -> _Requests:
        prompt, decoded = trace.prompt_tokens.astype(np.int64), trace.output_tokens.astype(np.int64) - 1
        allowed_s = scenario.slo.targets()[trace.klass, 1] * decoded + _lent_s(scenario) * (decoded > 0)
        fits = prompt + decoded <= max(kind.longest_request_tokens for kind in scenario.fleet.types)
        return cls(prompt, _fresh_tokens(scenario, trace), decoded, allowed_s, fits)

    def take(self, which: NDArray[np.int64]) -> _Requests:
        return _Requests(
            self.prompt[which], self.fresh[which], self.decoded[which], self.allowed_s[which], self.fits[which]
        )


def _lent_s(scenario: Scenario) -> float:
    """Split: the client sees the first token a prefill worker's overhead late, the last one a decode worker's."""
    if not scenario.fleet.is_split:
        return 0.0
    types = scenario.fleet.types
    first = max(kind.latency.overhead_s for kind in types if kind.role == "prefill")
    return first - min(kind.latency.overhead_s for kind in types if kind.role == "decode")


@dataclass(frozen=True)
class _Fleet:
    """The worker types by role, and the price of what always runs."""

    mixed: tuple[WorkerShares, ...]
    prefill: tuple[WorkerShares, ...]
    decode: tuple[WorkerShares, ...]
    kept_per_s: float

    @classmethod
    def of(cls, scenario: Scenario, trace: Trace, unit: str) -> _Fleet:
        def price(kind: WorkerType) -> float:
            return kind.price_per_s if unit == "cost" else float(kind.gpus)

        kinds = scenario.fleet.types
        longest, shared = int(trace.prompt_tokens.max()), trace.prefix_blocks is not None
        context = int((trace.prompt_tokens.astype(np.int64) + trace.output_tokens - 1).max())
        made = [(k.role, WorkerShares(k, price(k), longest, context, shared and k.prefix_cache)) for k in kinds]
        roles = [tuple(one for role, one in made if role == wanted) for wanted in ("mixed", "prefill", "decode")]
        return cls(roles[0], roles[1], roles[2], sum(price(kind) * kind.minimum for kind in kinds))

    def costs(self, requests: _Requests, prices: Sequence[Prices], pace: float) -> Array:
        """Currency of each request at least, the multipliers' rewards taken off."""
        both = [*self.mixed, *self.decode]
        decoding = [_decoding(one, requests, given) for one, given in zip(both, prices, strict=True)]
        whole = [
            one.prefill(requests.fresh, given) + costs
            for one, given, costs in zip(self.mixed, prices, decoding, strict=False)
        ]
        if self.decode:
            first = np.min([one.prefill(requests.fresh, Prices(0.0, 0.0, 0.0)) for one in self.prefill], axis=0)
            whole = [first + np.min(decoding, axis=0)]
        cheapest: Array = np.min(whole, axis=0)
        return cheapest - pace * requests.allowed_s

    @property
    def decoders(self) -> tuple[WorkerShares, ...]:
        """The types that decode."""
        return self.mixed or self.decode


def _decoding(one: WorkerShares, requests: _Requests, prices: Prices) -> Array:
    """Currency of the decoded tokens of each request: contexts prompt + 1 to prompt + output - 1.

    A preempted request gets a token from its recomputation: that may be cheaper than a decode step, hence the minima.
    """
    longest = int((requests.prompt + requests.decoded).max())
    costs = one.token_costs(longest, prices)
    # Multipliers of a chunked type price a recomputed token as any prompt token.
    again = one.exclusive_recomputation
    if one.kind.scheduler == "chunked":
        again = min(again, prices.prefill) if one.kind.max_num_seqs > 1 else np.inf
    if np.isinf(again):  # nobody can be preempted
        return _between(costs, requests.prompt, requests.decoded)
    if not one.shares_kv:
        costs = np.minimum(costs, again * np.arange(longest + 1))
        return _between(costs, requests.prompt, requests.decoded)
    found = _between(costs, requests.prompt, requests.decoded)
    for generated in range(1, int(min(costs.max() / max(again, 1e-30), requests.decoded.max())) + 1):
        gain = costs[np.minimum(requests.prompt + generated, longest)] - again * generated
        found -= np.where(requests.decoded >= generated, np.maximum(0.0, gain), 0.0)
    return found


def _between(costs: Array, prompt: NDArray[np.int64], decoded: NDArray[np.int64]) -> Array:
    """Sum of ``costs`` over contexts prompt + 1 to prompt + decoded."""
    total = np.cumsum(costs)
    found: Array = total[prompt + decoded] - total[prompt]
    return found


def _fresh_tokens(scenario: Scenario, trace: Trace) -> Array:
    """Prompt tokens that some worker must compute for this request alone: all, but for blocks that others have too."""
    prompt: Array = trace.prompt_tokens.astype(np.float64)
    blocks = trace.prefix_blocks
    if blocks is None or not any(kind.prefix_cache for kind in scenario.fleet.types):
        return prompt
    codes, distinct = blocks.numbered()
    seen = np.bincount(codes, minlength=distinct)[codes] > 1
    owner = np.repeat(np.arange(len(blocks)), blocks.counts)
    shared = np.bincount(owner, weights=seen, minlength=len(blocks))
    return np.maximum(1.0, prompt - shared * blocks.block_size)


def _allowed_misses(requests: int, attainment: float) -> int:
    if not 0 < checks.number("attainment", attainment) <= 1:
        raise InputError("attainment", attainment, "give a share above 0 and at most 1, such as 0.99")
    return math.floor((1.0 - attainment) * requests + 1e-9)


def _best(fleet: _Fleet, requests: _Requests, misses: int) -> float:
    """The bound at the best multipliers found."""
    count = len(requests.prompt)
    if count == 0:
        return 0.0
    sample = requests
    if count > _SAMPLE:
        sample = requests.take(np.linspace(0, count - 1, _SAMPLE).astype(np.int64))
    dropped = math.ceil(misses * len(sample.prompt) / count)
    prices_of = _parametrised(fleet, sample)

    def negative(x: Array) -> float:
        pace, prices = prices_of(x)
        return -_summed(fleet.costs(sample, prices, pace), dropped)

    start = min((np.array(x) for x in _starts(len(fleet.decoders))), key=negative)
    found = minimize(negative, start, method="Nelder-Mead", options={"maxfev": _EVALUATIONS, "xatol": 1e-3})
    pace, prices = prices_of(found.x)
    return max(0.0, _summed(fleet.costs(requests, prices, pace), misses))


def _summed(costs: Array, dropped: int) -> float:
    """Sum of all but the ``dropped`` dearest: those that the adversary lets miss."""
    if dropped == 0:
        return float(costs.sum())
    kept = np.partition(costs, len(costs) - dropped)[: len(costs) - dropped] if dropped < len(costs) else costs[:0]
    return float(kept.sum() + np.minimum(costs, 0.0).sum() - np.minimum(kept, 0.0).sum())


def _starts(types: int) -> list[list[float]]:
    """Where the search begins: paces over the price, memory free, prefill at its full worth."""
    return [[pace, *[-16.0, 3.0] * types] for pace in (-12.0, -8.0, -6.0, -5.0, -4.0, -3.0, -2.0, 0.0)]


def _parametrised(fleet: _Fleet, requests: _Requests) -> Callable[[Array], tuple[float, list[Prices]]]:
    """Multipliers from unconstrained numbers: the logarithm of the pace's, then per type memory's and prefill's."""
    typical = max(1.0, float((requests.prompt + requests.decoded).mean()))

    def prices_of(x: Array) -> tuple[float, list[Prices]]:
        pace = fleet.decoders[0].price * math.exp(min(float(x[0]), 20.0))
        prices = []
        for i, one in enumerate(fleet.decoders):
            memory = one.price * math.exp(min(float(x[1 + 2 * i]), 20.0)) / typical
            share = 1.0 / (1.0 + math.exp(-min(max(float(x[2 + 2 * i]), -30.0), 30.0)))
            prices.append(Prices(pace, memory, one.exclusive_prefill * share))
        return pace, prices

    return prices_of
