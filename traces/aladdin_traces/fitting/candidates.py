"""Laws that compete for a trace, judged by the Bayesian information criterion."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Law = TypeVar("Law", covariant=True)


@dataclass(frozen=True)
class Candidate(Generic[Law]):
    """A law with its parameters, and how likely it makes what was seen.

    Attributes:
        name: What kind of law this is.
        law: The law.
        log_likelihood: Logarithm of the likelihood of the observations.
        parameters: Number of parameters that were fitted.
        observations: Number of observations.
    """

    name: str
    law: Law
    log_likelihood: float
    parameters: int
    observations: int

    @property
    def bic(self) -> float:
        """Schwarz's criterion (1978): parameters cost log(observations) each; the smallest wins."""
        return self.parameters * math.log(max(2, self.observations)) - 2.0 * self.log_likelihood


def best(candidates: Iterable[Candidate[Law]]) -> Candidate[Law]:
    """Return the candidate of the smallest criterion."""
    return min(candidates, key=lambda candidate: candidate.bic)
