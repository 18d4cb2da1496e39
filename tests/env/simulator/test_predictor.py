"""Predicted lengths: the table by hand, the noise of an oracle, and the bounds of whatever a policy sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aladdin_env.errors import InputError
from aladdin_env.policy import make_policy
from aladdin_env.scenario import Failures, Fleet, Predictor, Scenario, WorkerType
from aladdin_env.simulator.predictor import bounded, expected_length, noisy_length, observe_length, predict_length
from aladdin_env.simulator.run import Simulator
from aladdin_env.simulator.setup import draw
from aladdin_env.simulator.state import LENGTH_BINS, LENGTH_BUCKETS, SCHEDULERS
from aladdin_traces import Poisson, Workload
from tests.env.simulator.random_cases import Case, Script, random_case
from tests.env.simulator.test_against_reference import compare

KIND = WorkerType("a", "llama-3.1-8b-h100-tp1", initial=4, minimum=4, maximum=4)
FLEET = Fleet((KIND,), failures=Failures(mtbf_s=300.0))
SCENARIO = Scenario("s", Workload.generated(Poisson(40.0), "sharegpt"), FLEET, horizon_s=60.0)


def scenario(kind: str = "noisy_oracle", **changes: float) -> Scenario:
    return replace(SCENARIO, predictor=Predictor(kind, **changes))


def predictions(of: Scenario, seed: int = 0) -> np.ndarray:
    return Simulator(of, seed).run(make_policy("least_request", of)).requests["predicted_tokens"].to_numpy()


def noisy(output: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """What the contract says, in numpy; the state has single precision."""
    return np.clip(np.rint(output * factors.astype(np.float32).astype(np.float64)), 1, 1e6)


# --- the table ---


def test_mean_of_the_octave_with_its_prior() -> None:
    lengths = np.zeros((LENGTH_BUCKETS, LENGTH_BINS + 1, 2))
    assert predict_length(lengths, 100, 256.0, 4.0) == 256.0
    for prompt, output in ((64, 10), (127, 30), (128, 7000)):
        observe_length(lengths, prompt, output)
    assert predict_length(lengths, 100, 256.0, 4.0) == pytest.approx((40 + 4 * 256) / 6)
    assert predict_length(lengths, 255, 256.0, 4.0) == pytest.approx((7000 + 4 * 256) / 5)
    assert predict_length(lengths, 63, 256.0, 4.0) == 256.0


def test_outlived_predictions_are_made_again() -> None:
    lengths = np.zeros((LENGTH_BUCKETS, LENGTH_BINS + 1, 2))
    for output in (10, 100, 300, 500):
        observe_length(lengths, 64, output)
    assert expected_length(lengths, 64, 50.0, 49) == 50.0
    assert expected_length(lengths, 64, 50.0, 50) == pytest.approx(300.0)  # of 100, 300 and 500
    assert expected_length(lengths, 64, 50.0, 150) == pytest.approx(400.0)
    assert expected_length(lengths, 64, 50.0, 800) == pytest.approx(1001.0)  # nothing that long was seen


# --- the oracles ---


def test_oracle_says_the_length() -> None:
    exact = scenario("oracle")
    assert (predictions(exact) == draw(exact, np.random.default_rng(0)).trace.output_tokens).all()


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_noise_is_unbiased_and_as_wide_as_asked_for(noise: float) -> None:
    factors = Predictor("noisy_oracle", noise=noise).factors(np.random.default_rng(1), 200_000)
    assert factors.mean() == pytest.approx(1.0, abs=0.01)
    assert factors.std() == pytest.approx(noise, rel=0.05)


def test_noisy_predictions_are_those_of_the_draws() -> None:
    draws = draw(scenario(), np.random.default_rng(7))
    found = Simulator(scenario(), draws=draws).run(make_policy("least_request", scenario())).requests
    output = draws.trace.output_tokens
    np.testing.assert_array_equal(found["predicted_tokens"], noisy(output, draws.factors))
    long = output > 50  # shorter ones are moved by the rounding, and by the token that is the least
    ratio = found["predicted_tokens"][long] / output[long]
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)
    assert ratio.std() == pytest.approx(0.5, rel=0.15)


def test_same_seed_same_predictions() -> None:
    np.testing.assert_array_equal(predictions(scenario(), 3), predictions(scenario(), 3))
    assert not np.array_equal(predictions(scenario(), 3), predictions(scenario(), 4))


def test_noise_moves_nothing_else() -> None:
    """The factors are drawn last and for a noisy oracle only: the episode is the same under every kind."""
    states = []
    for kind in ("bucket_mean", "oracle", "noisy_oracle"):
        rng = np.random.default_rng(5)
        made = draw(scenario(kind), rng)
        states.append((made, rng.random()))
    (first, after), (second, after_second), (third, after_third) = states
    for other in (second, third):
        assert first.trace == other.trace
        np.testing.assert_array_equal(first.coins, other.coins)
        np.testing.assert_array_equal(first.cold_starts, other.cold_starts)
        np.testing.assert_array_equal(first.failures, other.failures)
    assert len(first.failures) > 0 and after == after_second != after_third
    assert (len(first.factors), len(third.factors)) == (0, len(third.trace))


def test_draws_of_another_predictor_are_refused() -> None:
    draws = draw(scenario("oracle"), np.random.default_rng(0))
    with pytest.raises(InputError, match=r"draws\.factors"):
        Simulator(scenario(), draws=draws).run(make_policy("least_request", scenario()))


# --- bounds ---


def test_every_prediction_is_bounded() -> None:
    for tokens, seen in ((float("nan"), 1), (-np.inf, 1), (np.inf, 1e6), (0.0, 1), (1.5, 1.5), (1e7, 1e6), (1e6, 1e6)):
        assert bounded(tokens) == seen
    assert noisy_length(3, 0.1) == 0.0 and noisy_length(10, 1.26) == 13.0
    assert predictions(scenario("bucket_mean", prior_tokens=1e300))[0] == 1e6
    assert predictions(scenario("bucket_mean", prior_tokens=1e-3))[0] == 1
    wild = predictions(scenario(noise=10.0))
    assert wild.min() == 1 and wild.max() <= 1e6


def bounded_in(run: Scenario) -> float:
    return Simulator(run, 0).run(make_policy("least_request", run)).summary["bounded_predictions"]


def test_what_is_bounded_is_counted() -> None:
    """Every prediction that a policy does not see as it came; none of a sound predictor."""
    assert bounded_in(scenario("oracle")) == bounded_in(scenario("bucket_mean")) == 0
    wild = scenario(noise=10.0)
    draws = draw(wild, np.random.default_rng(0))
    raw = np.rint(draws.trace.output_tokens * draws.factors)
    outside = int(((raw < 1) | (raw > 1e6)).sum())
    assert bounded_in(wild) == outside > 0
    huge = scenario("bucket_mean", prior_tokens=1e300, prior_weight=1e6)
    assert bounded_in(huge) == len(draw(huge, np.random.default_rng(0)).trace)


def test_a_prediction_that_is_no_number_is_counted() -> None:
    made = scenario(noise=1.0)
    draws = draw(made, np.random.default_rng(0))
    factors = np.ones_like(draws.factors)
    factors[:3] = np.nan, np.inf, 1e9
    found = Simulator(made, draws=replace(draws, factors=factors)).run(make_policy("least_request", made))
    assert found.summary["bounded_predictions"] == 3
    np.testing.assert_array_equal(found.requests["predicted_tokens"][:3], [1, 1e6, 1e6])


# --- beside the reference ---


@dataclass
class ByPrediction(Script):
    """A policy that places by what is predicted: the compiled core tells it, the reference is told."""

    predicted: tuple[float, ...] = ()

    def choose(self, candidates: list[int], load: dict[int, int], hits: dict[int, int], r: int, retries: int) -> int:
        return candidates[int(self.predicted[r]) % len(candidates)]

    def place(self, view, request):  # type: ignore[no-untyped-def]
        assert request.predicted_tokens == self.predicted[request.index]
        return super().place(view, request)


class NoisyCase(Case):
    def script(self) -> Script:
        told = noisy(self.draws.trace.output_tokens, self.draws.factors)
        return ByPrediction(self.rule, self.wanted, predicted=tuple(told.tolist()))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_reference_with_the_same_predictions_agrees(scheduler: str, seed: int) -> None:
    case = random_case(seed, scheduler, dyadic=True)
    predictor = Predictor("noisy_oracle", noise=1.0)
    draws = replace(case.draws, factors=predictor.factors(np.random.default_rng(seed), len(case.draws.trace)))
    compare(NoisyCase(replace(case.scenario, predictor=predictor), draws, case.rule, case.wanted), ties=True)
