"""Which law the lengths of a trace follow: mixtures of lognormals, and how the output hangs on the prompt."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from aladdin_traces.columns import FloatArray, TokenArray
from aladdin_traces.fitting.candidates import Candidate, best
from aladdin_traces.lengths import BucketedLengths, CopulaLengths, IndependentLengths, LengthLaw
from aladdin_traces.stats import spearman
from aladdin_traces.token_laws import LognormalMixture

_COMPONENTS = (1, 2, 3, 4, 6, 8, 10)
_ROUNDS, _TOLERANCE = 300, 1e-7
_EXACT, _CELL = 256, 0.004  # longer lengths are grouped in cells of 0.4 %
_SIGMA_MIN = 0.005
_EDGES = tuple(2**k for k in range(7, 18))
_BUCKET_MIN = 200


def fit_mixture(tokens: TokenArray) -> Candidate[LognormalMixture]:
    """Return the mixture of lognormals of the smallest BIC.

    The likelihood is that of whole numbers, or cells of 0.4 % where they are long, so that a length that occurs often
    does not draw a component to a point.
    """
    cells = _cells(tokens)
    return best(_mixture(cells, k) for k in _COMPONENTS if k == 1 or k <= len(cells.counts) // 4)


def fit_lengths(prompt: TokenArray, output: TokenArray) -> list[Candidate[LengthLaw]]:
    """Fit outputs that are independent of the prompt, tied to it by rank, or of another law in each prompt bucket."""
    prompts, outputs = fit_mixture(prompt), fit_mixture(output)
    n, likelihood = len(prompt), prompts.log_likelihood + outputs.log_likelihood
    parameters = prompts.parameters + outputs.parameters
    found: list[Candidate[LengthLaw]] = [
        Candidate("independent", IndependentLengths(prompts.law, outputs.law), likelihood, parameters, n)
    ]
    rank = spearman(prompt, output)
    if math.isfinite(rank):
        law = CopulaLengths(prompts.law, outputs.law, min(max(rank, -1.0), 1.0))
        found.append(Candidate("copula", law, likelihood + _copula_gain(prompt, output), parameters + 1, n))
    return [*found, *_bucketed(prompts, prompt, output)]


def _bucketed(
    prompts: Candidate[LognormalMixture], prompt: TokenArray, output: TokenArray
) -> Iterator[Candidate[LengthLaw]]:
    edges = _usable_edges(prompt)
    if not edges:
        return
    bucket = np.searchsorted(edges, prompt, side="left")
    parts = [fit_mixture(output[bucket == k]) for k in range(len(edges) + 1)]
    law = BucketedLengths(prompts.law, edges, tuple(part.law for part in parts))
    likelihood = prompts.log_likelihood + sum(part.log_likelihood for part in parts)
    parameters = prompts.parameters + sum(part.parameters for part in parts)
    yield Candidate("bucketed", law, likelihood, parameters, len(prompt))


def _usable_edges(prompt: TokenArray) -> tuple[int, ...]:
    """Take the powers of two that leave enough requests in every bucket."""
    edges, below = [], 0
    for edge in _EDGES:
        until = int(np.count_nonzero(prompt <= edge))
        if until - below >= _BUCKET_MIN and len(prompt) - until >= _BUCKET_MIN:
            edges.append(edge)
            below = until
    return tuple(edges)


def _copula_gain(prompt: TokenArray, output: TokenArray) -> float:
    """Return what a Gaussian copula adds to the log-likelihood of independent lengths."""
    first, second = (
        special.ndtri(pd.Series(column).rank().to_numpy() / (len(column) + 1)) for column in (prompt, output)
    )
    r = float(np.clip(np.corrcoef(first, second)[0, 1], -0.999, 0.999))
    inside = (r * r * (first**2 + second**2) - 2.0 * r * first * second) / (2.0 * (1.0 - r * r))
    return float(-0.5 * len(prompt) * math.log(1.0 - r * r) - inside.sum())


@dataclass(frozen=True)
class _Cells:
    """Lengths in cells: whole numbers where they are short.

    Attributes:
        low: Logarithm of the lower end of each cell, ascending.
        high: Logarithm of the upper end.
        logs: Mean logarithm of the lengths in it.
        counts: How many lengths are in it.
        shortest: Tokens.
        longest: Tokens.
    """

    low: FloatArray
    high: FloatArray
    logs: FloatArray
    counts: FloatArray
    shortest: int
    longest: int


def _cells(tokens: TokenArray) -> _Cells:
    logs = np.log(tokens)
    coarse = np.floor((logs - math.log(_EXACT + 0.5)) / _CELL).astype(np.int64)
    _, first, inverse, counts = np.unique(
        np.where(tokens <= _EXACT, tokens, _EXACT + 1 + coarse),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    exact, example, cell = tokens[first] <= _EXACT, tokens[first], coarse[first]
    begin = math.log(_EXACT + 0.5) + _CELL * cell
    return _Cells(
        low=np.where(exact, np.log(example - 0.5), begin),
        high=np.where(exact, np.log(example + 0.5), begin + _CELL),
        logs=np.bincount(inverse, weights=logs) / counts,
        counts=counts.astype(np.float64),
        shortest=int(tokens.min()),
        longest=int(tokens.max()),
    )


def _mixture(cells: _Cells, components: int) -> Candidate[LognormalMixture]:
    """Maximise the likelihood by EM (Dempster, Laird and Rubin, 1977), from equal shares of the sorted lengths."""
    logs, counts, total = cells.logs, cells.counts, cells.counts.sum()
    level = (np.cumsum(counts) - 0.5 * counts) / total
    resp = np.eye(components)[np.minimum((level * components).astype(int), components - 1)].T
    last = -math.inf
    for _ in range(_ROUNDS):
        weight = np.maximum(resp @ counts, 1e-9)
        mus = (resp @ (counts * logs)) / weight
        spread = (resp * (logs - mus[:, None]) ** 2) @ counts / weight
        sigmas = np.maximum(np.sqrt(spread), _SIGMA_MIN)
        mass = weight[:, None] / total * _mass(cells.low, cells.high, mus[:, None], sigmas[:, None])
        sums = np.maximum(mass.sum(axis=0), 1e-300)
        likelihood = float(counts @ np.log(sums))
        resp = mass / sums
        if likelihood - last < _TOLERANCE * abs(likelihood):
            break
        last = likelihood
    weights, centres, spreads = (np.round(column, 6).tolist() for column in (weight / weight.sum(), mus, sigmas))
    law = LognormalMixture(tuple(weights), tuple(centres), tuple(spreads), cells.shortest, cells.longest)
    return Candidate(f"mixture of {components}", law, likelihood, 3 * components - 1, int(total))


def _mass(low: FloatArray, high: FloatArray, mu: FloatArray, sigma: FloatArray) -> FloatArray:
    """Return the probability of each cell under each lognormal law, (components, values)."""
    # The sign keeps both distribution functions in the small tail, where they do not cancel.
    sign = np.where(low > mu, -1.0, 1.0)
    mass: FloatArray = np.abs(special.ndtr(sign * (high - mu) / sigma) - special.ndtr(sign * (low - mu) / sigma))
    return mass
