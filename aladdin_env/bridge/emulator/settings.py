"""How an emulated worker is set up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aladdin_env.errors import InputError
from aladdin_env.latency import LatencyProfile
from aladdin_env.scenario import WorkerType
from aladdin_traces import checks

_LONGEST_CONTEXT = 131_072  # unless it is asked for; no model of the shipped profiles has more


@dataclass(frozen=True)
class Faults:
    """How a worker misbehaves.

    Attributes:
        error_rate: Share of completions that are answered with status 500.
        die_after: The connection breaks once an answer has so many tokens; None: never.
        max_queued: Most requests in flight, waiting and running, as vLLM's ``--max-num-queued-reqs``; one more is
            answered with status 503. None: no limit.
    """

    error_rate: float = 0.0
    die_after: int | None = None
    max_queued: int | None = None

    def __post_init__(self) -> None:
        """Check every number."""
        checks.number("error_rate", self.error_rate, low=0.0, high=1.0)
        for name in ("die_after", "max_queued"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name), low=1, high=checks.TOKENS_MAX)


@dataclass(frozen=True)
class EmulatorSettings:
    """What an emulated worker is.

    Attributes:
        kind: Laws, scheduler, limits. ``prefix_cache`` goes by what the prompts say.
        model: Name of the served model; empty: the profile's.
        speed: So many times faster than its laws: whatever its clients, its metrics or its answers tell is shorter by
            as much.
        max_model_len: Most tokens of prompt and answer together; None: what the KV holds, at most 131,072.
        output_tokens: Mean length of an answer that is not cut by ``max_tokens``; geometric.
        seed: Of the lengths and of the errors. The same prompt has the same length under the same seed.
        start_delay_s: Seconds until it is ready; it answers 503 until then.
        faults: How it misbehaves.
        per_request_metrics: Whether answers carry ``metrics``, as with vLLM's ``--enable-per-request-metrics``.
        max_body_bytes: Longest body that it reads.
    """

    kind: WorkerType
    model: str = ""
    speed: float = 1.0
    max_model_len: int | None = None
    output_tokens: float = 256.0
    seed: int = 0
    start_delay_s: float = 0.0
    faults: Faults = field(default_factory=Faults)
    per_request_metrics: bool = False
    max_body_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        """Check every value."""
        if self.kind.role != "mixed":
            raise InputError("scheduler", self.kind.scheduler, "choose 'chunked' or 'prefill_first'")
        checks.number("speed", self.speed, above=0.0)
        checks.number("output_tokens", self.output_tokens, low=1.0)
        checks.whole("seed", self.seed, low=0, high=2**63 - 1)
        checks.number("start_delay_s", self.start_delay_s, low=0.0)
        checks.whole("max_body_bytes", self.max_body_bytes, low=1, high=2**40)
        holds = self.kind.longest_request_tokens
        if holds < 2:
            raise InputError("kv_capacity_tokens", holds, "give more: a prompt and an answer have two tokens at least")
        if self.max_model_len is not None:
            checks.whole("max_model_len", self.max_model_len, low=2, high=holds)

    @property
    def model_name(self) -> str:
        """Name of the served model."""
        return self.model or self.kind.latency.provenance.model or self.kind.name

    @property
    def longest(self) -> int:
        """Most tokens of prompt and answer together."""
        return (
            min(self.kind.longest_request_tokens, _LONGEST_CONTEXT)
            if self.max_model_len is None
            else self.max_model_len
        )

    @property
    def fast_kind(self) -> WorkerType:
        """``kind`` under laws that are ``speed`` times faster."""
        return replace(self.kind, profile=faster(self.kind.latency, self.speed))


def faster(profile: LatencyProfile, speed: float) -> LatencyProfile:
    """The profile of a worker that does everything in the ``speed``-th part of the time."""
    prefill, decode = profile.prefill, profile.decode
    return replace(
        profile,
        prefill=replace(
            prefill,
            knots_s=tuple(seconds / speed for seconds in prefill.knots_s),
            attention_s_per_token2=prefill.attention_s_per_token2 / speed,
        ),
        decode=replace(
            decode,
            alpha_s=tuple(seconds / speed for seconds in decode.alpha_s),
            beta_s_per_token=tuple(seconds / speed for seconds in decode.beta_s_per_token),
        ),
        mixed_overlap_s=profile.mixed_overlap_s / speed,
        overhead_s=profile.overhead_s / speed,
    )
