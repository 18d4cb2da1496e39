"""Fit the laws of time to observed steps, and say how far off they are on steps they have not seen.

Observations are a DataFrame with one row per step of continuous batching and these columns (:data:`COLUMNS`):

==================  ====================================================================================
``kind``            ``prefill``, ``decode`` or ``mixed``
``config``          the experiment that the step belongs to; held out as a whole, never split
``prefill_tokens``  prompt tokens computed in the step
``sum_squares``     sum over its chunks of ``n (2 past + n)``, token^2
``batch``           requests that decode in the step
``context_tokens``  tokens of context of these requests together
``seconds``         duration of the step
==================  ====================================================================================

All fits minimise relative errors (unweighted ones miss short steps badly) under a robust loss, with coefficients
that cannot be negative, so that no time ever decreases in tokens or batch. The solvers are scipy's. Which form of a
law is taken (the paper's linear one or one of our generalisations) is decided by cross-validation with whole
configurations held out, within the data that the fit may see: the errors of :func:`held_out_errors` therefore also
count the choice of the form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import Bounds, direct, least_squares, nnls

from aladdin_env.latency import DecodeLaw, PrefillLaw, law_row
from aladdin_env.simulator import laws

COLUMNS = ("kind", "config", "prefill_tokens", "sum_squares", "batch", "context_tokens", "seconds")
KINDS = ("prefill", "decode", "mixed")
ROBUST_SCALE = 0.05  # relative errors well above this one count linearly, not squared
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
SIGNIFICANT_DIGITS = 6

Array = NDArray[np.float64]
Fit = Callable[[pd.DataFrame], tuple[PrefillLaw, DecodeLaw]]


@dataclass(frozen=True)
class PrefillForm:
    """A form of the prefill law: where its slope may change, and whether it has an attention term.

    Without ``bends`` it is the paper's line. With bends the time is constant below the first and every stretch
    between two bends has a slope of its own.
    """

    bends: tuple[float, ...]
    attention: bool


PREFILL_FORMS: dict[str, PrefillForm] = {
    "linear": PrefillForm((), False),
    "linear + attention": PrefillForm((), True),
    "floor 64 + attention": PrefillForm((64.0,), True),
    "floor 128 + attention": PrefillForm((128.0,), True),
    "4 knots + attention": PrefillForm((32.0, 128.0, 512.0, 2048.0), True),
    "5 knots + attention": PrefillForm((64.0, 128.0, 256.0, 512.0, 1024.0), True),
    "8 knots + attention": PrefillForm((16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0), True),
}
DECODE_FORMS = ("linear", "table")


@dataclass(frozen=True)
class FittedLaws:
    """The laws of one worker, and the names of the forms that cross-validation chose."""

    prefill: PrefillLaw
    decode: DecodeLaw
    mixed_overlap_s: float
    prefill_form: str
    decode_form: str


def _column(steps: pd.DataFrame, name: str) -> Array:
    return steps[name].to_numpy(dtype=np.float64)


def _significant(value: float) -> float:
    """``value`` to the digits that a fit can mean, so that rounding in a solver does not show."""
    return float(f"{value:.{SIGNIFICANT_DIGITS - 1}e}")


def _solve(design: Array, seconds: Array) -> Array:
    """Coefficients >= 0 with the least soft-L1 loss of the relative errors ``design @ x / seconds - 1``."""
    relative = design / seconds[:, None]
    size = np.abs(relative).max(axis=0)
    size[size == 0.0] = 1.0
    scaled: Array = np.asarray(relative / size, dtype=np.float64)
    start, _ = nnls(scaled, np.ones(len(seconds)))

    def errors(x: Array) -> Array:
        return np.asarray(scaled @ x - 1.0, dtype=np.float64)

    def jacobian(x: Array) -> Array:
        return scaled

    fit = least_squares(
        errors,
        np.maximum(start, 1e-9),
        jac=jacobian,
        bounds=(0.0, np.inf),
        loss="soft_l1",
        f_scale=ROBUST_SCALE,
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
    )
    coefficients = np.where(fit.x < 1e-8, 0.0, fit.x)
    return np.asarray(coefficients / size, dtype=np.float64)


def _kind(steps: pd.DataFrame, kind: str) -> pd.DataFrame:
    return steps[steps["kind"] == kind]


def _weights(values: Array, knots: Array) -> Array:
    """Row i: how much each knot counts in the linear interpolation at ``values[i]``."""
    return np.stack([np.interp(values, knots, unit) for unit in np.eye(len(knots))], axis=1)


def _rises(weights: Array) -> Array:
    """Columns for the first knot's value and the rises to the next ones, instead of the values themselves."""
    return weights @ np.tril(np.ones((weights.shape[1], weights.shape[1])))


def _supported(candidates: tuple[float, ...], values: Array) -> Array:
    """The ``candidates`` that close a stretch with data in it, and the largest value: no knot is left undetermined."""
    knots = [-np.inf]
    for knot in sorted({c for c in candidates if c < values.max()}):
        if np.any((values > knots[-1]) & (values <= knot)):
            knots.append(knot)
    return np.array([*knots[1:], values.max()])


def fit_prefill(steps: pd.DataFrame, form: PrefillForm) -> PrefillLaw:
    """The prefill law of this form that is nearest to the observed prefill steps."""
    rows = _kind(steps, "prefill")
    tokens, squares, seconds = (_column(rows, c) for c in ("prefill_tokens", "sum_squares", "seconds"))
    attention = squares[:, None] if form.attention else np.empty((len(rows), 0))
    if not form.bends:
        x = _solve(np.column_stack([np.ones(len(rows)), tokens, attention]), seconds)
        end = float(tokens.max())
        knots, values = np.array([0.0, end]), np.array([x[0], x[0] + x[1] * end])
    else:
        knots = _supported(form.bends, tokens)
        design = _rises(_weights(tokens, knots))
        x = _solve(np.column_stack([design, attention]), seconds)
        values = np.cumsum(x[: len(knots)])
    factor = float(x[-1]) if form.attention else 0.0
    return PrefillLaw(tuple(knots.tolist()), tuple(_significant(v) for v in values), _significant(factor))


def fit_decode(steps: pd.DataFrame, form: str) -> DecodeLaw:
    """The decode law of this form (``linear`` or ``table``) that is nearest to the observed decode steps."""
    rows = _kind(steps, "decode")
    batch, context, seconds = (_column(rows, c) for c in ("batch", "context_tokens", "seconds"))
    if form == "linear":
        x = _solve(np.column_stack([context, batch, np.ones(len(rows))]), seconds)
        line = DecodeLaw.linear(*(_significant(v) for v in x))
        return replace(line, alpha_s=tuple(map(_significant, line.alpha_s)))
    sizes = _supported((float(batch.min()), *BATCH_SIZES), batch)
    design = _rises(_weights(batch, sizes))
    x = _solve(np.column_stack([design, design * (context / batch)[:, None]]), seconds)
    alpha = [_significant(v) for v in np.cumsum(x[: len(sizes)])]
    per_mean_token = [_significant(v) for v in np.cumsum(x[len(sizes) :])]  # batch x beta, which must not fall
    beta = [value / float(size) for value, size in zip(per_mean_token, sizes, strict=True)]
    return DecodeLaw(tuple(int(b) for b in sizes), tuple(alpha), tuple(beta))


def fit_overlap(steps: pd.DataFrame, prefill: PrefillLaw, decode: DecodeLaw) -> float:
    """Seconds that a mixed step saves against its two parts one after the other; 0 without mixed steps."""
    rows = _kind(steps, "mixed")
    if rows.empty:
        return 0.0
    seconds = _column(rows, "seconds")
    parts = [predict(rows.assign(kind=kind), prefill, decode, 0.0) for kind in ("prefill", "decode")]
    most = float(np.minimum(*parts).max())

    def loss(x: Array) -> float:
        return _score(predict(rows, prefill, decode, float(x[0])) / seconds - 1.0)

    best = direct(loss, Bounds([0.0], [most]), maxfun=200)
    return _significant(float(best.x[0]))


def predict(steps: pd.DataFrame, prefill: PrefillLaw, decode: DecodeLaw, mixed_overlap_s: float) -> Array:
    """Seconds of every step under these laws, by the compiled law functions that the simulator calls."""
    row = law_row(prefill, decode, mixed_overlap_s, max(1, int(steps["batch"].max()))).reshape(1, -1)
    times = {
        "prefill": lambda n, squares, batch, context: laws.prefill_time(row, 0, n, squares),
        "decode": lambda n, squares, batch, context: laws.decode_time(row, 0, batch, context),
        "mixed": lambda n, squares, batch, context: laws.mixed_time(row, 0, n, squares, batch, context),
    }
    columns = (_column(steps, c).tolist() for c in ("prefill_tokens", "sum_squares", "batch", "context_tokens"))
    return np.array(
        [times[k](n, squares, int(b), c) for k, n, squares, b, c in zip(steps["kind"], *columns, strict=True)]
    )


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


def _score(errors: Array) -> float:
    """The mean of the robust loss that the fits minimise; forms are chosen by it, too."""
    scaled = errors / ROBUST_SCALE
    return float(np.mean(np.sqrt(1.0 + scaled * scaled) - 1.0))


def _prefill_alone(form: PrefillForm, steps: pd.DataFrame) -> tuple[PrefillLaw, DecodeLaw]:
    return fit_prefill(steps, form), DecodeLaw.linear(0.0, 0.0, 1.0)


def _decode_alone(form: str, steps: pd.DataFrame) -> tuple[PrefillLaw, DecodeLaw]:
    return PrefillLaw.linear(0.0, 1.0), fit_decode(steps, form)


def form_errors(steps: pd.DataFrame, count: int = 5, seed: int = 0) -> dict[str, dict[str, Array]]:
    """Held-out relative errors of every form: ``{"prefill": {form: errors}, "decode": {form: errors}}``."""
    fits: dict[str, dict[str, Fit]] = {
        "prefill": {name: partial(_prefill_alone, form) for name, form in PREFILL_FORMS.items()},
        "decode": {name: partial(_decode_alone, name) for name in DECODE_FORMS},
    }
    return {
        kind: {name: _held_out(_kind(steps, kind), fit, count, seed) for name, fit in of_kind.items()}
        for kind, of_kind in fits.items()
    }


def _held_out(rows: pd.DataFrame, fit: Fit, count: int, seed: int) -> Array:
    parts = [predict(test, *fit(train), 0.0) / _column(test, "seconds") for train, test in folds(rows, count, seed)]
    return np.concatenate(parts) - 1.0


def _best(errors: dict[str, Array]) -> str:
    scores = {name: _score(error) for name, error in errors.items()}
    return min(scores, key=scores.__getitem__)


def fit_laws(steps: pd.DataFrame, count: int = 5, seed: int = 0) -> FittedLaws:
    """Fit all laws; of each the form with the least held-out error over ``count`` folds."""
    errors = form_errors(steps, count, seed)
    prefill_form, decode_form = _best(errors["prefill"]), _best(errors["decode"])
    prefill = fit_prefill(steps, PREFILL_FORMS[prefill_form])
    decode = fit_decode(steps, decode_form)
    return FittedLaws(prefill, decode, fit_overlap(steps, prefill, decode), prefill_form, decode_form)


def held_out_errors(steps: pd.DataFrame, count: int = 5, seed: int = 0) -> pd.DataFrame:
    """Signed relative errors of every step, predicted by laws fitted without its configuration.

    Returns the columns ``kind``, ``config`` and ``error`` (0.05: predicted 5 % too long).
    """
    parts = []
    for train, test in folds(steps, count, seed):
        fitted = fit_laws(train, count, seed + 1)
        seconds = predict(test, fitted.prefill, fitted.decode, fitted.mixed_overlap_s)
        parts.append(test[["kind", "config"]].assign(error=seconds / _column(test, "seconds") - 1.0))
    return pd.concat(parts).sort_index()


def error_figures(errors: pd.DataFrame) -> dict[str, float]:
    """Median and 95th percentile of the absolute relative errors per kind, as ``prefill_median`` and so on."""
    figures = {}
    for kind in KINDS:
        absolute = _kind(errors, kind)["error"].abs()
        if len(absolute):
            figures[f"{kind}_median"] = round(float(absolute.quantile(0.5)), 4)
            figures[f"{kind}_p95"] = round(float(absolute.quantile(0.95)), 4)
    return figures
