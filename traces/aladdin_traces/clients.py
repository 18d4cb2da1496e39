"""Traffic as the sum of its clients: a few large ones, each with its own burstiness, lengths and hours."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from aladdin_traces import checks
from aladdin_traces.checks import TOKENS_MAX
from aladdin_traces.columns import FloatArray, TokenArray
from aladdin_traces.errors import InputError
from aladdin_traces.lengths import LENGTH_LAWS, LengthLaw
from aladdin_traces.point_processes import OnWindows, check_size
from aladdin_traces.renewals import CV_MIN, gamma_renewal_times, weibull_renewal_times
from aladdin_traces.request_law import RequestLaw
from aladdin_traces.trace import Trace

_CLIENTS_MAX = 100_000
_SEED_MAX = 2**32 - 1


@dataclass(frozen=True)
class Clients(RequestLaw):
    """Requests of many clients, after ServeGen (Xiang et al., 2025): bursts and drifts come from the largest few.

    The k-th client sends a share proportional to ``k ** -zipf``, in gamma or Weibull gaps (every second client) of its
    own CV, while it is ON. Its lengths are those of the common law times factors of its own. Which client has which CV
    and factors is drawn from ``population``, so that a law always stands for the same clients.

    Attributes:
        rate_rps: Requests per second of all clients, > 0.
        lengths: Law of the lengths, before the clients' factors.
        count: Number of clients, 1 to 100,000.
        zipf: Exponent of the shares, >= 0; 1.2 to 1.4 in ServeGen's traces.
        cvs: The gaps' CV, 0.001 to 100, at equally spaced quantiles of the clients, ascending; ServeGen's, weighted by
            requests, has about 1, 1 to 2, 2 to 8 at the quartiles and 5 to 57 at 95 %.
        on_mean_s: Mean time that a client stays ON, seconds, > 0.
        off_mean_s: Mean time that it stays away, seconds, >= 0; 0 keeps all ON.
        prompt_spread: Standard deviation of the logarithm of the clients' prompt factors (mean 1), 0 to 3.
        output_spread: The same of the output factors.
        spread_correlation: Correlation of the two logarithms, -1 to 1.
        population: Seed of the clients' own parameters, a whole number from 0 to 2**32 - 1.
    """

    rate_rps: float
    lengths: LengthLaw
    count: int = 200
    zipf: float = 1.3
    cvs: tuple[float, ...] = (0.8, 1.0, 1.4, 4.0, 17.0)
    on_mean_s: float = 3600.0
    off_mean_s: float = 0.0
    prompt_spread: float = 0.0
    output_spread: float = 0.0
    spread_correlation: float = 0.0
    population: int = 0
    kind: ClassVar[str] = "clients"

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not isinstance(self.lengths, LengthLaw):
            raise InputError("lengths", self.lengths, f"give a length law ({', '.join(LENGTH_LAWS)})")
        for name, above in (("rate_rps", 0.0), ("on_mean_s", 0.0)):
            self._set(name, checks.number(name, getattr(self, name), above=above))
        for name, low, high in (
            ("zipf", 0.0, 100.0),
            ("off_mean_s", 0.0, math.inf),
            ("prompt_spread", 0.0, 3.0),
            ("output_spread", 0.0, 3.0),
            ("spread_correlation", -1.0, 1.0),
        ):
            self._set(name, checks.number(name, getattr(self, name), low=low, high=high))
        self._set("count", checks.whole("count", self.count, low=1, high=_CLIENTS_MAX))
        self._set("population", checks.whole("population", self.population, low=0, high=_SEED_MAX))
        self._set("cvs", checks.numbers("cvs", self.cvs, low=CV_MIN))
        if max(self.cvs) > 100.0 or list(self.cvs) != sorted(self.cvs):
            raise InputError("cvs", self.cvs, "give ascending numbers up to 100")

    @property
    def mean_rate_rps(self) -> float:
        """Long-run mean, requests per second."""
        return self.rate_rps

    @property
    def shares(self) -> FloatArray:
        """Share of the requests of each client, (count,), descending, of sum 1."""
        weights = np.arange(1, self.count + 1) ** -self.zipf
        return np.asarray(weights / weights.sum())

    @property
    def client_cvs(self) -> FloatArray:
        """The gaps' CV of each client, (count,)."""
        levels = self._own_draws[:, 0]
        return np.interp(levels, np.linspace(0.0, 1.0, len(self.cvs)), self.cvs)

    def scaled(self, factor: float) -> Self:
        """Return the same law with ``factor`` > 0 times the requests."""
        return dataclasses.replace(self, rate_rps=self.rate_rps * factor)

    def _requests(self, rng: np.random.Generator, horizon_s: float) -> Trace:
        if self.off_mean_s > 0.0:
            check_size(self.count * horizon_s / (self.on_mean_s + self.off_mean_s), horizon_s)
        cvs = self.client_cvs.tolist()
        of_client = [
            self._times(rng, rate, cv, k % 2 == 1, horizon_s)
            for k, (rate, cv) in enumerate(zip((self.rate_rps * self.shares).tolist(), cvs, strict=True))
        ]
        times = np.concatenate(of_client)
        order = np.argsort(times)
        client = np.repeat(np.arange(self.count), [len(part) for part in of_client])[order]
        prompt, output = self.lengths.sample(rng, len(times))
        factors = self._factors
        return Trace(
            times[order],
            _multiplied(prompt, factors[0], client),
            _multiplied(output, factors[1], client),
            np.zeros(len(times), np.int8),
        )

    def _times(
        self, rng: np.random.Generator, rate: float, cv: float, has_weibull_gaps: bool, horizon_s: float
    ) -> FloatArray:
        draw = weibull_renewal_times if has_weibull_gaps else gamma_renewal_times
        if self.off_mean_s == 0.0:
            return draw(rng, rate, cv, horizon_s)
        windows = OnWindows(rng, self.on_mean_s, self.off_mean_s, horizon_s)
        if windows.total == 0.0:
            return np.empty(0)
        while_on = rate * (self.on_mean_s + self.off_mean_s) / self.on_mean_s
        times = windows.to_time(draw(rng, while_on, cv, windows.total))
        return times[: np.searchsorted(times, horizon_s)]

    @property
    def _own_draws(self) -> FloatArray:
        """(count, 3): the level of the CV in [0, 1), and two standard normals for the factors."""
        own = np.random.default_rng(self.population)
        return np.column_stack((own.random(self.count), own.standard_normal((self.count, 2))))

    @property
    def _factors(self) -> tuple[FloatArray, FloatArray]:
        """Factor of each client's prompts and outputs, of mean 1."""
        _, first, second = self._own_draws.T
        second = self.spread_correlation * first + math.sqrt(1.0 - self.spread_correlation**2) * second
        one, other = self.prompt_spread, self.output_spread
        return np.exp(one * first - 0.5 * one**2), np.exp(other * second - 0.5 * other**2)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the checked value replaces the given one in a frozen dataclass


def _multiplied(tokens: TokenArray, factors: FloatArray, client: "np.typing.NDArray[np.int64]") -> TokenArray:
    product = tokens * factors[client]
    np.rint(product, out=product)
    return np.clip(product, 1, TOKENS_MAX, out=product).astype(np.int32)
