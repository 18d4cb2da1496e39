"""Laws of one length: how many tokens a prompt or an output has."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy import special

from aladdin_traces import checks
from aladdin_traces.checks import TOKENS_MAX
from aladdin_traces.columns import FloatArray, TokenArray, whole_column
from aladdin_traces.errors import InputError

_GRID = 4097
_REACH = 8.3  # standard deviations that hold all of a normal law but what float64 cannot tell from 1


class TokenLaw(ABC):
    """A law of one length. Subclasses are frozen dataclasses."""

    kind: ClassVar[str]
    """Name of the law in a workload's table."""

    @abstractmethod
    def quantiles(self, levels: FloatArray) -> TokenArray:
        """Return the lengths in tokens, int32, >= 1, at probabilities ``levels`` (any shape, in [0, 1])."""

    def sample(self, rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` >= 0 lengths in tokens, int32, >= 1."""
        return self.quantiles(rng.random(n))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the checked value replaces the given one in a frozen dataclass

    def _set_range(self, minimum: int, maximum: int) -> None:
        self._set("minimum", checks.whole("minimum", minimum, low=1, high=TOKENS_MAX))
        self._set("maximum", checks.whole("maximum", maximum, low=minimum, high=TOKENS_MAX))


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
        self._set("weights", checks.numbers("weights", self.weights, low=0.0))
        self._set("mus", checks.numbers("mus", self.mus))
        self._set("sigmas", checks.numbers("sigmas", self.sigmas, low=0.0))
        self._set_range(self.minimum, self.maximum)
        checks.same_length("mus", self.mus, "weights", self.weights)
        checks.same_length("sigmas", self.sigmas, "weights", self.weights)
        _check_weights(self.weights)

    def sample(self, rng: np.random.Generator, n: int) -> TokenArray:
        """Draw ``n`` >= 0 lengths in tokens."""
        weights = np.asarray(self.weights)
        component = rng.choice(len(weights), size=n, p=weights / weights.sum())
        return self._tokens(rng.normal(np.asarray(self.mus)[component], np.asarray(self.sigmas)[component]))

    def quantiles(self, levels: FloatArray) -> TokenArray:
        """Return the lengths at probabilities ``levels``, interpolated on a fine grid of the logarithm."""
        logs, below = self._table
        return self._tokens(np.interp(levels, below, logs))

    def _tokens(self, logs: FloatArray) -> TokenArray:
        # A float64 cannot hold exp of more than 709; the clip is far under that.
        tokens = np.minimum(logs, 700.0)
        np.exp(tokens, out=tokens)
        np.rint(tokens, out=tokens)
        return np.clip(tokens, self.minimum, self.maximum, out=tokens).astype(np.int32)

    @cached_property
    def _table(self) -> tuple[FloatArray, FloatArray]:
        """Logarithms, ascending, and the probability of a shorter length at each."""
        weights, mus, sigmas = (np.asarray(values) for values in (self.weights, self.mus, self.sigmas))
        sigmas = np.maximum(sigmas, 1e-9)
        grid = np.linspace(-_REACH, _REACH, _GRID)
        logs = np.unique(mus[:, None] + sigmas[:, None] * grid)
        below = (weights / weights.sum()) @ special.ndtr((logs - mus[:, None]) / sigmas[:, None])
        rises = np.concatenate(([True], np.diff(below) > 0))  # a flat part has no inverse
        return logs[rises], below[rises]


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
        self._set("probabilities", checks.numbers("probabilities", self.probabilities, low=0.0))
        self._set("tokens", checks.wholes("tokens", self.tokens, low=1, high=TOKENS_MAX))
        checks.same_length("tokens", self.tokens, "probabilities", self.probabilities)
        levels = self.probabilities
        if len(levels) < 2 or levels[0] != 0.0 or levels[-1] != 1.0 or not ascend(levels):
            raise InputError("probabilities", levels, "give numbers that ascend from 0 to 1")
        if (np.diff(self.tokens) < 0).any():
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

    def quantiles(self, levels: FloatArray) -> TokenArray:
        """Return the lengths at probabilities ``levels``."""
        return np.rint(np.interp(levels, self.probabilities, self.tokens)).astype(np.int32)


@dataclass(frozen=True)
class Histogram(TokenLaw):
    """A few lengths with a weight each: counts of turns, or the histograms of ServeGen's clients.

    Attributes:
        tokens: The lengths, ascending, whole, >= 1.
        weights: Relative weight of each, >= 0, not all 0.
    """

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    kind: ClassVar[str] = "histogram"

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._set("tokens", checks.wholes("tokens", self.tokens, low=1, high=TOKENS_MAX))
        self._set("weights", checks.numbers("weights", self.weights, low=0.0))
        checks.same_length("weights", self.weights, "tokens", self.tokens)
        if not ascend(self.tokens):
            raise InputError("tokens", self.tokens, "give ascending numbers")
        _check_weights(self.weights)

    def quantiles(self, levels: FloatArray) -> TokenArray:
        """Return the lengths at probabilities ``levels``."""
        weights = np.asarray(self.weights)
        ends = np.cumsum(weights / weights.sum())
        last = int(np.flatnonzero(weights)[-1])
        index = np.minimum(np.searchsorted(ends, levels, side="right"), last)
        return np.asarray(self.tokens, dtype=np.int32)[index]


@dataclass(frozen=True)
class Exponential(TokenLaw):
    """Exponentially distributed lengths, rounded up and clipped: how outputs of language models often are.

    Attributes:
        mean: Mean before rounding up and clipping, tokens, > 0.
        minimum: Smallest length in tokens, >= 1.
        maximum: Largest length in tokens, >= ``minimum``.
    """

    mean: float
    minimum: int = 1
    maximum: int = TOKENS_MAX
    kind: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        """Check the parameters."""
        self._set("mean", checks.number("mean", self.mean, above=0.0))
        self._set_range(self.minimum, self.maximum)

    def quantiles(self, levels: FloatArray) -> TokenArray:
        """Return the lengths at probabilities ``levels``."""
        with np.errstate(divide="ignore"):
            tokens = -self.mean * np.log1p(-levels)
        return np.clip(np.ceil(tokens), self.minimum, self.maximum).astype(np.int32)


TOKEN_LAWS: dict[str, type[TokenLaw]] = {
    law.kind: law for law in (LognormalMixture, EmpiricalQuantiles, Histogram, Exponential)
}
"""Laws of one length by their name in a workload's table."""


def ascend(values: tuple[float, ...]) -> bool:
    """Say whether every value is above the one before it."""
    return bool((np.diff(np.asarray(values, dtype=np.float64)) > 0).all())


def _check_weights(weights: tuple[float, ...]) -> None:
    if not 0.0 < sum(weights) < np.inf:
        raise InputError("weights", weights, "give weights with a finite sum > 0")
