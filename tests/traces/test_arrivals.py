"""Arrival processes against closed forms; the tolerances are about four standard errors at these sample sizes."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aladdin_traces import (
    PROFILES,
    ArrivalProcess,
    Diurnal,
    Flood,
    GammaRenewal,
    InputError,
    OnOff,
    Poisson,
    gap_cv,
    index_of_dispersion,
    read_trace,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
LAWS: list[ArrivalProcess] = [
    Poisson(40.0),
    GammaRenewal(40.0, 3.0),
    GammaRenewal(40.0, 0.2),
    OnOff(),
    Flood(5.0, 100.0, 1800.0, 120.0),
    Diurnal(20.0),
    Diurnal(20.0, (1.0, 0.0, 3.0), noise_sd=0.0, start_s=100.0, period_s=600.0),
]


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("horizon_s", [0.01, 50.0, 3600.0])
def test_times_are_sorted_within_the_horizon_and_reproducible(law: ArrivalProcess, horizon_s: float) -> None:
    times = law.sample(rng(), horizon_s)
    assert times.dtype == np.float64
    assert (np.diff(times) >= 0).all()
    assert ((times >= 0) & (times < horizon_s)).all()
    assert np.array_equal(times, law.sample(rng(), horizon_s))
    if len(times) > 10:
        assert not np.array_equal(times, law.sample(rng(8), horizon_s))


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_rate_scales(law: ArrivalProcess) -> None:
    assert law.with_rate(3.5).mean_rate_rps == pytest.approx(3.5, rel=1e-12)
    assert law.scaled(2.0).mean_rate_rps == pytest.approx(2 * law.mean_rate_rps, rel=1e-12)
    assert type(law.with_rate(3.5)) is type(law)
    assert pickle.loads(pickle.dumps(law)) == law
    with pytest.raises(InputError, match="rate_rps: 0"):
        law.with_rate(0)


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("horizon_s", [0.0, -1.0, math.nan, math.inf, "60", 1e12])
def test_bad_horizons(law: ArrivalProcess, horizon_s: float) -> None:
    with pytest.raises(InputError, match="horizon_s: "):
        law.sample(rng(), horizon_s)


def test_poisson() -> None:
    times = Poisson(50.0).sample(rng(), 20_000.0)
    assert len(times) / 20_000.0 == pytest.approx(50.0, rel=4e-3)
    assert gap_cv(times) == pytest.approx(1.0, abs=5e-3)
    assert index_of_dispersion(times, 1.0, 20_000.0) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("cv", [0.1, 0.5, 1.0, 3.0, 8.0])
def test_gamma_renewal(cv: float) -> None:
    times = GammaRenewal(50.0, cv).sample(rng(), 20_000.0)
    assert len(times) / 20_000.0 == pytest.approx(50.0, rel=4e-3 * max(cv, 0.1))
    assert gap_cv(times) == pytest.approx(cv, rel=0.03)
    # Over windows of many gaps the dispersion of a renewal process tends to the squared CV of its gaps.
    assert index_of_dispersion(times, 40.0, 20_000.0) == pytest.approx(cv**2, rel=0.3)


@pytest.mark.parametrize("cv", [0.3, 5.0])
def test_gamma_renewal_has_its_rate_from_the_first_second_on(cv: float) -> None:
    source, law = rng(), GammaRenewal(2.0, cv)
    counts = [len(law.sample(source, 1.0)) for _ in range(4000)]
    assert np.mean(counts) == pytest.approx(2.0, abs=4 * float(np.std(counts)) / math.sqrt(len(counts)))


def test_extreme_cv_of_a_gamma_renewal() -> None:
    assert len(GammaRenewal(10.0, 1e-3).sample(rng(), 1000.0)) in (9999, 10000, 10001)
    wild = [len(GammaRenewal(10.0, 100.0).sample(rng(seed), 1000.0)) for seed in range(200)]
    assert np.mean(wild) == pytest.approx(10_000, abs=4 * float(np.std(wild)) / math.sqrt(200))


def onoff_dispersion(law: OnOff, window_s: float) -> float:
    """Index of dispersion of counts of an interrupted Poisson process (on_cv = 1)."""
    speed = 1 / law.on_mean_s + 1 / law.off_mean_s
    off_share = law.off_mean_s / (law.on_mean_s + law.off_mean_s)
    memory = 1 / speed - (1 - math.exp(-speed * window_s)) / (speed**2 * window_s)
    return 1 + 2 * law.on_rate_rps * off_share * memory


@pytest.mark.parametrize("window_s", [1.0, 10.0, 60.0])
def test_onoff_with_poisson_bursts(window_s: float) -> None:
    law = OnOff(on_cv=1.0)
    times = law.sample(rng(), 1e6)
    assert len(times) / 1e6 == pytest.approx(law.mean_rate_rps, rel=0.03)
    assert index_of_dispersion(times, window_s, 1e6) == pytest.approx(onoff_dispersion(law, window_s), rel=0.06)


def test_onoff_defaults_are_as_bursty_as_azure_code() -> None:
    law = OnOff()
    times = law.sample(rng(), 1e6)
    assert law.mean_rate_rps == pytest.approx(2.57, rel=0.03)
    assert gap_cv(times) == pytest.approx(13.15, rel=0.1)
    for window_s, azure in ((1.0, 13), (10.0, 72), (60.0, 167)):
        assert index_of_dispersion(times, window_s, 1e6) == pytest.approx(azure, rel=0.25)


def test_onoff_starts_in_equilibrium() -> None:
    source, law = rng(), OnOff()
    counts = [len(law.sample(source, 5.0)) for _ in range(4000)]
    assert np.mean(counts) == pytest.approx(5.0 * law.mean_rate_rps, abs=4 * float(np.std(counts)) / math.sqrt(4000))
    assert 0 in counts


def test_flood() -> None:
    law = Flood(base_rps=2.0, flood_rps=60.0, every_s=1000.0, lasts_s=100.0)
    assert law.mean_rate_rps == pytest.approx(7.8)
    times = law.sample(rng(), 1e6)
    assert len(times) / 1e6 == pytest.approx(7.8, rel=0.15)
    per_second = np.bincount(times.astype(int), minlength=1_000_000)
    # The two rates are so far apart that the count of one second tells a flood from quiet.
    flood = per_second > 25
    assert flood.mean() == pytest.approx(0.1, rel=0.18)
    assert per_second[~flood].mean() == pytest.approx(2.0, rel=0.02)
    assert per_second[flood].mean() == pytest.approx(60.0, rel=0.02)


@pytest.mark.parametrize("profile", PROFILES)
def test_diurnal_follows_its_profile(profile: str) -> None:
    law = Diurnal(50.0, profile, noise_sd=0.0, period_s=7200.0)
    times = law.sample(rng(), 144_000.0)
    assert len(times) / 144_000.0 == pytest.approx(50.0, rel=2e-3)
    by_hour = np.bincount((times % 7200.0 // 300.0).astype(int)) / 20 / 300.0
    hours = np.array(PROFILES[profile]) / np.mean(PROFILES[profile]) * 50.0
    # The mean over an hour of the line through the middles of the hours.
    expected = (np.roll(hours, 1) + 6 * hours + np.roll(hours, -1)) / 8
    assert by_hour == pytest.approx(expected, rel=0.02)


def test_diurnal_peak_over_mean_of_the_azure_week() -> None:
    conv, code = (np.array(PROFILES[f"azure-{name}-weekday"]) for name in ("conv", "code"))
    assert conv.max() / conv.min() == pytest.approx(2.0, abs=0.1)
    assert 9 <= code.max() / code.min() <= 11


def test_diurnal_starts_at_its_time_of_day() -> None:
    law = Diurnal(10.0, (0.0, 0.0, 1.0, 1.0), noise_sd=0.0, start_s=1250.0, period_s=2000.0)
    # The middles of the four parts lie at 250, 750, 1250 and 1750 s of the period.
    at = np.array([0.0, 500.0, 750.0, 1000.0, 1500.0, 1750.0, 2000.0])
    assert law.rate_rps(at) == pytest.approx([20, 20, 10, 0, 0, 10, 20])
    times = law.sample(rng(), 2000.0)
    assert len(times) == pytest.approx(20_000, abs=600)
    assert not ((times > 1000.0) & (times < 1500.0)).any()


def test_diurnal_without_noise_is_locally_poisson() -> None:
    times = Diurnal(30.0, noise_sd=0.0).sample(rng(), 86_400.0)
    assert index_of_dispersion(times[times < 1800.0], 1.0, 1800.0) == pytest.approx(1.0, abs=0.15)


def test_diurnal_noise_is_a_lognormal_ar1() -> None:
    law = Diurnal(100.0, (1.0, 1.0), noise_sd=0.3, noise_acf=0.88, period_s=1440.0)  # a step lasts 10 s
    counts = np.bincount((law.sample(rng(), 100_000.0) // 10.0).astype(int), minlength=10_000)
    logs = np.log(counts / 1000.0)
    counting = 1 / 1000.0  # variance of the logarithm of a Poisson count
    assert counts.mean() == pytest.approx(1000.0, rel=0.05)
    assert logs.std() == pytest.approx(math.sqrt(0.09 + counting), rel=0.1)
    assert np.corrcoef(logs[1:], logs[:-1])[0, 1] == pytest.approx(0.88 * 0.09 / (0.09 + counting), abs=0.02)
    assert np.diff(logs).std() == pytest.approx(math.hypot(0.147, math.sqrt(2 * counting)), rel=0.05)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Poisson(0.0), "rate_rps: 0.0"),
        (lambda: Poisson("40"), "rate_rps: '40'"),  # type: ignore[arg-type]
        (lambda: Poisson(math.nan), "rate_rps: nan"),
        (lambda: Poisson(True), "rate_rps: True"),
        (lambda: GammaRenewal(1.0, 0.0), "cv: 0.0"),
        (lambda: GammaRenewal(1.0, 101.0), "cv: 101.0 .*<= 100"),
        (lambda: GammaRenewal(-1.0, 1.0), "rate_rps: -1.0"),
        (lambda: OnOff(on_mean_s=0.0), "on_mean_s: 0.0"),
        (lambda: OnOff(off_mean_s=-1.0), "off_mean_s: -1.0"),
        (lambda: OnOff(on_rate_rps=math.inf), "on_rate_rps: inf"),
        (lambda: OnOff(on_cv=None), "on_cv: None"),  # type: ignore[arg-type]
        (lambda: Flood(0.0, 1.0, 2.0, 1.0), "base_rps: 0.0"),
        (lambda: Flood(2.0, 2.0, 2.0, 1.0), "flood_rps: 2.0 .*> 2"),
        (lambda: Flood(1.0, 2.0, 2.0, 0.0), "lasts_s: 0.0"),
        (lambda: Flood(1.0, 2.0, 2.0, 2.0), "every_s: 2.0 .*> 2"),
        (lambda: Diurnal(0.0), "mean_rps: 0.0"),
        (lambda: Diurnal(1.0, "azure-conv-weekdays"), "profile: .*did you mean 'azure-conv-weekday'"),
        (lambda: Diurnal(1.0, (1.0,)), r"profile: \(1.0,\)"),
        (lambda: Diurnal(1.0, (0.0, 0.0)), "profile: .*not all 0"),
        (lambda: Diurnal(1.0, (1.0, -1.0)), r"profile\[1\]: -1.0"),
        (lambda: Diurnal(1.0, 5), "profile: 5"),  # type: ignore[arg-type]
        (lambda: Diurnal(1.0, noise_sd=-0.1), "noise_sd: -0.1"),
        (lambda: Diurnal(1.0, noise_acf=1.0), "noise_acf: 1.0"),
        (lambda: Diurnal(1.0, start_s=-1.0), "start_s: -1.0"),
        (lambda: Diurnal(1.0, period_s=0.0), "period_s: 0.0"),
    ],
)
def test_bad_parameters(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_bad_statistics() -> None:
    with pytest.raises(InputError, match="window_s: 6"):
        index_of_dispersion(np.array([1.0]), 6.0, 10.0)
    with pytest.raises(InputError, match="horizon_s: None"):
        index_of_dispersion(np.empty(0), 1.0)
    with pytest.raises(InputError, match="no arrival"):
        index_of_dispersion(np.empty(0), 1.0, 10.0)
    with pytest.raises(InputError, match="two different times"):
        gap_cv(np.array([1.0, 1.0]))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public trace files are not beside the project")
@pytest.mark.parametrize(("service", "figures"), [("conv", (1.4, 3.9, 16)), ("code", (13, 72, 167))])
def test_dispersion_of_the_azure_traces(service: str, figures: tuple[float, ...]) -> None:
    times = read_trace(SHARED / f"azure2023_{service}.csv.gz").arrival_s
    for window_s, figure in zip((1.0, 10.0, 60.0), figures, strict=True):
        assert index_of_dispersion(times, window_s) == pytest.approx(figure, rel=0.03)
