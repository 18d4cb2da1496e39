"""Forms of the laws of time, and the fit of each to observed steps (:mod:`aladdin_calibration.steps`).

All fits minimise relative errors (unweighted ones miss short steps badly) under a robust loss, with coefficients
that cannot be negative, so that no time ever decreases in tokens or batch. The solvers are scipy's. The linear forms
are the paper's; the knots, tables, the floor and the overlap of mixed steps are our generalisation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, brentq, direct, least_squares, nnls

from aladdin_calibration.steps import Array, column, of_kind
from aladdin_env.compiled import compiled
from aladdin_env.latency import DecodeLaw, PrefillLaw, law_row
from aladdin_env.simulator import laws

ROBUST_SCALE = 0.05  # relative errors well above this one count linearly, not squared
SIGNIFICANT_DIGITS = 6
GRAPH_SIZES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
FEW_SIZES = (1, 4, 16, 64, 256, 1024)
_WORTH_A_FLOOR = 0.95  # of the loss without
_SLOWEST = 2.0  # times the floor: it is lifted no further, and a step that takes longer counts as one of that length


@dataclass(frozen=True)
class PrefillForm:
    """A form of the prefill law: where its slope may change, and whether it has an attention term.

    Without ``bends`` it is the paper's line. With bends the time is constant below the first and every stretch
    between two bends has a slope of its own.
    """

    bends: tuple[float, ...]
    attention: bool


@dataclass(frozen=True)
class DecodeForm:
    """A form of the decode law: batch sizes at which alpha and batch x beta may bend; no beta sizes: one beta."""

    alpha: tuple[int, ...]
    beta: tuple[int, ...]


PREFILL_FORMS: dict[str, PrefillForm] = {
    "linear": PrefillForm((), False),
    "linear + attention": PrefillForm((), True),
    "floor 64 + attention": PrefillForm((64.0,), True),
    "floor 128 + attention": PrefillForm((128.0,), True),
    "4 knots + attention": PrefillForm((32.0, 128.0, 512.0, 2048.0), True),
    "5 knots + attention": PrefillForm((64.0, 128.0, 256.0, 512.0, 1024.0), True),
    "8 knots + attention": PrefillForm((16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0), True),
}
DECODE_FORMS: dict[str, DecodeForm | None] = {
    "linear": None,
    "line, few slopes of context": DecodeForm((), FEW_SIZES),
    "few sizes": DecodeForm(FEW_SIZES, FEW_SIZES),
    "table": DecodeForm(GRAPH_SIZES, GRAPH_SIZES),
}


def _significant(value: float) -> float:
    """``value`` to the digits that a fit can mean, so that rounding in a solver does not show."""
    return float(f"{value:.{SIGNIFICANT_DIGITS - 1}e}")


def score(errors: Array) -> float:
    """The mean of the robust loss that the fits minimise; forms are chosen by it, too."""
    scaled = errors / ROBUST_SCALE
    return float(np.mean(np.sqrt(1.0 + scaled * scaled) - 1.0))


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


def _rises(values: Array, knots: Array) -> Array:
    """Row i: how much the first knot's value and each rise to the next knot count in the interpolation at i."""
    weights = np.stack([np.interp(values, knots, unit) for unit in np.eye(len(knots))], axis=1)
    return weights @ np.tril(np.ones((len(knots), len(knots))))


def _supported(candidates: tuple[float, ...], values: Array) -> Array:
    """The ``candidates`` that close a stretch with data in it, and the largest value: no knot is left undetermined."""
    knots = [-np.inf]
    for knot in sorted({c for c in candidates if c < values.max()}):
        if np.any((values > knots[-1]) & (values <= knot)):
            knots.append(knot)
    return np.array([*knots[1:], values.max()])


def fit_prefill(steps: pd.DataFrame, form: PrefillForm) -> PrefillLaw:
    """The prefill law of this form that is nearest to the observed prefill steps."""
    rows = of_kind(steps, "prefill")
    tokens, squares, seconds = (column(rows, c) for c in ("prefill_tokens", "sum_squares", "seconds"))
    attention = squares[:, None] if form.attention else np.empty((len(rows), 0))
    if not form.bends:
        x = _solve(np.column_stack([np.ones(len(rows)), tokens, attention]), seconds)
        end = float(tokens.max())
        knots, values = np.array([0.0, end]), np.array([x[0], x[0] + x[1] * end])
    else:
        knots = _supported(form.bends, tokens)
        x = _solve(np.column_stack([_rises(tokens, knots), attention]), seconds)
        values = np.cumsum(x[: len(knots)])
    factor = float(x[-1]) if form.attention else 0.0
    return PrefillLaw(tuple(knots.tolist()), tuple(_significant(v) for v in values), _significant(factor))


def fit_decode(steps: pd.DataFrame, form: DecodeForm | None) -> DecodeLaw:
    """The decode law of this form (None: the paper's line) that is nearest to the observed decode steps."""
    rows = of_kind(steps, "decode")
    batch, context, seconds = (column(rows, c) for c in ("batch", "context_tokens", "seconds"))
    if form is None:
        x = _solve(np.column_stack([context, batch, np.ones(len(rows))]), seconds)
        line = DecodeLaw.linear(*(_significant(v) for v in x))
        return replace(line, alpha_s=tuple(map(_significant, line.alpha_s)))
    alpha_sizes, beta_sizes = (_supported((float(batch.min()), *of), batch) for of in (form.alpha, form.beta))
    mean_context = _rises(batch, beta_sizes) * (context / batch)[:, None]
    x = _solve(np.column_stack([_rises(batch, alpha_sizes), mean_context]), seconds)
    sizes = np.union1d(alpha_sizes, beta_sizes)
    alpha = np.interp(sizes, alpha_sizes, np.cumsum(x[: len(alpha_sizes)]))
    per_mean_token = np.interp(sizes, beta_sizes, np.cumsum(x[len(alpha_sizes) :]))  # batch x beta, never falling
    beta = [_significant(v) / size for v, size in zip(per_mean_token.tolist(), sizes.tolist(), strict=True)]
    return DecodeLaw(tuple(map(int, sizes)), tuple(map(_significant, alpha)), tuple(beta))


def fit_mixed(steps: pd.DataFrame, prefill: PrefillLaw, decode: DecodeLaw, launches: bool) -> tuple[PrefillLaw, float]:
    """The prefill law with the floor that decodes hide in, and seconds that a mixed step saves beside that.

    Without mixed steps there is neither. A floor is looked for where ``launches`` were part of what was timed, and
    taken where it makes the loss clearly less.
    """
    rows = of_kind(steps, "mixed")
    if rows.empty:
        return prefill, 0.0
    overlap_s, least = _overlap(rows, prefill, decode)
    found = prefill, overlap_s
    for tokens in prefill.floor_ends if launches else ():
        with_floor = replace(prefill, floor_tokens=tokens)
        overlap_s, loss = _overlap(rows, with_floor, decode)
        if loss < _WORTH_A_FLOOR * least:
            found, least = (with_floor, overlap_s), loss
    return found


def lifted(steps: pd.DataFrame, prefill: PrefillLaw, decode: DecodeLaw, mixed_overlap_s: float) -> PrefillLaw:
    """The law with its floor so high that the steps within it take as long in total as they did; never lower.

    Launches are the CPU's work, which may take twice as long for seconds at a time; a robust fit goes through its
    better moments.
    """
    within = steps[(steps["kind"] != "decode") & (steps["prefill_tokens"] <= prefill.floor_tokens)]
    if within.empty:
        return prefill
    seconds = column(within, "seconds")
    lowest_s = prefill.knots_s[0]
    highest_s = min(_SLOWEST * lowest_s, 0.999 * prefill.knots_s[prefill.knots_tokens.index(prefill.floor_tokens) + 1])

    def lack_s(floor_s: float) -> float:
        predicted = predict(within, _with_floor(prefill, floor_s), decode, mixed_overlap_s)
        return float((np.minimum(seconds, _SLOWEST * predicted) - predicted).sum())

    if lowest_s >= highest_s or lack_s(lowest_s) <= 0.0:
        return prefill
    level_s = highest_s if lack_s(highest_s) >= 0.0 else float(brentq(lack_s, lowest_s, highest_s, rtol=1e-6))
    return _with_floor(prefill, _significant(level_s))


def _with_floor(prefill: PrefillLaw, floor_s: float) -> PrefillLaw:
    """The law where it takes longer than ``floor_s``, else that; the line of the work stays as it is."""
    end = float(np.interp(floor_s, prefill.knots_s, prefill.knots_tokens))
    kept = [knot for knot in zip(prefill.knots_tokens, prefill.knots_s, strict=True) if knot[0] > end]
    tokens, seconds = zip((end, floor_s), *kept, strict=True)
    return replace(prefill, knots_tokens=tokens, knots_s=seconds, floor_tokens=max(end, prefill.floor_tokens))


def _overlap(mixed: pd.DataFrame, prefill: PrefillLaw, decode: DecodeLaw) -> tuple[float, float]:
    """Seconds that a mixed step saves beside what hides in the floor, and the loss that is left."""
    seconds = column(mixed, "seconds")
    row = law_row(prefill, decode, 0.0, int(mixed["batch"].max())).reshape(1, -1)
    work = _work(mixed)
    parts = [predict(mixed.assign(**{nothing: 0}), prefill, decode, 0.0) for nothing in ("batch", "prefill_tokens")]

    def loss(x: Array) -> float:
        row[0, laws.MIXED_OVERLAP] = x[0]
        return score(_step_times(row, work) / seconds - 1.0)

    best = direct(loss, Bounds([0.0], [float(np.minimum(*parts).max())]), maxfun=200)
    return _significant(float(best.x[0])), float(best.fun)


def scaled(
    prefill: PrefillLaw, decode: DecodeLaw, mixed_overlap_s: float, factor: float
) -> tuple[PrefillLaw, DecodeLaw, float]:
    """The laws with all times multiplied."""
    knots, alpha, beta = (
        tuple(factor * value for value in values)
        for values in (prefill.knots_s, decode.alpha_s, decode.beta_s_per_token)
    )
    return (
        replace(prefill, knots_s=knots, attention_s_per_token2=factor * prefill.attention_s_per_token2),
        replace(decode, alpha_s=alpha, beta_s_per_token=beta),
        factor * mixed_overlap_s,
    )


def predict(steps: pd.DataFrame, prefill: PrefillLaw, decode: DecodeLaw, mixed_overlap_s: float) -> Array:
    """Seconds of every step under these laws, by the compiled law functions that the simulator calls."""
    row = law_row(prefill, decode, mixed_overlap_s, max(1, int(steps["batch"].max()))).reshape(1, -1)
    return _step_times(row, _work(steps))


def _work(steps: pd.DataFrame) -> Array:
    columns = ("prefill_tokens", "sum_squares", "batch", "context_tokens")
    return np.ascontiguousarray(steps[list(columns)].to_numpy(dtype=np.float64))


def _step_times(row: Array, work: Array) -> Array:
    times = np.empty(len(work))
    _fill_step_times(row, work, times)
    return times


@compiled
def _fill_step_times(row: Array, work: Array, times: Array) -> None:
    for i in range(len(times)):
        tokens, squares, size, context = work[i, 0], work[i, 1], int(work[i, 2]), work[i, 3]
        if size == 0:
            times[i] = laws.prefill_time(row, 0, tokens, squares)
        elif tokens == 0.0:
            times[i] = laws.decode_time(row, 0, size, context)
        else:
            times[i] = laws.mixed_time(row, 0, tokens, squares, size, context)
