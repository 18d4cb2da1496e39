"""Length laws against closed forms, and the presets against the traces they were fitted to."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aladdin_traces import (
    LENGTHS,
    BucketedLengths,
    EmpiricalQuantiles,
    FixedLengths,
    IndependentLengths,
    InputError,
    LognormalMixture,
    read_trace,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the public trace files are not beside the project")
N = 400_000
ONE = EmpiricalQuantiles((0.0, 1.0), (5, 5))


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_lognormal_mixture_moments() -> None:
    law = LognormalMixture((1.0, 3.0), (6.0, 7.0), (0.5, 0.2))
    tokens = law.sample(rng(), N)
    mean = 0.25 * math.exp(6.0 + 0.125) + 0.75 * math.exp(7.0 + 0.02)
    square = 0.25 * math.exp(12.0 + 0.5) + 0.75 * math.exp(14.0 + 0.08)
    assert tokens.dtype == np.int32
    assert tokens.mean() == pytest.approx(mean, rel=3e-3)
    assert tokens.std() == pytest.approx(math.sqrt(square - mean**2), rel=5e-3)


def test_lognormal_mixture_is_clipped() -> None:
    tokens = LognormalMixture((1,), (5,), (3,), minimum=20, maximum=300).sample(rng(), 10_000)
    assert (tokens.min(), tokens.max()) == (20, 300)
    assert LognormalMixture((1.0,), (1e9,), (0.0,)).sample(rng(), 3).tolist() == [2**31 - 1] * 3
    assert LognormalMixture((1.0,), (-1e9,), (0.0,)).sample(rng(), 3).tolist() == [1] * 3


def test_quantiles_are_met() -> None:
    law = EmpiricalQuantiles((0.0, 0.5, 0.9, 1.0), (10, 100, 1000, 5000))
    tokens = law.sample(rng(), N)
    assert np.quantile(tokens, [0.25, 0.5, 0.9, 0.95]) == pytest.approx([55, 100, 1000, 3000], rel=0.08)
    assert tokens.mean() == pytest.approx(0.5 * 55 + 0.4 * 550 + 0.1 * 3000, rel=0.01)
    assert tokens.dtype == np.int32
    assert (tokens.min(), tokens.max()) == (10, 5000)


def test_quantiles_fit_what_they_are_drawn_from() -> None:
    law = EmpiricalQuantiles((0.0, 0.25, 0.5, 1.0), (10, 200, 400, 800))
    fitted = EmpiricalQuantiles.fit(law.sample(rng(), N), law.probabilities)
    assert fitted.tokens == pytest.approx(law.tokens, rel=0.02)
    with pytest.raises(InputError, match=r"lengths\[0\]: 0"):
        EmpiricalQuantiles.fit([0], (0.0, 1.0))
    with pytest.raises(InputError, match="probabilities: "):
        EmpiricalQuantiles.fit([1], (0.0, 1.5))


def test_fixed() -> None:
    prompt, output = FixedLengths(7, 9).sample(rng(), 3)
    assert (prompt.tolist(), output.tolist()) == ([7] * 3, [9] * 3)
    assert prompt.dtype == output.dtype == np.int32


def test_buckets_choose_the_output_law() -> None:
    levels = (0.0, 1.0)
    laws = tuple(EmpiricalQuantiles(levels, (k, k)) for k in (1, 2, 3))
    law = BucketedLengths(EmpiricalQuantiles(levels, (1, 30)), (10, 20), laws)
    prompt, output = law.sample(rng(), 5000)
    assert output.dtype == np.int32
    assert np.array_equal(output, 1 + (prompt > 10) + (prompt > 20))


@pytest.mark.parametrize("name", LENGTHS)
def test_presets(name: str) -> None:
    law = LENGTHS[name]
    prompt, output = law.sample(rng(), 1000)
    assert (len(prompt), len(output)) == (1000, 1000)
    assert min(prompt.min(), output.min()) >= 1
    assert all(np.array_equal(a, b) for a, b in zip(law.sample(rng(), 1000), (prompt, output), strict=True))
    assert [len(side) for side in law.sample(rng(), 0)] == [0, 0]
    assert pickle.loads(pickle.dumps(law)) == law
    assert hash(law) == hash(pickle.loads(pickle.dumps(law)))


def test_sharegpt_medians() -> None:
    prompt, output = LENGTHS["sharegpt"].sample(rng(), N)
    assert np.median(prompt) == pytest.approx(35, abs=3)
    assert np.median(output) == pytest.approx(286, rel=0.03)
    assert np.percentile(prompt, 95) == pytest.approx(1423, rel=0.1)
    assert np.percentile(output, 95) == pytest.approx(839, rel=0.1)


@needs_shared
@pytest.mark.parametrize("service", ["conv", "code"])
def test_azure_presets_match_the_first_half(service: str) -> None:
    trace = read_trace(SHARED / f"azure2023_{service}.csv.gz")
    half = trace.window(0.0, trace.duration_s / 2)
    prompt, output = LENGTHS[f"azure-{service}"].sample(rng(), N)
    for drawn, seen in ((prompt, half.prompt_tokens), (output, half.output_tokens)):
        assert drawn.mean() == pytest.approx(seen.mean(), rel=0.035)
        for level in (25, 50, 75, 95, 99):
            assert np.percentile(drawn, level) == pytest.approx(np.percentile(seen, level), rel=0.05, abs=1)


@needs_shared
def test_azure_tables_are_what_the_fit_gives() -> None:
    conv, code = LENGTHS["azure-conv"], LENGTHS["azure-code"]
    assert isinstance(conv, BucketedLengths)
    assert isinstance(code, IndependentLengths)
    halves = {}
    for service in ("conv", "code"):
        trace = read_trace(SHARED / f"azure2023_{service}.csv.gz")
        halves[service] = trace.window(0.0, trace.duration_s / 2)
    bucket = np.searchsorted(conv.edges, halves["conv"].prompt_tokens)
    fits = [
        (conv.prompt, halves["conv"].prompt_tokens),
        *((law, halves["conv"].output_tokens[bucket == i]) for i, law in enumerate(conv.outputs)),
        (code.prompt, halves["code"].prompt_tokens),
        (code.output, halves["code"].output_tokens),
    ]
    for law, seen in fits:
        assert isinstance(law, EmpiricalQuantiles)
        assert EmpiricalQuantiles.fit(seen, law.probabilities) == law


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LognormalMixture((), (), ()), "weights: "),
        (lambda: LognormalMixture((1.0,), (1.0, 2.0), (1.0,)), "mus: '2 elements' .*weights has"),
        (lambda: LognormalMixture((1.0,), (1.0,), (1.0, 2.0)), "sigmas: '2 elements'"),
        (lambda: LognormalMixture((0.0,), (1.0,), (1.0,)), "weights: .*sum > 0"),
        (lambda: LognormalMixture((-1.0,), (1.0,), (1.0,)), r"weights\[0\]: -1.0"),
        (lambda: LognormalMixture((1.0,), (math.nan,), (1.0,)), r"mus\[0\]: nan"),
        (lambda: LognormalMixture((1.0,), (1.0,), (-1.0,)), r"sigmas\[0\]: -1.0"),
        (lambda: LognormalMixture((1.0,), (1.0,), (1.0,), minimum=0), "minimum: 0"),
        (lambda: LognormalMixture((1.0,), (1.0,), (1.0,), minimum=9, maximum=8), "maximum: 8 .*from 9"),
        (lambda: LognormalMixture("1", (1.0,), (1.0,)), "weights: '1'"),  # type: ignore[arg-type]
        (lambda: EmpiricalQuantiles((0.0, 1.0), (1,)), "tokens: '1 elements'"),
        (lambda: EmpiricalQuantiles((0.0,), (1,)), "probabilities: .*ascend"),
        (lambda: EmpiricalQuantiles((0.1, 1.0), (1, 2)), "probabilities: .*ascend"),
        (lambda: EmpiricalQuantiles((0.0, 0.9), (1, 2)), "probabilities: .*ascend"),
        (lambda: EmpiricalQuantiles((0.0, 0.5, 0.5, 1.0), (1, 2, 3, 4)), "probabilities: .*ascend"),
        (lambda: EmpiricalQuantiles((0.0, 1.0), (2, 1)), "tokens: .*descend"),
        (lambda: EmpiricalQuantiles((0.0, 1.0), (0, 1)), r"tokens\[0\]: 0"),
        (lambda: EmpiricalQuantiles((0.0, 1.0), (1.5, 2)), r"tokens\[0\]: 1.5"),  # type: ignore[arg-type]
        (lambda: FixedLengths(0, 1), "prompt_tokens: 0"),
        (lambda: FixedLengths(1, 2**31), "output_tokens: 2147483648"),
        (lambda: IndependentLengths(ONE, FixedLengths(1, 1)), "output: .*one length"),  # type: ignore[arg-type]
        (lambda: IndependentLengths(5, ONE), "prompt: 5"),  # type: ignore[arg-type]
        (lambda: BucketedLengths(ONE, (5, 5), (ONE, ONE, ONE)), "edges: .*ascending"),
        (lambda: BucketedLengths(ONE, (5,), (ONE,)), "outputs: .*one more"),
        (lambda: BucketedLengths(ONE, (5,), (ONE, 3)), r"outputs\[1\]: 3"),  # type: ignore[arg-type]
        (lambda: BucketedLengths(None, (5,), (ONE, ONE)), "prompt: None"),  # type: ignore[arg-type]
    ],
)
def test_bad_parameters(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()
