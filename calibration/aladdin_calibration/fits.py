"""Choose and fit the laws of time of a worker, and say how far off they are on steps they have not seen.

Which form of a law is taken (the paper's linear one or one of our generalisations, :mod:`aladdin_calibration.forms`)
is decided by cross-validation with whole configurations held out, within the data that the fit may see: the errors of
:func:`held_out_errors` therefore also count the choice of the form. Where the steps tell how the machine's pace drifted
while they were measured (:mod:`aladdin_calibration.repeats`), the laws are fitted to times at its median pace. Where
there was traffic, their level is that at which its steps take as long in total as they did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from aladdin_calibration import forms
from aladdin_calibration.repeats import Pace, pace
from aladdin_calibration.steps import KINDS, TRAFFIC, Array, check_enough, check_rising, check_timed, column, of_kind
from aladdin_env.latency import DecodeLaw, PrefillLaw

STRAGGLER = 1.5  # a step beyond so many times its predicted length counts as one of this length in the total
Fit = Callable[[pd.DataFrame], tuple[PrefillLaw, DecodeLaw]]


@dataclass(frozen=True)
class FittedLaws:
    """The laws of one worker, and the names of the forms that cross-validation chose."""

    prefill: PrefillLaw
    decode: DecodeLaw
    mixed_overlap_s: float
    prefill_form: str
    decode_form: str

    def predict(self, steps: pd.DataFrame) -> Array:
        """Seconds of every step under these laws."""
        return forms.predict(steps, self.prefill, self.decode, self.mixed_overlap_s)


def step_errors(steps: pd.DataFrame, predicted_s: Array, drift: Pace) -> pd.DataFrame:
    """Signed relative errors of every step (0.05: predicted 5 % too long).

    Returns the columns ``kind``, ``config``, ``error`` (as measured) and ``paced`` (at the pace that the machine had
    then: the laws' own error, without the drift that no law of time can know).
    """
    ratio = predicted_s / column(steps, "seconds")
    return steps[["kind", "config"]].assign(error=ratio - 1.0, paced=ratio * drift.of(steps) - 1.0)


def folds(steps: pd.DataFrame, count: int, seed: int = 0) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Split ``count`` times into steps to fit and steps to judge, each configuration in exactly one of the two.

    Every configuration is judged once; the folds get about equally many of each kind. There are never more folds than
    configurations.
    """
    first = steps.groupby("config", sort=True)["kind"].first()
    order = np.random.default_rng(seed).permutation(len(first))
    shuffled = first.iloc[order].sort_values(kind="stable")
    count = min(count, len(shuffled))
    fold = pd.Series(np.arange(len(shuffled)) % count, index=shuffled.index)
    of_row = steps["config"].map(fold)
    for k in range(count):
        yield steps[of_row != k], steps[of_row == k]


def _prefill_alone(form: forms.PrefillForm, steps: pd.DataFrame) -> tuple[PrefillLaw, DecodeLaw]:
    return forms.fit_prefill(steps, form), DecodeLaw.linear(0.0, 0.0, 1.0)


def _decode_alone(form: forms.DecodeForm | None, steps: pd.DataFrame) -> tuple[PrefillLaw, DecodeLaw]:
    return PrefillLaw.linear(0.0, 1.0), forms.fit_decode(steps, form)


def form_errors(steps: pd.DataFrame, count: int = 5, seed: int = 0) -> dict[str, dict[str, Array]]:
    """Held-out relative errors of every form: ``{"prefill": {form: errors}, "decode": {form: errors}}``."""
    fits: dict[str, dict[str, Fit]] = {
        "prefill": {name: partial(_prefill_alone, form) for name, form in forms.PREFILL_FORMS.items()},
        "decode": {name: partial(_decode_alone, form) for name, form in forms.DECODE_FORMS.items()},
    }
    return {
        kind: {name: _held_out(of_kind(steps, kind), fit, count, seed) for name, fit in of_form.items()}
        for kind, of_form in fits.items()
    }


def _held_out(rows: pd.DataFrame, fit: Fit, count: int, seed: int) -> Array:
    parts = [
        forms.predict(test, *fit(train), 0.0) / column(test, "seconds") for train, test in folds(rows, count, seed)
    ]
    return np.concatenate(parts) - 1.0


def _best(errors: dict[str, Array]) -> str:
    scores = {name: forms.score(error) for name, error in errors.items()}
    return min(scores, key=scores.__getitem__)


def _fit(steps: pd.DataFrame, drift: Pace, count: int, seed: int) -> FittedLaws:
    steady = steps.assign(seconds=column(steps, "seconds") / drift.of(steps))
    errors = form_errors(steady, count, seed)
    prefill_form, decode_form = _best(errors["prefill"]), _best(errors["decode"])
    prefill = forms.fit_prefill(steady, forms.PREFILL_FORMS[prefill_form])
    decode = forms.fit_decode(steady, forms.DECODE_FORMS[decode_form])
    launches = not _served(steady).empty  # times that are composed from those of kernels contain none
    prefill, mixed_overlap_s = forms.fit_mixed(steady, prefill, decode, launches)
    laws = forms.lifted(steady, prefill, decode, mixed_overlap_s), decode, mixed_overlap_s
    return FittedLaws(*forms.scaled(*laws, _level(steady, *laws)), prefill_form, decode_form)


def _served(steps: pd.DataFrame) -> pd.DataFrame:
    return steps[steps["config"].str.startswith(TRAFFIC)]


def _level(steps: pd.DataFrame, prefill: PrefillLaw, decode: DecodeLaw, mixed_overlap_s: float) -> float:
    """By how much longer than predicted the steps of traffic took in total; 1 where no traffic was measured.

    What a request waits for is the sum of its steps, stragglers included, whereas a robust fit goes through the middle
    of steps most of which hold one batch for long. Only traffic tells the difference.
    """
    served = _served(steps)
    if served.empty:
        return 1.0
    predicted = forms.predict(served, prefill, decode, mixed_overlap_s)
    return float(np.minimum(column(served, "seconds"), STRAGGLER * predicted).sum() / predicted.sum())


def fit_laws(steps: pd.DataFrame, count: int = 5, seed: int = 0) -> FittedLaws:
    """Fit all laws; of each the form with the least held-out error over ``count`` folds.

    Raises:
        InputError: There are too few steps for a law, or times that stay the same or fall as steps get larger.
    """
    check_enough(steps)
    check_timed(steps)
    check_rising(steps)
    return _fit(steps, pace(steps), count, seed)


def held_out_errors(steps: pd.DataFrame, count: int = 5, seed: int = 0) -> pd.DataFrame:
    """Errors of every step, predicted without its configuration: columns as :func:`step_errors`.

    Laws, their forms and the machine's pace all come from the other configurations alone.

    Raises:
        InputError: There are too few steps for a law.
    """
    check_enough(steps)
    parts = []
    for train, test in folds(steps, count, seed):
        drift = pace(train)
        parts.append(step_errors(test, _fit(train, drift, count, seed + 1).predict(test), drift))
    return pd.concat(parts).sort_index()


def error_figures(errors: pd.DataFrame) -> dict[str, float]:
    """Median and 95th percentile of the absolute relative errors per kind.

    ``prefill_median`` and so on are per step, as measured; ``prefill_configuration_median`` is of the configurations'
    median errors, where they have several steps; ``prefill_paced_median`` is per step at the machine's pace, and
    ``prefill_configuration_paced_median`` both, where a pace was found.
    """
    several = errors.groupby(["kind", "config"]).size().mean() > 1.5
    drifted = not np.array_equal(errors["error"], errors["paced"])
    figures = {}
    for kind in KINDS:
        rows = of_kind(errors, kind)
        per_configuration = rows.groupby("config")[["error", "paced"]].median()
        cases = (
            ("", rows["error"], True),
            ("configuration_", per_configuration["error"], several),
            ("paced_", rows["paced"], drifted),
            ("configuration_paced_", per_configuration["paced"], several and drifted),
        )
        for name, signed, known in cases:
            if known and len(rows):
                figures[f"{kind}_{name}median"] = round(float(signed.abs().quantile(0.5)), 4)
                figures[f"{kind}_{name}p95"] = round(float(signed.abs().quantile(0.95)), 4)
    return figures
