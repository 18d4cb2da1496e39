"""The laws follow a worker in service: slow-downs found, false alarms rare, nothing moved by one wild observation."""

import math
import pickle
from collections.abc import Callable
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aladdin_env.latency import LatencyProfile, load_profile
from aladdin_env.profile_tracker import ProfileTracker
from aladdin_traces.errors import InputError

PRIOR = load_profile("llama-3.1-8b-h100-tp1")

TIMES: list[Callable[[LatencyProfile], float]] = [
    lambda p: p.prefill_s(700),
    lambda p: p.decode_s(32, 30_000),
    lambda p: p.decode_s(1, 100),
]


def serve(tracker: ProfileTracker, count: int, slow: float = 1.0, noise: float = 0.05, seed: int = 0) -> None:
    """``count`` steps of all kinds on a worker that is ``slow`` times as slow as the prior says."""
    rng = np.random.default_rng(seed)
    factors = slow * np.exp(rng.normal(0.0, noise, count))
    for kind, factor in zip(rng.integers(3, size=count), factors, strict=True):
        batch, tokens = int(rng.integers(1, 64)), float(rng.integers(50, 2000))
        context = float(batch * rng.integers(100, 2000))
        if kind == 0:
            tracker.observe_step(PRIOR.prefill_s(tokens) * factor, tokens)
        elif kind == 1:
            tracker.observe_step(PRIOR.decode_s(batch, context) * factor, batch=batch, context_tokens=context)
        else:
            seconds = PRIOR.mixed_s(tokens, batch, context) * factor
            tracker.observe_step(seconds, tokens, batch=batch, context_tokens=context)


@pytest.mark.parametrize("slow", [1.2, 0.8])
def test_a_changed_worker_is_followed_and_told(slow: float) -> None:
    tracker = ProfileTracker(PRIOR)
    serve(tracker, 500)
    assert not tracker.status().drifted
    serve(tracker, 20, slow, seed=1)
    assert tracker.status().drifted
    serve(tracker, 1000, slow, seed=2)
    now = tracker.profile()
    for time in TIMES:
        assert time(now) / time(PRIOR) == pytest.approx(slow, abs=0.04)
    serve(tracker, 1000, seed=3)
    assert not tracker.status().drifted
    assert tracker.profile().decode_s(32, 30_000) == pytest.approx(PRIOR.decode_s(32, 30_000), rel=0.03)


@pytest.mark.parametrize("noise", [0.02, 0.05, 0.1])
def test_false_alarms_are_rare(noise: float) -> None:
    tracker, alarms = ProfileTracker(PRIOR), 0
    for k in range(1000):  # 10,000 observations; an alarm that ends within 10 is seen with luck only
        serve(tracker, 10, noise=noise, seed=k)
        alarms += tracker.status().drifted
    assert alarms == 0


def test_one_wild_observation_moves_nothing() -> None:
    tracker = ProfileTracker(PRIOR)
    serve(tracker, 300)
    before = tracker.profile().decode_s(8, 8000)
    tracker.observe_step(100.0 * PRIOR.decode_s(8, 8000), batch=8, context_tokens=8000)
    assert tracker.profile().decode_s(8, 8000) == pytest.approx(before, rel=0.005)
    assert not tracker.status().drifted
    fresh = ProfileTracker(PRIOR)
    fresh.observe_step(100.0 * PRIOR.decode_s(8, 8000), batch=8, context_tokens=8000)
    assert fresh.profile().decode_s(8, 8000) == pytest.approx(PRIOR.decode_s(8, 8000), rel=0.05)


def test_a_part_that_is_not_observed_follows_the_others() -> None:
    tracker = ProfileTracker(PRIOR)
    for _ in range(2000):
        tracker.observe_step(1.3 * PRIOR.decode_s(8, 8000), batch=8, context_tokens=8000)
    assert 1.1 < tracker.status().prefill < tracker.status().decode_alpha < 1.32


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(1e-9, 1e4), st.integers(0, 5000), st.integers(1, 5000), st.integers(0, 10**7))))
def test_factors_stay_bounded_and_the_profile_valid(steps: list[tuple[float, int, int, int]]) -> None:
    tracker = ProfileTracker(PRIOR, bound=2.0)
    for seconds, tokens, batch, context in steps:
        tracker.observe_step(seconds, tokens, batch=batch, context_tokens=context)
    status, now = tracker.status(), tracker.profile()
    assert all(0.5 <= factor <= 2.0 for factor in (status.prefill, status.decode_alpha, status.decode_beta))
    assert 0.5 * PRIOR.decode_s(9, 900) <= now.decode_s(9, 900) <= 2.0 * PRIOR.decode_s(9, 900)
    assert math.isfinite(status.drift) and status.observations == len(steps)


def test_requests_teach_as_steps_do() -> None:
    tracker = ProfileTracker(PRIOR)
    for k in range(400):
        prefill, token = 1.25 * PRIOR.prefill_s(512), 1.25 * PRIOR.decode_s(16, 16_000)
        tracker.observe_request(512, 15.6, 16_000.0, prefill_s=prefill, token_s=token, at_s=float(k))
    tracker.observe_request(512, 15.6, 16_000.0)
    status = tracker.status(now_s=409.0)
    assert status.observations == 800 and status.age_s == 10.0 and status.prior == PRIOR.name
    assert tracker.profile().prefill_s(512) == pytest.approx(1.25 * PRIOR.prefill_s(512), rel=0.03)
    assert tracker.profile().decode_s(16, 16_000) == pytest.approx(1.25 * PRIOR.decode_s(16, 16_000), rel=0.03)


def test_before_the_first_observation_it_is_the_prior() -> None:
    tracker = ProfileTracker(PRIOR)
    assert tracker.profile().row(64) == pytest.approx(PRIOR.row(64)) and tracker.status().age_s == math.inf


def test_a_copy_goes_on_alike() -> None:
    tracker = ProfileTracker(PRIOR)
    serve(tracker, 100)
    copy = pickle.loads(pickle.dumps(tracker))
    for one in (tracker, copy):
        serve(one, 50, 1.1, seed=4)
    assert copy.status() == tracker.status() and copy.profile() == tracker.profile()


def test_an_update_is_cheap() -> None:
    tracker = ProfileTracker(PRIOR)
    tracker.observe_step(0.007, batch=8, context_tokens=8000)
    spent = []
    for _ in range(10):
        start = process_time()
        for _ in range(200):
            tracker.observe_step(0.007, batch=8, context_tokens=8000)
        spent.append((process_time() - start) / 200)
    assert min(spent) < 150e-6  # about 30 us on an idle machine


@pytest.mark.parametrize(
    ("mistake", "field"),
    [
        (lambda: ProfileTracker(PRIOR, memory=1.0), "memory"),
        (lambda: ProfileTracker(PRIOR, bound=1.0), "bound"),
        (lambda: ProfileTracker(PRIOR, prior_weight=0.0), "prior_weight"),
        (lambda: ProfileTracker(PRIOR).observe_step(0.0, 10.0), "seconds"),
        (lambda: ProfileTracker(PRIOR).observe_step(0.1), "batch"),
        (lambda: ProfileTracker(PRIOR).observe_step(0.1, math.nan), "prefill_tokens"),
        (lambda: ProfileTracker(PRIOR).observe_request(10, 0.0, 5.0, token_s=0.01), "mean_batch"),
    ],
)
def test_mistakes_are_named(mistake: Callable[[], object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        mistake()


@pytest.mark.parametrize("name", ["llama-3.1-8b-h200-vllm", "llama-3.1-8b-h100-tp1"])
def test_without_observations_the_laws_are_the_priors(name: str) -> None:
    prior = load_profile(name)
    now = ProfileTracker(prior).profile()
    assert (now.prefill, now.decode, now.mixed_overlap_s) == (prior.prefill, prior.decode, prior.mixed_overlap_s)
