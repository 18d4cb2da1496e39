"""Fits: laws that were drawn from are found again; what is fitted to a trace comes close to it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from aladdin_traces import (
    LENGTHS,
    ArrivalProcess,
    BucketedLengths,
    CopulaLengths,
    Diurnal,
    GammaRenewal,
    Histogram,
    IndependentLengths,
    InputError,
    LengthLaw,
    LognormalMixture,
    OnOff,
    Poisson,
    Sessions,
    Trace,
    WeibullRenewal,
    Workload,
    compare,
    fit_workload,
    read_trace,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
SIDE = LognormalMixture((0.4, 0.6), (4.0, 7.0), (0.4, 0.5))
OTHER = LognormalMixture((1.0,), (5.0,), (0.8,))
TALK = IndependentLengths(OTHER, OTHER)


def drawn(arrivals: ArrivalProcess, lengths: LengthLaw, horizon_s: float = 4000.0) -> Trace:
    return Workload.generated(arrivals, lengths).sample(np.random.default_rng(4), horizon_s)


@pytest.mark.parametrize(
    ("law", "name"),
    [
        (Poisson(3.0), "poisson"),
        (GammaRenewal(3.0, 2.5), "gamma"),
        (WeibullRenewal(3.0, 2.5), "weibull"),
        (OnOff(on_cv=1.5), "onoff"),
        (Diurnal(3.0, (1.0, 3.0, 5.0, 2.0), noise_sd=0.0, period_s=4000.0), "rate curve of"),
        (Diurnal(3.0, (1.0, 3.0, 5.0, 2.0), noise_sd=0.0, period_s=4000.0, cv=2.0), "gamma gaps"),
    ],
    ids=lambda value: str(value),
)
def test_the_law_of_the_arrivals_is_found(law: ArrivalProcess, name: str) -> None:
    found = fit_workload(drawn(law, TALK))
    assert name in next(iter(found.arrivals_bic))
    assert found.workload.mean_rate_rps == pytest.approx(len(drawn(law, TALK)) / 4000.0, rel=0.01)
    assert list(found.arrivals_bic.values()) == sorted(found.arrivals_bic.values())
    if isinstance(law, GammaRenewal | WeibullRenewal):
        assert found.workload.arrivals.cv == pytest.approx(2.5, rel=0.1)
    if isinstance(law, OnOff):
        assert found.workload.arrivals.on_mean_s == pytest.approx(23.0, rel=0.5)
        assert found.workload.arrivals.off_mean_s == pytest.approx(52.8, rel=0.5)


@pytest.mark.parametrize(
    ("law", "kind"),
    [
        (IndependentLengths(SIDE, OTHER), IndependentLengths),
        (CopulaLengths(SIDE, OTHER, 0.5), CopulaLengths),
        (BucketedLengths(SIDE, (300,), (OTHER, LognormalMixture((1.0,), (3.0,), (0.2,)))), BucketedLengths),
    ],
    ids=lambda value: str(value),
)
def test_the_tie_of_the_lengths_is_found(law: LengthLaw, kind: type) -> None:
    trace = drawn(Poisson(3.0), law)
    found = fit_workload(trace).workload
    assert isinstance(found.lengths, kind)
    close = compare(trace, found)
    assert close.ks_prompt < 0.03
    assert close.ks_output < 0.03
    assert close.sample.spearman == pytest.approx(close.trace.spearman, abs=0.05)


def test_sessions_are_found_from_their_blocks() -> None:
    law = Sessions(
        starts=Poisson(1.0),
        turns=Histogram((1, 2, 3, 4, 5), (5.0, 3.0, 2.0, 1.0, 1.0)),
        first=IndependentLengths(LognormalMixture((1.0,), (7.5,), (0.6,)), OTHER),
        later=TALK,
        think_mu=4.0,
        think_sigma=1.0,
        system_tokens=512,
        block_size=64,
    )
    trace = Workload.from_law(law).sample(np.random.default_rng(4), 3600.0)
    nameless = dataclasses.replace(trace, session=None)
    for source in (trace, nameless):
        found = fit_workload(source).workload
        assert isinstance(found.requests, Sessions)
        assert found.requests.history
        assert found.requests.system_tokens == 512
        assert found.requests.think_mu == pytest.approx(4.0, abs=0.15)
        assert found.requests.think_sigma == pytest.approx(1.0, abs=0.15)
        close = compare(source, found)
        assert close.ks_prompt < 0.06
        assert close.sample.reuse.ideal == pytest.approx(close.trace.reuse.ideal, abs=0.04)
        assert close.sample.reuse.lru[10_000] == pytest.approx(close.trace.reuse.lru[10_000], abs=0.05)


def test_turns_without_history_are_told_from_growing_prompts() -> None:
    law = Sessions(Poisson(0.5), Histogram((1, 3), (1.0, 1.0)), TALK, TALK, history=False)
    trace = dataclasses.replace(Workload.from_law(law).sample(np.random.default_rng(4), 3600.0), prefix_blocks=None)
    found = fit_workload(trace).workload
    assert isinstance(found.requests, Sessions)
    assert not found.requests.history
    assert compare(trace, found).ks_prompt < 0.05


def test_classes_are_kept_and_tables_are_lossless() -> None:
    workload = Workload.generated(Poisson(3.0), LENGTHS["sharegpt"], (0.2, 0.5, 0.3))
    found = fit_workload(workload.sample(np.random.default_rng(1), 2000.0)).workload
    assert found.class_shares == pytest.approx((0.2, 0.5, 0.3), abs=0.03)
    assert Workload.from_dict(found.to_dict()) == found


def test_ticks_of_a_coarse_clock_are_no_bursts() -> None:
    trace = drawn(Poisson(5.0), TALK)
    ticks = dataclasses.replace(trace, arrival_s=np.floor(trace.arrival_s))
    assert next(iter(fit_workload(ticks).arrivals_bic)) == "poisson"


def test_what_cannot_be_fitted() -> None:
    for times, message in (
        (np.arange(99), "trace: '99 requests' .*at least 100"),
        (np.zeros(200), "one or two times"),
        (np.repeat([0.0, 5.0], 100), "one or two times"),
    ):
        with pytest.raises(InputError, match=message):
            fit_workload(Trace.from_arrays(times, np.full(len(times), 9), np.full(len(times), 9)))
    with pytest.raises(InputError, match="seed: -1"):
        compare(drawn(Poisson(1.0), TALK, 100.0), Workload.generated(Poisson(1.0), TALK), -1)


@pytest.mark.parametrize("lengths", [(9, 9), (1, 1), (2**31 - 1, 5)])
def test_one_length_only(lengths: tuple[int, int]) -> None:
    times = Poisson(1.0).sample(np.random.default_rng(1), 400.0)
    trace = Trace.from_arrays(times, np.full(len(times), lengths[0]), np.full(len(times), lengths[1]))
    sample = fit_workload(trace).workload.sample(np.random.default_rng(0), 400.0)
    assert set(sample.prompt_tokens.tolist()) == {lengths[0]}
    assert set(sample.output_tokens.tolist()) == {lengths[1]}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not at hand")
@pytest.mark.parametrize(
    ("file", "chosen", "ks", "dispersion"),
    [
        ("azure2023_conv.csv.gz", "rate curve", 0.03, 1.5),
        ("azure2023_code.csv.gz", "onoff", 0.04, 2.0),
        ("mooncake_conversation_trace.jsonl.gz", "sessions", 0.06, 3.0),
        ("ragpulse_week.jsonl.gz", "sessions", 0.04, 1.5),
    ],
)
def test_public_traces_are_met(file: str, chosen: str, ks: float, dispersion: float) -> None:
    trace = read_trace(SHARED / file)
    found = fit_workload(trace)
    assert chosen in found.chosen
    close = compare(trace, found.workload)
    assert close.ks_prompt < ks
    assert close.ks_output < ks
    for window, index in close.trace.dispersion.items():
        assert 1 / dispersion < close.sample.dispersion[window] / index < dispersion
    if trace.prefix_blocks is not None:
        assert close.sample.reuse.ideal == pytest.approx(close.trace.reuse.ideal, abs=0.04)
        assert close.sample.reuse.lru[10_000] == pytest.approx(close.trace.reuse.lru[10_000], abs=0.04)
