"""Laws of time that follow a worker in service, and an alarm when they no longer are those of its calibration.

All of it is our reconstruction; the paper calibrates once. Three factors correct the prior profile: of prefill, of
decode without context (alpha), and of decode per context token (beta). A step's time is linear in them::

    seconds + saved = f_prefill * prefill(n, squares) + f_alpha * alpha(batch) + f_beta * beta(batch) * context

They are estimated by recursive least squares of the relative errors with exponential forgetting. Instead of being
forgotten into nothing, old observations are forgotten into the prior: all factors 1, with the weight of
``prior_weight`` observations, and correlated by :data:`SHARED`, for what slows a worker mostly slows all it does. So a
factor that nothing observes follows the others, and no covariance winds up. An error far beyond the usual ones counts
linearly (Huber), so that no single observation moves the laws; what is usual is a running median of their absolute
values. Factors never leave ``[1 / bound, bound]``.

Drift is the two-sided CUSUM test of the relative residuals against the *prior*, in units of their usual size, cut off
at 4, with allowance 1/2 and threshold 12. On independent normal residuals of known size that is one false alarm in
about 500,000 observations (Siegmund's approximation); with the size learnt on the way, none was seen in 300,000 with 2,
5 and 10 % noise. A shift of 20 % where 5 % is usual is seen after about 4. The statistic is capped at twice its
threshold, so that an alarm ends within 50 observations once the prior holds again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from operator import mul

import numpy as np

from aladdin_env.latency import DecodeLaw, LatencyProfile
from aladdin_env.simulator import laws
from aladdin_traces import checks

_LARGEST_BATCH = 2048  # of the tables; a larger batch counts as this
_MAD = 0.6745  # median of the absolute values of a normal law, over its standard deviation
_LEAST_SPREAD, _FIRST_SPREAD = 0.01, 0.05  # relative: a smaller residual is no news; what is usual until it is learnt
_HUBER = 3.0
_SPREAD_RATE = 0.01  # by which one observation moves the running median
_LARGEST_SPREAD = 0.5  # relative; beyond it a drift would pass for noise
_CUT, _ALLOWANCE, _THRESHOLD = 4.0, 0.5, 12.0
SHARED = 0.8  # correlation of the factors under the prior, as of randomised profiles
_PREFILL, _DECODE, _MIXED = 0, 1, 2
_KINDS = ("prefill", "decode", "mixed")


@dataclass(frozen=True)
class TrackerStatus:
    """Which calibration is in use, and how far service has moved from it.

    Attributes:
        prior: Name of the profile that was calibrated.
        observations: How many have been taken in.
        prefill: Factor on the prior's prefill time.
        decode_alpha: Factor on its decode time without context.
        decode_beta: Factor on its decode time per context token.
        drifted: Whether residuals against the prior are systematically off now.
        drift: The drift statistic over its threshold; 1 and more is an alarm.
        age_s: Seconds since the last observation; infinite before the first.
    """

    prior: str
    observations: int
    prefill: float
    decode_alpha: float
    decode_beta: float
    drifted: bool
    drift: float
    age_s: float


class ProfileTracker:
    """Correct a profile by what is observed in service. Not thread-safe; picklable; an update takes some microseconds.

    Args:
        prior: The calibrated profile.
        memory: Observations after which an old one counts 1/e, 10 or more.
        bound: How far a factor may go, above 1: from 1 / bound to bound.
        prior_weight: Observations that the prior counts as, above 0.
        least_spread: Usual relative size of residuals at the least, above 0, at most 0.5: what is seen from afar is
            biased by some percent, which is no drift.

    Raises:
        InputError: A number out of its range.
    """

    def __init__(
        self,
        prior: LatencyProfile,
        memory: float = 300.0,
        bound: float = 3.0,
        prior_weight: float = 5.0,
        least_spread: float = _LEAST_SPREAD,
    ) -> None:
        self.prior = prior
        self._keep = 1.0 - 1.0 / checks.number("memory", memory, low=10.0)
        self._bound = checks.number("bound", bound, above=1.0)
        self._row = prior.row(_LARGEST_BATCH).reshape(1, -1)
        weight = checks.number("prior_weight", prior_weight, above=0.0)
        self._least = checks.number("least_spread", least_spread, above=0.0, high=_LARGEST_SPREAD) * _MAD
        self._prior_information = weight * np.linalg.inv(SHARED * np.ones((3, 3)) + (1.0 - SHARED) * np.eye(3))
        self._prior_weighted = self._prior_information.sum(axis=1)
        self._information, self._weighted = self._prior_information, self._prior_weighted
        self._factors = [1.0, 1.0, 1.0]
        errors = prior.provenance.errors
        self._median = [max(_FIRST_SPREAD * _MAD, errors.get(f"{kind}_median", 0.0)) for kind in _KINDS]
        self._high = self._low = 0.0
        self._observations = 0
        self._last_s = -math.inf

    def observe_step(
        self,
        seconds: float,
        prefill_tokens: float = 0.0,
        sum_squares: float | None = None,
        batch: int = 0,
        context_tokens: float = 0.0,
        at_s: float = 0.0,
    ) -> None:
        """Take in the duration of one step.

        Args:
            seconds: Its duration, above 0.
            prefill_tokens: Prompt tokens that it computed.
            sum_squares: Sum over its chunks of ``n (2 past + n)``, token^2; by default that of one fresh prompt.
            batch: Requests that decoded in it.
            context_tokens: Tokens of context of these together.
            at_s: When, on any clock of seconds; for the age in :meth:`status`.

        Raises:
            InputError: A number out of its range, or a step that did nothing.
        """
        seconds = checks.number("seconds", seconds, above=0.0)
        tokens = checks.number("prefill_tokens", prefill_tokens, low=0.0)
        squares = tokens * tokens if sum_squares is None else checks.number("sum_squares", sum_squares, low=0.0)
        size = min(checks.whole("batch", batch, low=0 if tokens else 1, high=checks.TOKENS_MAX), _LARGEST_BATCH)
        context = checks.number("context_tokens", context_tokens, low=0.0)
        self._last_s = max(self._last_s, checks.number("at_s", at_s))
        prefill = laws.prefill_time(self._row, 0, tokens, squares) if tokens else 0.0
        alpha = laws.decode_alpha(self._row, 0, size) if size else 0.0
        beta = laws.decode_beta(self._row, 0, size) * context if size else 0.0
        if not tokens:
            self._take(seconds, 0.0, alpha, beta, 0.0, _DECODE)
        elif not size:
            self._take(seconds, prefill, 0.0, 0.0, 0.0, _PREFILL)
        else:
            saved = prefill + alpha + beta - laws.together(self._row, 0, tokens, prefill, alpha + beta)
            self._take(seconds, prefill, alpha, beta, saved, _MIXED)

    def observe_request(
        self,
        prompt_tokens: int,
        mean_batch: float,
        mean_context_tokens: float,
        prefill_s: float | None = None,
        token_s: float | None = None,
        at_s: float = 0.0,
    ) -> None:
        """Take in one served request; what was not observed is None.

        Args:
            prompt_tokens: Prompt tokens that were computed for it (without those of a prefix cache), 1 or more.
            mean_batch: Mean number of requests that decoded with it, itself counted, 1 or more.
            mean_context_tokens: Mean tokens of context of all of these together while it decoded.
            prefill_s: Time to first token less queueing, as the engine saw it (without the front end's overhead).
            token_s: Mean seconds between its tokens.
            at_s: When it ended, on any clock of seconds.

        Raises:
            InputError: A number out of its range.
        """
        tokens = checks.whole("prompt_tokens", prompt_tokens, low=1, high=checks.TOKENS_MAX)
        batch = round(checks.number("mean_batch", mean_batch, low=1.0, high=float(checks.TOKENS_MAX)))
        if prefill_s is not None:
            self.observe_step(prefill_s, prefill_tokens=tokens, at_s=at_s)
        if token_s is not None:
            self.observe_step(token_s, batch=batch, context_tokens=mean_context_tokens, at_s=at_s)

    def _take(self, seconds: float, prefill: float, alpha: float, beta: float, saved: float, kind: int) -> None:
        expected = prefill + alpha + beta - saved
        parts = prefill / expected, alpha / expected, beta / expected
        y = (seconds + saved) / expected
        error = y - sum(map(mul, parts, self._factors))
        spread = self._median[kind] / _MAD
        weight = min(1.0, _HUBER * spread / abs(error)) if error else 1.0
        x = np.array(parts)
        keep, forget = self._keep, 1.0 - self._keep
        self._information = keep * self._information + forget * self._prior_information + weight * x[:, None] * x
        self._weighted = keep * self._weighted + forget * self._prior_weighted + weight * y * x
        least, most = 1.0 / self._bound, self._bound
        solution = np.linalg.solve(self._information, self._weighted).tolist()
        self._factors = [min(most, max(least, factor)) for factor in solution]
        self._watch((seconds / expected - 1.0) / spread)
        self._learn_spread(kind, abs(error))
        self._observations += 1

    def _watch(self, residual: float) -> None:
        cut = max(-_CUT, min(_CUT, residual))
        self._high = min(2.0 * _THRESHOLD, max(0.0, self._high + cut - _ALLOWANCE))
        self._low = min(2.0 * _THRESHOLD, max(0.0, self._low - cut - _ALLOWANCE))

    def _learn_spread(self, kind: int, error: float) -> None:
        """Move the running median a step up or down; it counts how often, not how far, an error is beyond it."""
        rate = 1.0 + _SPREAD_RATE
        moved = self._median[kind] * (rate if error > self._median[kind] else 1.0 / rate)
        self._median[kind] = max(self._least, min(_LARGEST_SPREAD * _MAD, moved))

    def status(self, now_s: float = 0.0) -> TrackerStatus:
        """The calibration in use and its corrections, at ``now_s`` on the observations' clock."""
        prefill, alpha, beta = self._factors
        drift = max(self._high, self._low) / _THRESHOLD
        age = max(0.0, now_s - self._last_s)
        return TrackerStatus(self.prior.name, self._observations, prefill, alpha, beta, drift >= 1.0, drift, age)

    def profile(self) -> LatencyProfile:
        """The prior with its corrections; always a valid profile, its name as before."""
        prefill_factor, alpha_factor, beta_factor = self._factors
        prefill, decode, p = self.prior.prefill, self.prior.decode, self.prior.provenance
        return replace(
            self.prior,
            prefill=replace(
                prefill,
                knots_s=_times(prefill.knots_s, prefill_factor),
                attention_s_per_token2=prefill.attention_s_per_token2 * prefill_factor,
            ),
            decode=DecodeLaw(
                decode.batch, _times(decode.alpha_s, alpha_factor), _times(decode.beta_s_per_token, beta_factor)
            ),
            provenance=replace(p, method=f"{p.method}. Corrected by {self._observations:,} observations in service"),
        )


def _times(values: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(value * factor for value in values)
