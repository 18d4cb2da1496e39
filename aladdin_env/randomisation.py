"""Latency profiles around a fitted one, within its error: what a policy is trained on should not be one exact worker.

The law (our reconstruction; the paper has none). Each law of time is a first value and rises from knot to knot, none
negative. Each of these parts is multiplied by a lognormal factor of mean 1; the logarithms of the factors of a law are
normal with one variance and equal correlation :data:`SHARED`. Time is a sum of parts with weights that do not change,
so it never falls and is not negative, its mean is the fitted law, and its relative standard deviation is between
sqrt(:data:`SHARED`) and 1 times that of a single factor: most of the error is common to the law, the rest bends it.

That deviation is the law's error out of sample: ``scale`` times the 95th percentile of the errors per configuration
(where the provenance has them, else of the errors per step, which contain noise) over 1.96, as of a normal law.
Prefill, decode and the overlap of mixed steps are drawn independently. Memory, overhead and GPUs stay.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aladdin_env.latency import DecodeLaw, LatencyProfile, PrefillLaw, Provenance
from aladdin_env.scenario import Scenario
from aladdin_traces import checks

SHARED = 0.8
UNKNOWN_ERROR = 0.1  # 95th percentile that stands in where a profile has no figures: the paper's bound on its laws
LARGEST_SCALE = 20.0
_NORMAL_P95 = 1.96

Array = NDArray[np.float64]


def relative_spread(provenance: Provenance, kind: str) -> float:
    """Standard deviation of a law's relative error: of ``prefill``, ``decode`` or ``mixed`` steps."""
    figures = (f"{kind}_configuration_paced_p95", f"{kind}_configuration_p95", f"{kind}_p95")
    known = [provenance.errors[figure] for figure in figures if figure in provenance.errors]
    return (known[0] if known else UNKNOWN_ERROR) / _NORMAL_P95


def randomised(profile: LatencyProfile, rng: np.random.Generator, scale: float = 1.0) -> LatencyProfile:
    """A profile drawn around ``profile``, within its errors out of sample (see the head of this module).

    Args:
        profile: The fitted one; its name stays.
        rng: Where the draws come from.
        scale: Multiplies the spread; 0 gives the laws themselves. At most 20.

    Raises:
        InputError: ``scale`` is not a number from 0 to 20.
    """
    checks.number("scale", scale, low=0.0, high=LARGEST_SCALE)
    spread = {kind: scale * relative_spread(profile.provenance, kind) for kind in ("prefill", "decode", "mixed")}
    p = profile.provenance
    return replace(
        profile,
        prefill=_prefill(profile.prefill, rng, spread["prefill"]),
        decode=_decode(profile.decode, rng, spread["decode"]),
        mixed_overlap_s=profile.mixed_overlap_s * float(_factors(rng, 1, spread["mixed"])[0]),
        provenance=replace(p, method=f"{p.method}. Randomised within {scale:g} times its errors"),
    )


def randomised_scenario(scenario: Scenario, rng: np.random.Generator, scale: float = 1.0) -> Scenario:
    """The scenario on workers drawn by :func:`randomised`; types that share a profile share the draw."""
    profiles = {kind.latency for kind in scenario.fleet.types}
    ordered = sorted(profiles, key=[kind.latency for kind in scenario.fleet.types].index)
    drawn = {profile: randomised(profile, rng, scale) for profile in ordered}
    types = tuple(replace(kind, profile=drawn[kind.latency]) for kind in scenario.fleet.types)
    return replace(scenario, fleet=replace(scenario.fleet, types=types))


def _factors(rng: np.random.Generator, count: int, spread: float) -> Array:
    """Lognormal factors of mean 1 and relative standard deviation ``spread``, logarithms equally correlated."""
    variance = math.log1p(spread**2)
    common, own = rng.standard_normal(), rng.standard_normal(count)
    normal = math.sqrt(SHARED) * common + math.sqrt(1.0 - SHARED) * own
    return np.exp(math.sqrt(variance) * normal - 0.5 * variance)


def _bent(values: Array, factors: Array) -> Array:
    """Values that do not fall, first value and each rise times its factor."""
    return np.cumsum(np.diff(values, prepend=0.0).clip(min=0.0) * factors)


def _prefill(law: PrefillLaw, rng: np.random.Generator, spread: float) -> PrefillLaw:
    knots = len(law.knots_s)
    factors = _factors(rng, knots + 1, spread)
    drawn = replace(
        law,
        knots_s=tuple(_bent(np.array(law.knots_s), factors[:knots]).tolist()),
        attention_s_per_token2=law.attention_s_per_token2 * float(factors[knots]),
        floor_tokens=0.0,
    )
    return replace(drawn, floor_tokens=law.floor_tokens if law.floor_tokens in drawn.floor_ends else 0.0)


def _decode(law: DecodeLaw, rng: np.random.Generator, spread: float) -> DecodeLaw:
    sizes = len(law.batch)
    factors = _factors(rng, 2 * sizes, spread)
    batch, beta = np.array(law.batch, dtype=np.float64), np.array(law.beta_s_per_token)
    per_mean_token = _bent(batch * beta, factors[sizes:])
    # At a batch of 0 nothing is decoded: beta there has no part in any time, and keeps its place.
    bent = np.divide(per_mean_token, batch, out=beta.copy(), where=batch > 0.0)
    return DecodeLaw(law.batch, tuple(_bent(np.array(law.alpha_s), factors[:sizes]).tolist()), tuple(bent.tolist()))
