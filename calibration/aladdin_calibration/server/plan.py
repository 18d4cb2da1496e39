"""What to measure, in which order, and within which bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from aladdin_calibration.measurement import WorkerFacts
from aladdin_traces import checks

_PROMPTS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 192, 384, 768, 1536, 3072, 6144)
_TOGETHER = ((2, 64), (8, 64), (4, 256), (2, 512), (8, 256), (16, 64), (4, 1024), (16, 256))
_BATCHES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)
_CONTEXTS = (32, 256, 1024, 4096)
_MIXED = (64, 512, 128, 1024, 256, 2048)
_KNOWN_PROMPT = 2048  # the longest prompt to a server that does not say how much it takes
_KNOWN_KV = 16384  # and the most context in it at once
_SPARE_TOKENS = 8  # what a running request makes between two probes, at most


@dataclass(frozen=True)
class Plan:
    """Bounds of a calibration, checked.

    Attributes:
        budget_s: Time for all configurations, seconds.
        max_share: Part of the server's slots (max_num_seqs) and of its KV memory that may be filled, 0 to 1.
        max_prompt_tokens: Longest prompt.
        max_batch: Most requests at once.
        decode_steps: Decode steps that one observation is the mean of.
        min_repeats: Observations of a configuration at least.
        max_repeats: Observations of a configuration at most.
        precision: A configuration is done when the 95 % confidence interval of its mean is this tight: half its
            width over the mean.
        seed: Of the prompts and the order.
        stall_s: Longest wait for the next byte of an answer, seconds.
        gpu: Device name; no server tells it.
        tensor_parallel: GPUs that the model is split over; no server tells it either.
        max_num_seqs: The server's setting, where the user knows it; else it is probed.
        max_num_batched_tokens: Likewise.
    """

    budget_s: float = 480.0
    max_share: float = 0.5
    max_prompt_tokens: int = 8192
    max_batch: int = 64
    decode_steps: int = 16
    min_repeats: int = 3
    max_repeats: int = 8
    precision: float = 0.03
    seed: int = 0
    stall_s: float = 60.0
    gpu: str = "unknown"
    tensor_parallel: int = 1
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None

    def __post_init__(self) -> None:
        """Check every number."""
        for name, least in (("max_prompt_tokens", 16), ("max_batch", 1), ("decode_steps", 2), ("min_repeats", 2)):
            checks.whole(name, getattr(self, name), low=least, high=checks.TOKENS_MAX)
        checks.whole("max_repeats", self.max_repeats, low=self.min_repeats, high=checks.TOKENS_MAX)
        checks.whole("tensor_parallel", self.tensor_parallel, low=1, high=checks.TOKENS_MAX)
        checks.whole("seed", self.seed, low=0, high=checks.TOKENS_MAX)
        for name in ("budget_s", "precision", "stall_s"):
            checks.number(name, getattr(self, name), above=0.0)
        checks.number("max_share", self.max_share, above=0.0, high=1.0)
        for name in ("max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, name) is not None:
                checks.whole(name, getattr(self, name), low=1, high=checks.TOKENS_MAX)


@dataclass(frozen=True)
class Limits:
    """What a calibration may ask of one server at once.

    Attributes:
        prompt: Longest prompt, tokens.
        batch: Most requests at once.
        kv: Most tokens of context at once.
        step: Most prompt tokens that surely fit one step.
        step_known: Whether ``step`` is the server's own bound, so that longer prompts are known to be cut there.
    """

    prompt: int
    batch: int
    kv: int
    step: int
    step_known: bool


def limits(plan: Plan, facts: WorkerFacts, one_step: int | None = None) -> Limits:
    """The bounds for a server with these ``facts``; prompts up to ``one_step`` tokens were seen to take one step."""
    kv = _KNOWN_KV if facts.kv_capacity_tokens is None else int(plan.max_share * facts.kv_capacity_tokens)
    longest = _KNOWN_PROMPT if facts.max_model_len is None else facts.max_model_len - plan.decode_steps - 1
    prompt = max(1, min(plan.max_prompt_tokens, longest, kv // 2))
    batch = plan.max_batch
    if facts.max_num_seqs is not None:
        batch = max(1, min(batch, int(plan.max_share * facts.max_num_seqs)))
    budget = facts.max_num_batched_tokens
    step = (one_step or _MIXED[0]) if budget is None else budget
    return Limits(prompt, batch, kv, step, budget is not None)


@dataclass(frozen=True)
class Together:
    """Several prompts that are prefilled in one step."""

    count: int
    tokens: int

    @property
    def names(self) -> tuple[str, ...]:
        """The configurations that its rows belong to."""
        return (f"prefill-{self.count}x{self.tokens}",)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of one repeat."""
        return self.count * self.tokens


@dataclass(frozen=True)
class Session:
    """A company of decoding requests, beside which prompts arrive one after another, decode a while, and leave.

    Without a company a prompt is prefilled alone.

    Attributes:
        company: Requests in the company.
        context: Tokens of their prompts.
        prompts: Lengths of the prompts that arrive.
        steps: Decode steps of each of these; 0: they leave after their first token.
    """

    company: int
    context: int
    prompts: tuple[int, ...]
    steps: int

    @property
    def names(self) -> tuple[str, ...]:
        """The configurations that its rows belong to."""
        names = [self.prefill_name(tokens) for tokens in self.prompts]
        return (*names, self.decode_name) if self.steps else tuple(names)

    def prefill_name(self, tokens: int) -> str:
        """The configuration of the steps that prefill an arriving prompt."""
        return f"mixed-{self.company}x{self.context}+{tokens}" if self.company else f"prefill-1x{tokens}"

    @property
    def decode_name(self) -> str:
        """The configuration of the decode steps with an arrived prompt."""
        return f"decode-{self.company + 1}x{self.context if self.company else self.prompts[0]}"

    def output_tokens(self, repeats: int) -> int:
        """Tokens that a member of the company may make during ``repeats`` repeats."""
        return 16 + repeats * len(self.prompts) * (self.steps + _SPARE_TOKENS)

    def held_tokens(self, repeats: int) -> int:
        """Most tokens of context at once."""
        return self.company * (self.context + self.output_tokens(repeats)) + max(self.prompts) + self.steps

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of one repeat, without the company's."""
        return sum(self.prompts)


Configuration = Together | Session


def configurations(plan: Plan, bounds: Limits) -> list[Configuration]:
    """All configurations in the order of measuring: most informative first, shuffled within each stage.

    The first stage spans the whole range with few configurations; each further one fills gaps.
    """
    rng = np.random.default_rng(plan.seed)
    ordered: list[Configuration] = []
    for stage in _stages(plan, bounds):
        fresh = [c for c in dict.fromkeys(stage) if c not in ordered]
        ordered += [fresh[i] for i in rng.permutation(len(fresh))]
    return ordered


def _stages(plan: Plan, bounds: Limits) -> Iterator[list[Configuration]]:
    one_step = min(bounds.prompt, bounds.step)
    sizes = _spread([n for n in sorted(_PROMPTS) if n < one_step] + [one_step])
    contexts = _spread([c for c in _CONTEXTS if c <= bounds.prompt] or [bounds.prompt])
    batches = _spread([b for b in _BATCHES if 1 < b < bounds.batch] + [bounds.batch] * (bounds.batch > 1))
    together = [Together(k, n) for k, n in _TOGETHER if k <= bounds.batch and k * n <= min(bounds.step, bounds.kv)]
    for level in range(max(map(len, (sizes, contexts, batches)))):
        known = [s for group in sizes[: level + 1] for s in group]
        stage: list[Configuration] = [Session(0, 0, (n,), 0) for n in known if n not in _CONTEXTS]
        near = [c for group in contexts[: level + 1] for c in group]
        stage += [Session(0, 0, (min(c, one_step),), plan.decode_steps) for c in near]
        stage += together[: 3 * level]
        wide = [b for group in batches[: level + 1] for b in group]
        stage += [s for b in wide for c in near for s in _company(plan, bounds, b, c)]
        yield stage


def _company(plan: Plan, bounds: Limits, batch: int, context: int) -> list[Session]:
    """The session with this batch and context, if it is within bounds; its prompts rotate through the lengths."""
    place = _BATCHES.index(batch) if batch in _BATCHES else 0
    place += _CONTEXTS.index(context) if context in _CONTEXTS else 0
    room = bounds.step - batch + 1
    lengths = [n for n in _MIXED if n <= min(bounds.prompt, room if not bounds.step_known else bounds.prompt)]
    if not lengths:
        return []
    chosen = {lengths[place % len(lengths)], lengths[(place + 1) % len(lengths)]}
    if batch == 2 and context == _CONTEXTS[0] and bounds.step_known and bounds.prompt > bounds.step:
        chosen.add(bounds.prompt)  # cut into chunks that attend to what came before
    session = Session(batch - 1, context, tuple(sorted(chosen)), plan.decode_steps)
    return [session] if session.held_tokens(plan.max_repeats) <= bounds.kv else []


def _spread(values: Sequence[int]) -> list[list[int]]:
    """``values`` in groups, coarse to fine: ends and middle, then quarters, then the rest."""
    last = len(values) - 1
    first = sorted({0, last // 2, last})
    second = sorted({last // 4, (3 * last) // 4} - set(first))
    rest = sorted(set(range(len(values))) - set(first) - set(second))
    return [[values[i] for i in group] for group in (first, second, rest) if group]
