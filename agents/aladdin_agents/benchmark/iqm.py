"""The interquartile mean over runs and scenarios, and its interval by a stratified bootstrap.

After Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021), whose
package is rliable: all runs of all scenarios together, the lowest and the highest quarter left out, the mean of the
rest; runs are drawn anew within each scenario, the interval is between percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aladdin_env.compare import Estimate
from aladdin_env.compare.statistics import CONFIDENCE

DRAWS = 2000
_SEED = 0  # of the bootstrap: the same rows give the same interval


def iqm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interquartile mean along the last axis: a quarter of the values, rounded down, is left out at each end."""
    cut = values.shape[-1] // 4
    kept: NDArray[np.float64] = np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)
    return kept


def iqm_estimate(runs: Sequence[Sequence[float]], draws: int = DRAWS) -> Estimate:
    """Interquartile mean and its 95 % interval.

    Args:
        runs: For each scenario a value per run; NaN (not known) is left out.
        draws: How many times runs are drawn.
    """
    known = [np.array([value for value in own if not np.isnan(value)], dtype=np.float64) for own in runs]
    strata = [own for own in known if len(own)]
    if not strata:
        return Estimate(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(_SEED)
    drawn = [own[rng.integers(len(own), size=(draws, len(own)))] for own in strata]
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(iqm(np.concatenate(drawn, axis=1)), (tail, 100.0 - tail))
    return Estimate(float(iqm(np.concatenate(strata))), float(low), float(high))
