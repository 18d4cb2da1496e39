"""Length laws: how many tokens a request's prompt and output have."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from aladdin_traces import checks
from aladdin_traces.checks import TOKENS_MAX
from aladdin_traces.columns import TokenArray, whole_column
from aladdin_traces.errors import InputError


class TokenLaw(ABC):
    """A law of one length. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]
    """Name of the law in a workload's table."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` >= 0 lengths in tokens, int32, >= 1."""


class LengthLaw(ABC):
    """A joint law of prompt and output lengths. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]
    """Name of the law in a workload's table."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> tuple[TokenArray, TokenArray]:
        """Draw ``n`` >= 0 pairs: prompt and output lengths in tokens, int32, >= 1."""


@dataclass(frozen=True)
class LognormalMixture(TokenLaw):
    """A mixture of lognormal laws, rounded to whole tokens and clipped to a range.

    Attributes:
        weights: Relative weight of each component, >= 0, not all 0.
        mus: Mean of the logarithm of the length, per component.
        sigmas: Standard deviation of that logarithm, per component, >= 0.
        minimum: Smallest length in tokens, >= 1.
        maximum: Largest length in tokens, >= ``minimum``.
    """

    weights: tuple[float, ...]
    mus: tuple[float, ...]
    sigmas: tuple[float, ...]
    minimum: int = 1
    maximum: int = TOKENS_MAX
    kind: ClassVar[str] = "lognormal-mixture"

    def __post_init__(self) -> None:
        """Check the parameters."""
        _set(self, "weights", checks.numbers("weights", self.weights, low=0.0))
        _set(self, "mus", checks.numbers("mus", self.mus))
        _set(self, "sigmas", checks.numbers("sigmas", self.sigmas, low=0.0))
        _set(self, "minimum", checks.whole("minimum", self.minimum, low=1, high=TOKENS_MAX))
        _set(self, "maximum", checks.whole("maximum", self.maximum, low=self.minimum, high=TOKENS_MAX))
        checks.same_length("mus", self.mus, "weights", self.weights)
        checks.same_length("sigmas", self.sigmas, "weights", self.weights)
        if not 0.0 < sum(self.weights) < np.inf:
            raise InputError("weights", self.weights, "give weights with a finite sum > 0")

    def sample(self, rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` >= 0 lengths in tokens."""
        weights = np.asarray(self.weights)
        component = rng.choice(len(weights), size=n, p=weights / weights.sum())
        logs = rng.normal(np.asarray(self.mus)[component], np.asarray(self.sigmas)[component])
        # A float64 cannot hold exp of more than 709; the clip below is far under that.
        tokens = np.rint(np.exp(np.minimum(logs, 700.0)))
        return np.clip(tokens, self.minimum, self.maximum).astype(np.int32)


@dataclass(frozen=True)
class EmpiricalQuantiles(TokenLaw):
    """A law given by points of its quantile function, linear in between, rounded to whole tokens.

    Attributes:
        probabilities: Ascending from 0 to 1, at least two.
        tokens: Length at each of them, whole, >= 1, not descending.
    """

    probabilities: tuple[float, ...]
    tokens: tuple[int, ...]
    kind: ClassVar[str] = "quantiles"

    def __post_init__(self) -> None:
        """Check the parameters."""
        _set(self, "probabilities", checks.numbers("probabilities", self.probabilities, low=0.0))
        _set(self, "tokens", checks.wholes("tokens", self.tokens, low=1, high=TOKENS_MAX))
        checks.same_length("tokens", self.tokens, "probabilities", self.probabilities)
        levels = self.probabilities
        if len(levels) < 2 or levels[0] != 0.0 or levels[-1] != 1.0 or _any_step(levels, strict=True):
            raise InputError("probabilities", levels, "give numbers that ascend from 0 to 1")
        if _any_step(self.tokens, strict=False):
            raise InputError("tokens", self.tokens, "give numbers that do not descend")

    @classmethod
    def fit(cls, lengths: npt.ArrayLike, probabilities: tuple[float, ...]) -> Self:
        """Take the quantiles of observed lengths (tokens, at least one) at the given probabilities, rounded.

        Raises:
            InputError: A length or a probability is out of its range.
        """
        observed = whole_column("lengths", lengths, 1, TOKENS_MAX)
        levels = checks.numbers("probabilities", probabilities, low=0.0)
        if max(levels) > 1.0:
            raise InputError("probabilities", probabilities, "give numbers that ascend from 0 to 1")
        return cls(levels, tuple(np.rint(np.quantile(observed, levels)).astype(int).tolist()))

    def sample(self, rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` >= 0 lengths in tokens."""
        return np.rint(np.interp(rng.random(n), self.probabilities, self.tokens)).astype(np.int32)


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
            _set(self, name, checks.whole(name, getattr(self, name), low=1, high=TOKENS_MAX))

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
        _check_token_law("prompt", self.prompt)
        _check_token_law("output", self.output)

    def sample(self, rng: np.random.Generator, n: int) -> tuple[TokenArray, TokenArray]:
        """Draw ``n`` >= 0 pairs of prompt and output lengths in tokens."""
        return self.prompt.sample(rng, n), self.output.sample(rng, n)


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
        _check_token_law("prompt", self.prompt)
        _set(self, "edges", checks.wholes("edges", self.edges, low=1, high=TOKENS_MAX))
        _set(self, "outputs", tuple(checks.items("outputs", self.outputs)))
        if _any_step(self.edges, strict=True):
            raise InputError("edges", self.edges, "give ascending numbers")
        if len(self.outputs) != len(self.edges) + 1:
            raise InputError(
                "outputs", f"{len(self.outputs)} of them", f"give one more than edges has ({len(self.edges)})"
            )
        for i, law in enumerate(self.outputs):
            _check_token_law(f"outputs[{i}]", law)

    def sample(self, rng: np.random.Generator, n: int) -> tuple[TokenArray, TokenArray]:
        """Draw ``n`` >= 0 pairs of prompt and output lengths in tokens."""
        prompt = self.prompt.sample(rng, n)
        bucket = np.searchsorted(self.edges, prompt, side="left")
        output = np.empty(n, np.int32)
        for i, law in enumerate(self.outputs):
            here = bucket == i
            output[here] = law.sample(rng, int(np.count_nonzero(here)))
        return prompt, output


TOKEN_LAWS: dict[str, type[TokenLaw]] = {law.kind: law for law in (LognormalMixture, EmpiricalQuantiles)}
"""Laws of one length by their name in a workload's table."""

LENGTH_LAWS: dict[str, type[LengthLaw]] = {law.kind: law for law in (FixedLengths, IndependentLengths, BucketedLengths)}
"""Joint laws by their name in a workload's table."""


def _set(law: TokenLaw | LengthLaw, name: str, value: object) -> None:
    object.__setattr__(law, name, value)  # the checked value replaces the given one in a frozen dataclass


def _any_step(values: tuple[float, ...], *, strict: bool) -> bool:
    """Say whether the values fail to ascend anywhere (``strict``: or stay equal)."""
    steps = np.diff(np.asarray(values, dtype=np.float64))
    return bool(((steps <= 0) if strict else (steps < 0)).any())


def _check_token_law(field: str, law: object) -> None:
    if not isinstance(law, TokenLaw):
        raise InputError(field, law, f"give a law of one length ({', '.join(TOKEN_LAWS)})")
