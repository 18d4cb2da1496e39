"""Laws of one length by their quantiles, and the copula that ties two together."""

import numpy as np
import pytest

from aladdin_traces import (
    CopulaLengths,
    EmpiricalQuantiles,
    Exponential,
    Histogram,
    InputError,
    LognormalMixture,
    TokenLaw,
    Workload,
    ks_distance,
    spearman,
)

MIXTURE = LognormalMixture((0.3, 0.0, 0.7), (3.0, 1.0, 6.0), (0.5, 1.0, 0.2), minimum=5, maximum=900)
LAWS: list[TokenLaw] = [
    MIXTURE,
    LognormalMixture((1.0,), (5.0,), (0.0,)),
    EmpiricalQuantiles((0.0, 0.5, 1.0), (1, 100, 5000)),
    Histogram((1, 2, 7), (0.5, 0.0, 1.5)),
    Exponential(300.0, minimum=2, maximum=2000),
]


def rng(seed: int = 9) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_samples_and_quantiles_are_of_one_law(law: TokenLaw) -> None:
    levels = (np.arange(50_000) + 0.5) / 50_000
    quantiles = law.quantiles(levels)
    assert quantiles.dtype == np.int32
    assert (np.diff(quantiles) >= 0).all()
    assert ks_distance(quantiles, law.sample(rng(), 50_000)) < 0.011
    assert law.quantiles(np.array([0.0, 1.0])).min() >= 1
    assert len(law.sample(rng(), 0)) == 0


def test_histogram_and_exponential() -> None:
    drawn = Histogram((1, 2, 7), (0.5, 0.0, 1.5)).sample(rng(), 40_000)
    assert np.bincount(drawn) / 40_000 == pytest.approx([0, 0.25, 0, 0, 0, 0, 0, 0.75], abs=0.01)
    assert Histogram((1, 2), (1.0, 0.0)).quantiles(np.array([1.0])).tolist() == [1]
    assert Exponential(300.0).sample(rng(), 100_000).mean() == pytest.approx(300.5, rel=0.02)


@pytest.mark.parametrize("rank", [-1.0, -0.6, 0.0, 0.14, 0.42, 0.9, 1.0])
def test_the_copula_has_the_wanted_rank_correlation(rank: float) -> None:
    prompt, output = CopulaLengths(MIXTURE, Exponential(5000.0), rank).sample(rng(), 60_000)
    assert spearman(prompt, output) == pytest.approx(rank, abs=0.02)
    assert ks_distance(prompt, MIXTURE.sample(rng(1), 60_000)) < 0.012
    assert ks_distance(output, Exponential(5000.0).sample(rng(1), 60_000)) < 0.012


def test_bad_laws() -> None:
    for law, parameters, message in (
        (Histogram, {"tokens": (2, 1), "weights": (1.0, 1.0)}, "tokens: .*ascending"),
        (Histogram, {"tokens": (1, 2), "weights": (0.0, 0.0)}, "weights: "),
        (Histogram, {"tokens": (1, 2), "weights": (1.0,)}, "weights: "),
        (Exponential, {"mean": 0.0}, "mean: 0.0"),
        (Exponential, {"mean": 5.0, "minimum": 0}, "minimum: 0"),
        (CopulaLengths, {"prompt": MIXTURE, "output": MIXTURE, "spearman": 1.5}, "spearman: 1.5"),
        (CopulaLengths, {"prompt": MIXTURE, "output": 5, "spearman": 0.5}, "output: 5"),
    ):
        with pytest.raises(InputError, match=message):
            law(**parameters)


def test_tables_nest_laws_of_every_family() -> None:
    quantiles = {"kind": "quantiles", "probabilities": [0, 1], "tokens": [1, 9]}
    table = {
        "requests": {
            "kind": "sessions",
            "starts": {"kind": "weibull", "rate_rps": 2.0, "cv": 2.0},
            "turns": {"kind": "histogram", "tokens": [1, 4], "weights": [1, 1]},
            "first": "sharegpt",
            "later": {"kind": "copula", "prompt": quantiles, "output": quantiles, "spearman": 0.3},
        }
    }
    workload = Workload.from_dict(table)
    assert workload.mean_rate_rps == pytest.approx(5.0)
    assert Workload.from_dict(workload.to_dict()) == workload
    for change, message in (
        ({"starts": quantiles}, r"requests\.starts\.kind: 'quantiles' .*poisson"),
        ({"first": "sharegtp"}, r"requests\.first\.name: 'sharegtp' .*'sharegpt'"),
        ({"later": {"kind": "copula"}}, r"requests\.later\.parameters: .*missing prompt, output, spearman"),
        ({"kind": "session"}, r"requests\.kind: 'session' .*'sessions'"),
    ):
        with pytest.raises(InputError, match=message):
            Workload.from_dict({"requests": {**table["requests"], **change}})


def test_rank_correlation_and_distance_of_plain_columns() -> None:
    assert spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(spearman([1], [1]))
    assert ks_distance([1, 2, 3, 4], [3, 4, 5, 6]) == pytest.approx(0.5)
    assert ks_distance([1, 1, 2], [1, 2, 1]) == 0.0
