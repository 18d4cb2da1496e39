"""Which arrival law a trace follows: constant or changing rate, renewal or ON/OFF, by likelihood."""

import math
from collections.abc import Iterator

import numpy as np
from scipy import special

from aladdin_traces.arrival_process import ArrivalProcess
from aladdin_traces.columns import FloatArray
from aladdin_traces.diurnal import Diurnal
from aladdin_traces.fitting.candidates import Candidate
from aladdin_traces.modulated import OnOff
from aladdin_traces.renewals import CV_MAX, CV_MIN, GammaRenewal, Poisson, WeibullRenewal, weibull_shape
from aladdin_traces.stats import index_of_dispersion

_CURVE_BINS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
_PER_BIN = 30  # arrivals that a bin of the rate curve should have on average
_DAY_S = 86_400.0
_SILENCES, _SILENT_SHARE = 5, 0.1
_THRESHOLDS = 16
_WINDOWS_S = (1.0, 10.0, 60.0)
_CLOCK_S = 1e-6  # no clock tells arrivals apart that are closer

Arrivals = Candidate[ArrivalProcess]


def arrival_candidates(arrival_s: FloatArray) -> list[Arrivals]:
    """Fit every law to arrival times, seconds, ascending, at least three different ones.

    Likelihoods are those of the gaps given the first arrival, so that all laws are judged on the same.
    """
    times = _without_ticks(arrival_s)
    gaps = np.maximum(np.diff(times), _CLOCK_S)
    rate = 1.0 / float(gaps.mean())
    found = [
        Candidate("poisson", Poisson(rate), len(gaps) * (math.log(rate) - 1.0), 1, len(gaps)),
        _gamma(gaps, rate),
        _weibull(gaps, rate),
        *_on_off(times, gaps),
    ]
    for period, bins in _curves(float(times[-1]), len(times)):
        found += _rate_curve(times, period, bins)
    return found


def _without_ticks(arrival_s: FloatArray) -> FloatArray:
    """Spread the arrivals evenly within the ticks of a coarse clock, which would look like bursts."""
    gaps = np.diff(arrival_s)
    positive = gaps[gaps > 0.0]
    if np.count_nonzero(gaps == 0.0) < 0.02 * len(gaps) or len(positive) == 0:
        return arrival_s
    tick = float(np.quantile(positive, 0.01))
    spread = arrival_s + np.random.default_rng(0).uniform(0.0, tick, len(arrival_s))
    spread.sort()
    return spread


def _gamma_shape(mean: float, mean_log: float) -> float:
    """Return the shape of most likelihood: where log(shape) - digamma(shape) is log(mean) less the mean logarithm."""
    from scipy.optimize import brentq  # half a second to import

    gap = max(math.log(mean) - mean_log, 1e-9)

    def excess(log_shape: float) -> float:
        shape = math.exp(log_shape)
        return float(log_shape - special.digamma(shape) - gap)

    shape = math.exp(brentq(excess, -12.0, 22.0))
    return min(max(shape, CV_MAX**-2), CV_MIN**-2)


def _gamma_likelihood(gaps: FloatArray, shape: float, mean: float) -> FloatArray:
    scaled = gaps * (shape / mean)
    logs: FloatArray = (shape - 1.0) * np.log(scaled) - scaled - special.gammaln(shape) + math.log(shape / mean)
    return logs


def _gamma(gaps: FloatArray, rate: float) -> Arrivals:
    shape = _gamma_shape(1.0 / rate, float(np.log(gaps).mean()))
    likelihood = float(_gamma_likelihood(gaps, shape, 1.0 / rate).sum())
    return Candidate("gamma", GammaRenewal(rate, shape**-0.5), likelihood, 2, len(gaps))


def _weibull(gaps: FloatArray, rate: float) -> Arrivals:
    """Keep the mean of the gaps and choose the CV of most likelihood."""
    from scipy.optimize import minimize_scalar  # half a second to import

    def loss(log_cv: float) -> float:
        shape = weibull_shape(math.exp(log_cv))
        log_scaled = np.log(gaps * rate) + special.gammaln(1.0 + 1.0 / shape)
        constant = math.log(rate * shape) + special.gammaln(1.0 + 1.0 / shape)
        return -float(((shape - 1.0) * log_scaled - np.exp(shape * log_scaled)).sum() + len(gaps) * constant)

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(50.0)), method="bounded")
    return Candidate("weibull", WeibullRenewal(rate, math.exp(found.x)), -float(found.fun), 2, len(gaps))


def _on_off(times: FloatArray, gaps: FloatArray) -> Iterator[Arrivals]:
    """Call the gaps above a threshold silences; of all thresholds, take the one that meets the dispersions best."""
    seen = {w: index_of_dispersion(times, w) for w in _WINDOWS_S if times[-1] >= 4 * w}
    found = []
    low, high = float(np.quantile(gaps, 0.9)), float(gaps.max())
    for threshold in np.geomspace(max(low, 1e-6), high, _THRESHOLDS, endpoint=False).tolist():
        is_silent = gaps > threshold
        silences, inside = gaps[is_silent], gaps[~is_silent]
        if len(silences) < _SILENCES or silences.sum() < _SILENT_SHARE * gaps.sum() or inside.sum() <= 0.0:
            continue
        law = OnOff(
            on_mean_s=float(inside.sum() / (len(silences) + 1)),
            off_mean_s=float(silences.mean()),
            on_rate_rps=float(1.0 / inside.mean()),
            on_cv=float(np.clip(inside.std() / inside.mean(), CV_MIN, CV_MAX)),
        )
        miss = sum(math.log(law.dispersion(window) / index) ** 2 for window, index in seen.items() if index > 0)
        found.append((miss, law))
    if found:
        law = min(found, key=lambda pair: pair[0])[1]
        yield Candidate("onoff", law, _on_off_likelihood(gaps, law), 4, len(gaps))


def _on_off_likelihood(gaps: FloatArray, law: OnOff) -> float:
    """Treat the gaps as independent: one in so many holds a silence."""
    mean = 1.0 / law.on_rate_rps
    silent = mean / (mean + law.on_mean_s)
    log_mean = math.log(mean) if law.on_cv == 0 else float(np.log(gaps[gaps < law.off_mean_s]).mean())
    shape = _gamma_shape(mean, min(log_mean, math.log(mean)))
    within = math.log1p(-silent) + _gamma_likelihood(gaps, shape, mean)
    longer = law.off_mean_s + mean
    across = math.log(silent / longer) - gaps / longer
    return float(np.logaddexp(within, across).sum())


def _curves(duration_s: float, requests: int) -> Iterator[tuple[float, int]]:
    """Yield period and number of bins of the rate curves worth trying."""
    for bins in _CURVE_BINS:
        if bins * _PER_BIN <= requests:
            yield duration_s, bins
    if duration_s >= 2 * _DAY_S:
        yield _DAY_S, 24


def _rate_curve(times: FloatArray, period_s: float, bins: int) -> list[Arrivals]:
    """Fit a rate that is linear between the middles of bins, with Poisson and with gamma gaps on its clock."""
    observed = np.histogram(times % period_s, bins=bins, range=(0.0, period_s))[0]
    profile = np.maximum(observed, 0.5)
    mean = len(times) / float(times[-1])
    law = Diurnal(mean, tuple((profile / profile.mean()).tolist()), noise_sd=0.0, period_s=period_s)
    grid = np.linspace(0.0, float(times[-1]), min(200_000, 40 * bins * math.ceil(times[-1] / period_s)) + 1)
    rate = law.rate_rps(grid)
    clock = np.concatenate(([0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(grid))))
    at_times = np.maximum(law.rate_rps(times[1:]), 1e-12)
    gaps = np.maximum(np.diff(np.interp(times, grid, clock)), _CLOCK_S * at_times)
    rates_likelihood = float(np.log(at_times).sum())
    shape = _gamma_shape(float(gaps.mean()), float(np.log(gaps).mean()))
    bursty = Diurnal(mean, law.profile, noise_sd=0.0, period_s=period_s, cv=shape**-0.5)
    likelihood = rates_likelihood + float(_gamma_likelihood(gaps, shape, 1.0).sum())
    name = "hours of the day" if period_s == _DAY_S else f"rate curve of {bins}"
    return [
        Candidate(name, law, rates_likelihood - float(gaps.sum()), bins, len(gaps)),
        Candidate(f"{name}, gamma gaps", bursty, likelihood, bins + 1, len(gaps)),
    ]
