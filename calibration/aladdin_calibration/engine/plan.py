"""What a sweep inside an engine runs: prompts alone, prompts together, batches held at a context, and traffic.

Only the standard library: this also runs under the interpreter of the engine, which may have nothing else of ours.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

PROMPT_TOKENS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
TOGETHER = ((2, 64), (4, 64), (8, 64), (2, 256), (4, 256), (8, 256), (2, 1024), (4, 1024), (8, 1024), (4, 2048))
CONTEXTS = (64, 256, 512, 1024, 2048, 4096, 8192)
BATCHES = (256, 224, 192, 160, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
CHUNKS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
CHUNKS_PER_LEVEL = 2
TRAFFIC_SHARES = (0.125, 0.25, 0.5, 0.875)  # of the places
TRAFFIC_PROMPTS, TRAFFIC_OUTPUTS, TRAFFIC_STEPS = (16, 768), (8, 96), 60


@dataclass(frozen=True)
class Limits:
    """What the engine allows.

    Attributes:
        max_model_len: Longest prompt and output together, tokens.
        max_num_seqs: Most requests running at once.
        max_num_batched_tokens: Token budget of a step.
        kv_capacity_tokens: Tokens of KV that fit.
        decode_steps: Decode steps taken at every batch size of a held context.
    """

    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_capacity_tokens: int
    decode_steps: int = 8

    @property
    def longest_prompt_tokens(self) -> int:
        """Longest prompt that leaves room for an answer and fits the KV memory."""
        return min(self.max_model_len - 1, self.kv_capacity_tokens - 1)


@dataclass(frozen=True)
class Prompts:
    """``count`` fresh prompts of ``tokens`` tokens that arrive together and end with their first token."""

    count: int
    tokens: int

    @property
    def name(self) -> str:
        """Name of the configuration."""
        return f"prefill-{self.count}x{self.tokens}"

    @property
    def work_tokens(self) -> int:
        """Prompt tokens that it costs."""
        return self.count * self.tokens


@dataclass(frozen=True)
class Level:
    """One batch size of a held context: plain decode steps, then one step more for every chunk that joins it."""

    batch: int
    chunks: tuple[int, ...]


@dataclass(frozen=True)
class Hold:
    """Requests that decode from ``context`` tokens on, measured at falling batch sizes.

    Falling, because a long context costs a prefill: it is paid once for the largest batch.
    """

    context: int
    levels: tuple[Level, ...]

    @property
    def name(self) -> str:
        """Name of the whole; every level's steps have a name of their own (:meth:`level_name`)."""
        return f"hold-{self.context}"

    def within(self, work_tokens: float) -> Hold | None:
        """The same without the largest batches, so that its prompts are at most so many tokens; None if none fit."""
        levels = tuple(level for level in self.levels if level.batch * self.context <= work_tokens)
        return Hold(self.context, levels) if levels else None

    def level_name(self, level: Level, chunk: int | None = None) -> str:
        """Name of the configuration that a step at this level belongs to."""
        kind = "decode" if chunk is None else f"mixed-{chunk}+"
        return f"{kind}{'-' if chunk is None else ''}{level.batch}x{self.context}"

    @property
    def work_tokens(self) -> int:
        """Prompt tokens that it costs."""
        return self.levels[0].batch * self.context + sum(sum(level.chunks) for level in self.levels)


@dataclass(frozen=True)
class Traffic:
    """``running`` requests of mixed lengths at any time: who ends is replaced.

    That is what an engine serves: laws of held batches alone may be some per cent short of it.
    """

    running: int
    longest_prompt: int

    @property
    def name(self) -> str:
        """Name of the configuration."""
        return f"traffic-{self.running}"

    @property
    def work_tokens(self) -> int:
        """Prompt tokens that it costs, roughly."""
        mean_prompt = (self.longest_prompt - TRAFFIC_PROMPTS[0]) / math.log(self.longest_prompt / TRAFFIC_PROMPTS[0])
        asked = self.running * (1.0 + TRAFFIC_STEPS / (sum(TRAFFIC_OUTPUTS) / 2))
        return round(asked * mean_prompt)

    def lengths(self, rng: random.Random) -> tuple[int, int]:
        """Prompt and output tokens of a request: log-uniform, uniform."""
        low, high = math.log(TRAFFIC_PROMPTS[0]), math.log(self.longest_prompt)
        return round(math.exp(rng.uniform(low, high))), rng.randint(*TRAFFIC_OUTPUTS)


Configuration = Prompts | Hold | Traffic


def configurations(limits: Limits, rng: random.Random) -> list[Configuration]:
    """Everything worth measuring within ``limits``, in random order; the chunks of every level are drawn, too."""
    longest = limits.longest_prompt_tokens
    alone = [Prompts(1, tokens) for tokens in PROMPT_TOKENS if tokens <= longest]
    together = [
        Prompts(count, tokens)
        for count, tokens in TOGETHER
        if tokens <= longest and count <= limits.max_num_seqs and count * tokens <= limits.max_num_batched_tokens
    ]
    wanted: list[Configuration] = [*alone, *together, *_holds(limits, rng), *_traffic(limits)]
    rng.shuffle(wanted)
    return wanted


def _traffic(limits: Limits) -> Iterator[Traffic]:
    longest = min(TRAFFIC_PROMPTS[1], limits.longest_prompt_tokens - TRAFFIC_OUTPUTS[1])
    if longest <= TRAFFIC_PROMPTS[0]:
        return
    most = limits.kv_capacity_tokens // (longest + TRAFFIC_OUTPUTS[1])
    yield from (
        Traffic(n, longest) for n in sorted({min(round(s * limits.max_num_seqs), most) for s in TRAFFIC_SHARES}) if n
    )


def _holds(limits: Limits, rng: random.Random) -> Iterator[Hold]:
    grown = (limits.decode_steps + CHUNKS_PER_LEVEL + 1) * len(BATCHES)  # tokens that every held request may gain
    for context in CONTEXTS:
        if context + grown > limits.max_model_len:
            continue
        room = limits.kv_capacity_tokens - min(max(CHUNKS), limits.max_num_batched_tokens)
        most = min(limits.max_num_seqs - 1, room // (context + grown))  # one place is left for the chunk that joins
        batches = sorted({min(size, most) for size in BATCHES if most >= 1}, reverse=True)
        levels = tuple(Level(batch, _chunks(limits, batch, rng)) for batch in batches)
        if levels:
            yield Hold(context, levels)


def _chunks(limits: Limits, batch: int, rng: random.Random) -> tuple[int, ...]:
    largest = min(limits.max_num_batched_tokens - batch, limits.longest_prompt_tokens)
    fitting = [chunk for chunk in CHUNKS if chunk <= largest]
    return tuple(rng.sample(fitting, min(CHUNKS_PER_LEVEL, len(fitting))))
