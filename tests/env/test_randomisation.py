"""Profiles drawn around a fitted one: always valid, never falling, right in the mean, spread as stated."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aladdin_env.latency import LatencyProfile, load_profile, profile_names
from aladdin_env.presets import load_scenario
from aladdin_env.randomisation import SHARED, randomised, randomised_scenario, relative_spread
from aladdin_traces.errors import InputError
from tests.env.test_latency import profiles

H100 = load_profile("llama-3.1-8b-h100-tp1")


@settings(deadline=None, max_examples=60)
@given(
    profiles() | st.sampled_from(profile_names()).map(load_profile),
    st.integers(0, 2**32), st.floats(0.0, 20.0), st.integers(0, 10**4), st.integers(0, 600), st.integers(0, 10**4),
)  # fmt: skip
def test_always_a_profile_that_never_falls(
    p: LatencyProfile, seed: int, scale: float, n: int, batch: int, mean: int
) -> None:
    drawn = randomised(p, np.random.default_rng(seed), scale)
    less = 1.0 - 1e-12
    assert LatencyProfile.from_dict(drawn.to_dict()) == drawn
    assert drawn.prefill_s(n + 100) >= drawn.prefill_s(n) * less >= 0.0
    assert drawn.decode_s(batch + 1, (batch + 1) * mean) >= drawn.decode_s(batch, batch * mean) * less
    assert drawn.mixed_s(n, batch + 1, 0) >= drawn.mixed_s(n, batch, 0) * less


def test_the_mean_is_the_fitted_law_and_the_spread_as_stated() -> None:
    rng = np.random.default_rng(5)
    drawn = [randomised(H100, rng, 3.0) for _ in range(4000)]
    cases = {
        "prefill": [(lambda p, n=n: p.prefill_s(n)) for n in (10, 300, 8000)],
        "decode": [(lambda p, b=b, c=c: p.decode_s(b, c)) for b, c in ((1, 100), (20, 30_000), (256, 300_000))],
        "mixed": [lambda p: p.mixed_overlap_s],
    }
    for kind, times in cases.items():
        spread = 3.0 * relative_spread(H100.provenance, kind)
        for time in times:
            seen = np.array([time(p) for p in drawn]) / time(H100)
            assert seen.mean() == pytest.approx(1.0, abs=4 * spread / np.sqrt(4000))
            assert np.sqrt(SHARED) * 0.93 * spread < seen.std() < 1.07 * spread


def test_seeded_and_scaled() -> None:
    first, second, third = (randomised(H100, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == second != third
    none = randomised(H100, np.random.default_rng(1), 0.0)
    assert none.row(300) == pytest.approx(H100.row(300), rel=1e-12)
    assert (first.name, first.kv_capacity_tokens, first.overhead_s) == (H100.name, H100.kv_capacity_tokens, 0.015)
    with pytest.raises(InputError, match="scale"):
        randomised(H100, np.random.default_rng(1), -1.0)


def test_the_spread_is_of_configurations_where_they_are_known() -> None:
    errors = {"decode_p95": 0.2, "decode_configuration_p95": 0.098}
    provenance = replace(H100.provenance, errors=errors)
    assert relative_spread(provenance, "decode") == pytest.approx(0.05)
    assert relative_spread(provenance, "prefill") == pytest.approx(0.1 / 1.96)


def test_types_that_share_a_profile_share_the_draw() -> None:
    base = load_scenario("sharegpt-poisson")
    kind = base.fleet.types[0]
    twins = replace(base, fleet=replace(base.fleet, types=(kind, replace(kind, name="other"))))
    one, other = randomised_scenario(twins, np.random.default_rng(3)).fleet.types
    assert one.profile == other.profile != kind.profile


def test_an_environment_takes_it_as_a_sampler() -> None:
    base = load_scenario("sharegpt-poisson")
    env = gym.make("aladdin/Placement-v0", scenario=base, scenario_sampler=lambda rng: randomised_scenario(base, rng))
    env.reset(seed=0)
    assert env.unwrapped.engine.scenarios[0].fleet.types[0].profile != base.fleet.types[0].profile
