"""A scenario: workload, fleet, SLO, horizon. Frozen dataclasses; seconds, tokens, GPU-hours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from aladdin_env.errors import InputError, suggest
from aladdin_env.latency import LatencyProfile, load_profile
from aladdin_env.simulator.state import LARGEST_MAX_NUM_SEQS, MAX_CLASSES, PREDICTORS, ROLES, SCHEDULERS
from aladdin_traces import Workload

COLD_START_LAWS = ("constant", "uniform", "lognormal")
_MOST_NOISE = 10.0


def _require(ok: bool, name: str, value: object, mend: str) -> None:
    if not ok:
        raise InputError(name, value, mend)


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(name, value, suggest(value, known))


def _positive(name: str, value: float) -> None:
    _require(math.isfinite(value) and value > 0, name, value, "give a finite number above 0")


def _not_negative(name: str, value: float) -> None:
    _require(math.isfinite(value) and value >= 0, name, value, "give a finite number, 0 or more")


def _lognormal(rng: np.random.Generator, mean: float, spread: float, n: int) -> NDArray[np.float64]:
    """``n`` draws with this mean and this standard deviation over mean."""
    variance = math.log1p(spread**2)
    return rng.lognormal(math.log(mean) - variance / 2, math.sqrt(variance), n)


@dataclass(frozen=True)
class ColdStart:
    """Seconds from the decision to start a worker until it is READY.

    Attributes:
        mean_s: Mean, seconds, 0 or more.
        spread: Standard deviation over mean, 0 to 2 (uniform: at most 0.577, its half-width is then the mean).
        law: "constant", "uniform" or "lognormal".
    """

    mean_s: float = 60.0
    spread: float = 0.0
    law: str = "constant"

    def __post_init__(self) -> None:
        _not_negative("cold_start.mean_s", self.mean_s)
        _require_one_of("cold_start.law", self.law, COLD_START_LAWS)
        top = {"constant": 0.0, "uniform": 1 / math.sqrt(3), "lognormal": 2.0}[self.law]
        _require(
            0 <= self.spread <= top, "cold_start.spread", self.spread, f"give 0 to {top:.3g} for the law {self.law!r}"
        )

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Draw ``n`` cold starts, seconds."""
        if self.law == "uniform":
            half = self.mean_s * self.spread * math.sqrt(3)
            return rng.uniform(self.mean_s - half, self.mean_s + half, n)
        if self.law == "lognormal" and self.mean_s > 0:
            return _lognormal(rng, self.mean_s, self.spread, n)
        return np.full(n, self.mean_s)


@dataclass(frozen=True)
class WorkerType:
    """One kind of worker: an engine on ``profile.gpus`` GPUs, with its limits and its price.

    Attributes:
        name: Unique in the fleet.
        profile: Latency laws and memory; a shipped profile's name or a path is loaded.
        initial: Workers that are READY at time 0.
        minimum: Fewest workers that scaling may leave.
        maximum: Most workers; the slots of the environment.
        price_per_gpu_hour: Currency per GPU-hour, any currency.
        cold_start: Law of the time to start.
        scheduler: "prefill_first", "chunked" or "split".
        role: "mixed", or under "split" "prefill" or "decode".
        max_num_seqs: Most requests running at once, 1 to 2048.
        max_num_batched_tokens: Token budget of a step.
        kv_capacity_tokens: KV room of a worker, tokens; None takes the profile's.
        block_size: Tokens per KV block.
        prefix_cache: Keep the KV of prompts for later ones with the same prefix, as vLLM does; it matters only where
            the workload says which prompts share one.
    """

    name: str
    profile: LatencyProfile | str
    initial: int = 4
    minimum: int = 0
    maximum: int = 16
    price_per_gpu_hour: float = 2.0
    cold_start: ColdStart = field(default_factory=ColdStart)
    scheduler: str = "chunked"
    role: str = "mixed"
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    kv_capacity_tokens: int | None = None
    block_size: int = 16
    prefix_cache: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.profile, str):
            object.__setattr__(self, "profile", load_profile(self.profile))
        here = f"worker type {self.name!r}: "
        _require_one_of(here + "scheduler", self.scheduler, SCHEDULERS)
        _require_one_of(here + "role", self.role, ROLES)
        _require(
            (self.role == "mixed") == (self.scheduler != "split"),
            here + "role",
            self.role,
            "give 'prefill' or 'decode' with the scheduler 'split', 'mixed' with any other",
        )
        _require(self.minimum >= 0, here + "minimum", self.minimum, "give 0 or more")
        _require(
            self.minimum <= self.initial <= self.maximum,
            here + "initial",
            self.initial,
            f"give minimum ({self.minimum}) to maximum ({self.maximum})",
        )
        _require(1 <= self.maximum <= 8192, here + "maximum", self.maximum, "give 1 to 8192")
        _not_negative(here + "price_per_gpu_hour", self.price_per_gpu_hour)
        _require(
            1 <= self.max_num_seqs <= LARGEST_MAX_NUM_SEQS,
            here + "max_num_seqs",
            self.max_num_seqs,
            f"give 1 to {LARGEST_MAX_NUM_SEQS}",
        )
        _require(
            self.max_num_batched_tokens >= self.max_num_seqs,
            here + "max_num_batched_tokens",
            self.max_num_batched_tokens,
            f"give at least max_num_seqs ({self.max_num_seqs}), as vLLM requires",
        )
        _require(1 <= self.block_size <= 1024, here + "block_size", self.block_size, "give 1 to 1024")
        given = self.kv_capacity_tokens is not None
        _require(
            self.kv_blocks >= 1,
            here + ("kv_capacity_tokens" if given else "profile.kv_capacity_tokens"),
            self._kv_tokens,
            f"give at least block_size ({self.block_size})",
        )

    @property
    def latency(self) -> LatencyProfile:
        """The loaded profile."""
        assert isinstance(self.profile, LatencyProfile)
        return self.profile

    @property
    def gpus(self) -> int:
        """GPUs of one worker."""
        return self.latency.gpus

    @property
    def kv_blocks(self) -> int:
        """KV blocks of one worker."""
        return self._kv_tokens // self.block_size

    @property
    def _kv_tokens(self) -> int:
        """KV room: the type's own, else the profile's."""
        return int(self.latency.kv_capacity_tokens if self.kv_capacity_tokens is None else self.kv_capacity_tokens)

    @property
    def longest_request_tokens(self) -> int:
        """Most tokens that a single request's KV may hold (block-exact, its own overhead taken off)."""
        return self.kv_blocks * self.block_size - self.latency.kv_overhead_tokens

    @property
    def price_per_s(self) -> float:
        """Currency per second of one worker."""
        return self.price_per_gpu_hour * self.gpus / 3600


@dataclass(frozen=True)
class Failures:
    """Random losses of workers: exponential with this mean time between failures of a worker; 0 means never."""

    mtbf_s: float = 0.0
    repair_s: float = 30.0

    def __post_init__(self) -> None:
        _not_negative("failures.mtbf_s", self.mtbf_s)
        _positive("failures.repair_s", self.repair_s)


@dataclass(frozen=True)
class Transfer:
    """How KV travels from a prefill to a decode worker: tokens x bytes per token / bandwidth + latency."""

    bandwidth_bytes_per_s: float = 25e9
    latency_s: float = 0.005

    def __post_init__(self) -> None:
        _positive("transfer.bandwidth_bytes_per_s", self.bandwidth_bytes_per_s)
        _positive("transfer.latency_s", self.latency_s)


@dataclass(frozen=True)
class Fleet:
    """Worker types and what they share. ``max_gpus``: most GPUs at once, None for no limit beyond the types' own."""

    types: tuple[WorkerType, ...]
    max_gpus: int | None = None
    failures: Failures = field(default_factory=Failures)
    transfer: Transfer = field(default_factory=Transfer)

    def __post_init__(self) -> None:
        _require(len(self.types) > 0, "fleet.types", self.types, "give at least one worker type")
        names = [kind.name for kind in self.types]
        _require(len(set(names)) == len(names), "fleet.types", names, "give each worker type a name of its own")
        roles = {kind.role for kind in self.types}
        _require(
            roles == {"mixed"} or roles == {"prefill", "decode"},
            "fleet.types",
            sorted(roles),
            "give only mixed workers, or both prefill and decode workers",
        )
        at_start = sum(kind.initial * kind.gpus for kind in self.types)
        if self.max_gpus is not None:
            _require(
                self.max_gpus >= at_start,
                "fleet.max_gpus",
                self.max_gpus,
                f"give at least the {at_start} GPUs that run at time 0",
            )

    @property
    def slots(self) -> int:
        """Worker slots of the environment: the maxima of all types."""
        return sum(kind.maximum for kind in self.types)

    @property
    def is_split(self) -> bool:
        """Whether prefill and decode run on different workers."""
        return self.types[0].role != "mixed"

    def fixed(self, counts: tuple[int, ...]) -> Fleet:
        """The same fleet with exactly ``counts`` workers of each type, up from the start and never scaled."""
        kept = [
            replace(kind, initial=n, minimum=n, maximum=n) for kind, n in zip(self.types, counts, strict=True) if n > 0
        ]
        return replace(self, types=tuple(kept), max_gpus=None)


@dataclass(frozen=True)
class SLOClass:
    """The objectives of one class of requests."""

    name: str
    ttft_s: float
    atgt_s: float

    def __post_init__(self) -> None:
        _positive(f"slo class {self.name!r}: ttft_s", self.ttft_s)
        _positive(f"slo class {self.name!r}: atgt_s", self.atgt_s)


@dataclass(frozen=True)
class SLO:
    """Objectives per request: time to first token and average token generation time, seconds.

    ``classes``, where given, replace the two for requests of class 0, 1, ... (at most four; the workload's
    ``class_shares`` say how many of each arrive).
    """

    ttft_s: float = 1.0
    atgt_s: float = 0.05
    classes: tuple[SLOClass, ...] = ()

    def __post_init__(self) -> None:
        _positive("slo.ttft_s", self.ttft_s)
        _positive("slo.atgt_s", self.atgt_s)
        _require(len(self.classes) <= MAX_CLASSES, "slo.classes", len(self.classes), f"give at most {MAX_CLASSES}")

    def targets(self) -> NDArray[np.float64]:
        """Array (4, 2): TTFT and ATGT of each class, seconds; unused classes have the default objectives."""
        rows = [(c.ttft_s, c.atgt_s) for c in self.classes]
        rows += [(self.ttft_s, self.atgt_s)] * (MAX_CLASSES - len(rows))
        return np.array(rows)

    def names(self) -> tuple[str, ...]:
        """Names of the classes in use."""
        return tuple(c.name for c in self.classes) or ("default",)


@dataclass(frozen=True)
class RewardWeights:
    """Reward of a step = - cost x ``cost`` - misses x their weights, over the time of the step.

    Attributes:
        cost: Per unit of currency spent on GPU time.
        ttft_miss: Per request whose first token is late.
        atgt_miss: Per request whose token pace was too slow.
        unserved: Per request rejected, failed or truncated.
    """

    cost: float = 1.0
    ttft_miss: float = 0.05
    atgt_miss: float = 0.05
    unserved: float = 0.1

    def __post_init__(self) -> None:
        for name in ("cost", "ttft_miss", "atgt_miss", "unserved"):
            _not_negative(f"reward.{name}", getattr(self, name))


@dataclass(frozen=True)
class Predictor:
    """Output-length prediction. Whatever the kind, a policy sees 1 to 10^6 tokens.

    Attributes:
        kind: "bucket_mean" (the paper's, learnt online), "oracle" (the true length) or "noisy_oracle" (the true length
            times a lognormal factor of mean 1 drawn for each request, in whole tokens).
        prior_tokens: "bucket_mean": the prediction before anything has finished, tokens.
        prior_weight: "bucket_mean": as how many requests per bucket the prior counts.
        noise: "noisy_oracle": standard deviation of the factor, 0 to 10.
    """

    kind: str = "bucket_mean"
    prior_tokens: float = 256.0
    prior_weight: float = 4.0
    noise: float = 0.5

    def __post_init__(self) -> None:
        _require_one_of("predictor.kind", self.kind, PREDICTORS)
        _positive("predictor.prior_tokens", self.prior_tokens)
        _positive("predictor.prior_weight", self.prior_weight)
        _require(0 <= self.noise <= _MOST_NOISE, "predictor.noise", self.noise, f"give 0 to {_MOST_NOISE:g}")

    def factors(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Draw predicted over true length of ``n`` requests; of a noisy oracle only, otherwise nothing is drawn."""
        if self.kind != "noisy_oracle":
            return np.zeros(0)
        return _lognormal(rng, 1.0, self.noise, n)


@dataclass(frozen=True)
class Scenario:
    """Everything that defines a simulation but the policy and the seed.

    Attributes:
        name: Shown in tables.
        workload: Where requests come from.
        fleet: Worker types, counts, failures.
        slo: Objectives per request.
        horizon_s: Requests arrive in [0, horizon); None: as long as a fixed trace lasts.
        heartbeat_s: Seconds between scaling decisions.
        max_hold_s: Longest stay in the router's hold queue; 0: what cannot be placed is rejected.
        max_retries: Tries after a worker's loss before a request counts as failed.
        start_of_day_s: Time of day at the start, seconds since midnight.
        predictor: Output-length prediction that policies see.
        reward: Weights of the environments' reward.
        description: One line for people.
    """

    name: str
    workload: Workload
    fleet: Fleet
    slo: SLO = field(default_factory=SLO)
    horizon_s: float | None = 600.0
    heartbeat_s: float = 10.0
    max_hold_s: float = 30.0
    max_retries: int = 3
    start_of_day_s: float = 0.0
    predictor: Predictor = field(default_factory=Predictor)
    reward: RewardWeights = field(default_factory=RewardWeights)
    description: str = ""

    def __post_init__(self) -> None:
        if self.horizon_s is None:
            _require(
                self.workload.trace is not None,
                "horizon_s",
                None,
                "give a number of seconds (only a fixed trace has an end of its own)",
            )
        else:
            _positive("horizon_s", self.horizon_s)
        _positive("heartbeat_s", self.heartbeat_s)
        _not_negative("max_hold_s", self.max_hold_s)
        _require(0 <= self.max_retries <= 1000, "max_retries", self.max_retries, "give 0 to 1000")
        _require(0 <= self.start_of_day_s < 86400, "start_of_day_s", self.start_of_day_s, "give 0 to 86399")

    def with_workers(self, counts: tuple[int, ...]) -> Scenario:
        """The same scenario on a fixed fleet of ``counts`` workers per type."""
        return replace(self, fleet=self.fleet.fixed(counts))

    def with_workload(self, workload: Workload, horizon_s: float | None = None) -> Scenario:
        """The same scenario under another workload; without ``horizon_s`` a generator keeps it, a trace has its own."""
        keep = self.horizon_s if workload.trace is None else None
        return replace(self, workload=workload, horizon_s=horizon_s if horizon_s is not None else keep)
