"""Joint laws of prompt and output lengths."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from aladdin_traces import checks
from aladdin_traces.checks import TOKENS_MAX
from aladdin_traces.columns import TokenArray
from aladdin_traces.errors import InputError
from aladdin_traces.token_laws import TOKEN_LAWS, TokenLaw, ascend


class LengthLaw(ABC):
    """A joint law of prompt and output lengths. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]
    """Name of the law in a workload's table."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> tuple[TokenArray, TokenArray]:
        """Draw ``n`` >= 0 pairs: prompt and output lengths in tokens, int32, >= 1."""

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the checked value replaces the given one in a frozen dataclass


@dataclass(frozen=True)
class FixedLengths(LengthLaw):
    """Every request alike.

    Attributes:
        prompt_tokens: Prompt length in tokens, >= 1.
        output_tokens: Output length in tokens, >= 1.
    """

    prompt_tokens: int
    output_tokens: int
    kind: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        """Check the parameters."""
        for name in ("prompt_tokens", "output_tokens"):
            self._set(name, checks.whole(name, getattr(self, name), low=1, high=TOKENS_MAX))

    def sample(self, rng: np.random.Generator, n: int) -> tuple[TokenArray, TokenArray]:
        """Draw ``n`` >= 0 pairs of prompt and output lengths in tokens."""
        return np.full(n, self.prompt_tokens, np.int32), np.full(n, self.output_tokens, np.int32)


@dataclass(frozen=True)
class IndependentLengths(LengthLaw):
    """Prompt and output drawn independently.

    Attributes:
        prompt: Law of the prompt length.
        output: Law of the output length.
    """

    prompt: TokenLaw
    output: TokenLaw
    kind: ClassVar[str] = "independent"

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_token_law("prompt", self.prompt)
        check_token_law("output", self.output)

    def sample(self, rng: np.random.Generator, n: int) -> tuple[TokenArray, TokenArray]:
        """Draw ``n`` >= 0 pairs of prompt and output lengths in tokens."""
        return self.prompt.sample(rng, n), self.output.sample(rng, n)


@dataclass(frozen=True)
class CopulaLengths(LengthLaw):
    """Prompt and output with a given rank correlation, tied together by a Gaussian copula.

    Where a law has ties (rounding, clipping, atoms), the correlation of the ranks comes out a little weaker.

    Attributes:
        prompt: Law of the prompt length.
        output: Law of the output length.
        spearman: Spearman's rank correlation of the two, -1 to 1.
    """

    prompt: TokenLaw
    output: TokenLaw
    spearman: float
    kind: ClassVar[str] = "copula"

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_token_law("prompt", self.prompt)
        check_token_law("output", self.output)
        self._set("spearman", checks.number("spearman", self.spearman, low=-1.0, high=1.0))

    def sample(self, rng: np.random.Generator, n: int) -> tuple[TokenArray, TokenArray]:
        """Draw ``n`` >= 0 pairs of prompt and output lengths in tokens."""
        pearson = 2.0 * math.sin(math.pi / 6.0 * self.spearman)  # of the normal pair (Pearson, 1907)
        first = rng.standard_normal(n)
        second = rng.standard_normal(n)
        second *= math.sqrt(max(0.0, 1.0 - pearson * pearson))
        second += pearson * first
        special.ndtr(first, out=first)
        special.ndtr(second, out=second)
        return self.prompt.quantiles(first), self.output.quantiles(second)


@dataclass(frozen=True)
class BucketedLengths(LengthLaw):
    """The output's law depends on the bucket of the prompt length, as in a mixture of applications.

    Attributes:
        prompt: Law of the prompt length.
        edges: Ascending upper ends of all buckets but the last, tokens, inclusive, >= 1.
        outputs: Law of the output length in each bucket, one more than ``edges``.
    """

    prompt: TokenLaw
    edges: tuple[int, ...]
    outputs: tuple[TokenLaw, ...]
    kind: ClassVar[str] = "bucketed"

    def __post_init__(self) -> None:
        """Check the parameters."""
        check_token_law("prompt", self.prompt)
        self._set("edges", checks.wholes("edges", self.edges, low=1, high=TOKENS_MAX))
        self._set("outputs", tuple(checks.items("outputs", self.outputs)))
        if not ascend(self.edges):
            raise InputError("edges", self.edges, "give ascending numbers")
        if len(self.outputs) != len(self.edges) + 1:
            raise InputError(
                "outputs", f"{len(self.outputs)} of them", f"give one more than edges has ({len(self.edges)})"
            )
        for i, law in enumerate(self.outputs):
            check_token_law(f"outputs[{i}]", law)

    def sample(self, rng: np.random.Generator, n: int) -> tuple[TokenArray, TokenArray]:
        """Draw ``n`` >= 0 pairs of prompt and output lengths in tokens."""
        prompt = self.prompt.sample(rng, n)
        bucket = np.searchsorted(np.asarray(self.edges, dtype=np.int32), prompt, side="left")
        output = np.empty(n, np.int32)
        for i, law in enumerate(self.outputs):
            here = np.flatnonzero(bucket == i)
            output[here] = law.sample(rng, len(here))
        return prompt, output


LENGTH_LAWS: dict[str, type[LengthLaw]] = {
    law.kind: law for law in (FixedLengths, IndependentLengths, CopulaLengths, BucketedLengths)
}
"""Joint laws by their name in a workload's table."""


def check_token_law(field: str, law: object) -> None:
    """Refuse what is no law of one length.

    Raises:
        InputError: Names the field and the laws that there are.
    """
    if not isinstance(law, TokenLaw):
        raise InputError(field, law, f"give a law of one length ({', '.join(TOKEN_LAWS)})")
