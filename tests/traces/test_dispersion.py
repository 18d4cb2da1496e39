"""Index of dispersion: closed forms against long samples, and laws solved for a wanted index."""

import numpy as np
import pytest

from aladdin_traces import (
    ArrivalProcess,
    Diurnal,
    Flood,
    GammaRenewal,
    InputError,
    Mmpp,
    OnOff,
    Poisson,
    WeibullRenewal,
    Workload,
    gap_cv,
    index_of_dispersion,
)

BURSTY: list[ArrivalProcess] = [
    GammaRenewal(5.0, 3.0),
    GammaRenewal(5.0, 0.5),
    WeibullRenewal(5.0, 3.0),
    OnOff(on_cv=1.0),
    OnOff(),
    Mmpp((1.0, 10.0), (50.0, 20.0)),
    Mmpp((1.0, 10.0, 100.0, 0.0), (50.0, 20.0, 2.0, 10.0)),
    Flood(1.0, 20.0, 600.0, 60.0),
    Diurnal(5.0, period_s=7200.0, noise_sd=0.5),
    Diurnal(5.0, period_s=7200.0, cv=2.5, spike_share=0.05, weekend=0.5),
]


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("law", BURSTY, ids=repr)
@pytest.mark.parametrize("window_s", [0.3, 10.0])
def test_dispersion_is_that_of_a_long_sample(law: ArrivalProcess, window_s: float) -> None:
    horizon = 400_000.0
    found = index_of_dispersion(law.sample(rng(), horizon), window_s, horizon)
    assert law.dispersion(window_s) == pytest.approx(found, rel=0.1)


@pytest.mark.parametrize(
    ("law", "index", "window_s"),
    [
        (GammaRenewal(5.0, 1.0), 3.9, 10.0),
        (WeibullRenewal(5.0, 2.0), 3.9, 10.0),
        (OnOff(on_cv=1.0), 20.0, 10.0),
        (OnOff(), 40.0, 10.0),
        (Mmpp((4.0, 8.0), (350.0, 350.0)), 16.0, 60.0),
        (Flood(1.0, 20.0, 600.0, 60.0), 5.0, 10.0),
        (Diurnal(5.0, period_s=86_400.0), 16.0, 60.0),
    ],
    ids=lambda value: str(value),
)
def test_a_wanted_dispersion_is_met_at_the_same_rate(law: ArrivalProcess, index: float, window_s: float) -> None:
    found = law.with_dispersion(index, window_s)
    assert type(found) is type(law)
    assert found.dispersion(window_s) == pytest.approx(index, rel=0.01)
    assert found.mean_rate_rps == pytest.approx(law.mean_rate_rps, rel=1e-9)


def test_long_windows_of_gamma_gaps_have_the_square_of_the_cv() -> None:
    assert GammaRenewal(50.0, 4.0).dispersion(1e5) == pytest.approx(16.0, rel=0.01)
    assert Poisson(3.0).dispersion(7.0) == 1.0
    assert GammaRenewal(3.0, 1.0).dispersion(7.0) == pytest.approx(1.0, abs=1e-9)
    assert Mmpp((2.0, 2.0), (1.0, 5.0)).dispersion(7.0) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("law", "index", "window_s", "message"),
    [
        (Poisson(1.0), 2.0, 1.0, "choose gamma"),
        (GammaRenewal(1.0, 2.0), 1e9, 1.0, "gamma can have"),
        (GammaRenewal(1.0, 2.0), -1.0, 1.0, "index: -1"),
        (GammaRenewal(1.0, 2.0), 2.0, 0.0, "window_s: 0"),
        (OnOff(), 1e4, 1.0, "onoff can have"),
    ],
)
def test_what_cannot_be_had(law: ArrivalProcess, index: float, window_s: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        law.with_dispersion(index, window_s)


def test_a_table_may_name_the_dispersion() -> None:
    table = {"kind": "gamma", "rate_rps": 5.0, "cv": 1.0, "dispersion": {"index": 3.9, "window_s": 10}}
    workload = Workload.from_dict({"arrivals": table, "lengths": "sharegpt"})
    assert workload.arrivals is not None
    assert workload.arrivals.dispersion(10.0) == pytest.approx(3.9, rel=1e-4)
    for bad, message in (
        (5, r"arrivals\.dispersion\.table: 5"),
        ({"index": 2.0}, "both index and window_s"),
        ({"index": 2.0, "windows": 1}, "did you mean 'window_s'"),
        ({"index": "2", "window_s": 1}, r"arrivals\.dispersion\.index: '2'"),
    ):
        with pytest.raises(InputError, match=message):
            Workload.from_dict({"arrivals": {**table, "dispersion": bad}, "lengths": "sharegpt"})


@pytest.mark.parametrize("cv", [0.1, 0.5, 1.0, 3.0, 8.0])
def test_weibull_gaps_have_their_cv(cv: float) -> None:
    times = WeibullRenewal(50.0, cv).sample(rng(), 20_000.0)
    assert len(times) / 20_000.0 == pytest.approx(50.0, rel=4e-3 * max(cv, 0.1))
    assert gap_cv(times) == pytest.approx(cv, rel=0.15)


def test_mmpp_spends_its_time_as_it_should() -> None:
    law = Mmpp((0.0, 20.0, 5.0), (30.0, 10.0, 60.0))
    assert law.shares == pytest.approx((0.3, 0.1, 0.6))
    assert law.mean_rate_rps == pytest.approx(5.0)
    assert len(law.sample(rng(), 100_000.0)) / 100_000.0 == pytest.approx(5.0, rel=0.05)
    for rates, means in (((1.0,), (1.0,)), ((0.0, 0.0), (1.0, 1.0)), ((1.0, 2.0), (1.0,)), ((1.0, -2.0), (1.0, 1.0))):
        with pytest.raises(InputError):
            Mmpp(rates, means)


def test_weekends_and_spikes_keep_the_mean() -> None:
    week = Diurnal(2.0, (1.0, 1.0), noise_sd=0.0, period_s=1000.0, weekend=0.25)
    times = week.sample(rng(), 70_000.0)
    by_day = np.bincount((times // 1000.0).astype(int) % 7, minlength=7)
    assert by_day[5:].mean() / by_day[:5].mean() == pytest.approx(0.25, rel=0.1)
    assert len(times) / 70_000.0 == pytest.approx(2.0, rel=0.02)
    spiky = Diurnal(2.0, (1.0, 1.0), noise_sd=0.0, period_s=1000.0, spike_share=0.1)
    assert len(spiky.sample(rng(), 200_000.0)) / 200_000.0 == pytest.approx(2.0, rel=0.03)
    bursty = Diurnal(5.0, (1.0, 3.0), noise_sd=0.0, period_s=1e5, cv=3.0)
    assert gap_cv(bursty.sample(rng(), 1e5)) == pytest.approx(3.3, rel=0.1)
