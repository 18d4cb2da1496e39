"""Repeats: the machine's pace comes back, none is found where there is none, noise is counted right."""

import numpy as np
import pandas as pd
import pytest

from aladdin_calibration import fits
from aladdin_calibration.repeats import pace, scatter, scatter_figures
from tests.calibration.test_fits import observed


def measured(drift: bool, noise: float, seed: int = 3) -> pd.DataFrame:
    """Four shuffled passes over all configurations, one step a second, on a machine that slows by a fifth midway."""
    rng = np.random.default_rng(seed)
    once = observed().drop_duplicates("config")
    passes = [once.sample(frac=1.0, random_state=int(rng.integers(2**31))).assign(repeat=k) for k in range(4)]
    steps = pd.concat(passes, ignore_index=True)
    at_s = np.arange(len(steps), dtype=float)
    slow = np.where(drift & (at_s > len(steps) / 2), 1.2, 1.0)
    factor = slow * np.exp(rng.normal(0.0, noise, len(steps)))
    return steps.assign(at_s=at_s, seconds=steps["seconds"] * factor, slow=slow)


def test_the_pace_of_the_machine_comes_back() -> None:
    steps = measured(drift=True, noise=0.01)
    found = pace(steps).of(steps)
    inner = np.abs(steps["at_s"] - len(steps) / 2) > 20.0  # the neighbours of the change see both sides
    true = steps["slow"] / steps["slow"].median()
    assert np.std(np.log(found / true)[inner]) < 0.012
    assert np.ptp(np.log(found)) == pytest.approx(np.log(1.2), rel=0.15)


def test_errors_at_pace_are_without_the_drift() -> None:
    figures = fits.error_figures(fits.held_out_errors(measured(drift=True, noise=0.01)))
    assert figures["decode_median"] > 0.05 > 0.03 > figures["decode_paced_median"]


def test_no_pace_without_repeats_or_clock() -> None:
    steps = measured(drift=True, noise=0.01)
    for known in (steps[steps["repeat"] == 0], steps.drop(columns="at_s"), steps.drop(columns="repeat")):
        assert pace(known).spread == 0.0 and set(pace(known).of(known)) == {1.0}
    assert pace(measured(drift=False, noise=0.0)).spread == pytest.approx(0.0, abs=1e-12)


def test_noise_of_equal_steps() -> None:
    steps = measured(drift=False, noise=0.05)
    assert scatter(steps)["error"].std() == pytest.approx(0.05, rel=0.2)
    assert scatter_figures(steps)["decode_repeat_median"] == pytest.approx(0.67 * 0.05, rel=0.3)
    assert scatter_figures(steps[steps["repeat"] == 0]) == {}
