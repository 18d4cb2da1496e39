"""Named workloads beside the published statistics of their traces, and beside the traces where those are at hand."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from aladdin_traces import (
    WORKLOADS,
    Clients,
    InputError,
    Trace,
    Workload,
    index_of_dispersion,
    ks_distance,
    spearman,
    token_hit_ratio,
)
from experiments.traces.fidelity import FILES, HORIZON_S, LEVELS, PUBLISHED, WINDOWS_S, recorded, sampled

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
# Of the lengths; the first half of a trace, to which the workload was fitted, is nearly as far from the third quarter.
KS_BOUND = {
    "azure-conv": (0.16, 0.21),
    "azure-code": (0.05, 0.05),
    "mooncake-conversation": (0.10, 0.05),
    "ragpulse": (0.08, 0.10),
    "sharegpt": (0.06, 0.05),
}


@cache
def samples(name: str) -> tuple[Trace, ...]:
    return tuple(sampled(name, seed) for seed in range(4))


def mean(name: str, figure: Callable[[Trace], float]) -> float:
    return float(np.mean([figure(trace) for trace in samples(name)]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_rate_and_burstiness_are_the_published_ones(name: str) -> None:
    horizon = HORIZON_S.get(name, 3600.0)
    rate = PUBLISHED[name].rate_rps
    if rate is not None:
        assert mean(name, len) / horizon == pytest.approx(rate, rel=0.1)
    for window, published in zip(WINDOWS_S, PUBLISHED[name].dispersion, strict=True):
        found = mean(name, lambda trace, window=window: index_of_dispersion(trace.arrival_s, window, horizon))
        assert published is None or 1 / 1.6 < found / published < 1.6, f"{window} s: {found:.3g}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_lengths_are_the_published_ones(name: str) -> None:
    figures = PUBLISHED[name]
    for column, lengths in (("prompt_tokens", figures.prompt), ("output_tokens", figures.output)):
        for level, published in zip(LEVELS, lengths, strict=True):
            found = mean(name, lambda trace, c=column, level=level: float(np.percentile(getattr(trace, c), level)))
            assert 1 / 1.25 < found / published < 1.25, f"{column} p{level}: {found:.0f}"
    assert mean(name, lambda t: spearman(t.prompt_tokens, t.output_tokens)) == pytest.approx(figures.spearman, abs=0.05)


def test_mooncakes_prefixes_are_reused_as_published() -> None:
    endless, lru = PUBLISHED["mooncake-conversation"].hit_ratios
    assert mean("mooncake-conversation", token_hit_ratio) == pytest.approx(endless, abs=0.03)
    assert mean("mooncake-conversation", lambda t: token_hit_ratio(t, 10_000)) == pytest.approx(lru, abs=0.03)


def test_ragpulse_has_its_turns() -> None:
    trace = samples("ragpulse")[0]
    assert trace.session is not None
    assert len(trace) / len(np.unique(trace.session.codes)) == pytest.approx(1.78, abs=0.05)


@pytest.mark.parametrize("name", ["servegen-language", "servegen-reasoning"])
def test_servegens_clients_are_as_published(name: str) -> None:
    law = WORKLOADS[name].requests
    assert isinstance(law, Clients)
    assert 1.2 <= law.zipf <= 1.4
    assert 0.13 <= law.shares[0] <= 0.52
    order = np.argsort(law.client_cvs)
    below = np.cumsum(law.shares[order])
    p25, p50, p75, p95 = (float(law.client_cvs[order][np.searchsorted(below, q)]) for q in (0.25, 0.5, 0.75, 0.95))
    if name == "servegen-language":
        assert 0.8 <= p25 <= 1.5 and 1.0 <= p50 <= 2.0 and 2.0 <= p75 <= 8.0 and 5.0 <= p95 <= 57.0
    trace = WORKLOADS[name].sample(np.random.default_rng(0), 3600.0)
    assert index_of_dispersion(trace.arrival_s, 60.0, 3600.0) > 2.0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not at hand")
@pytest.mark.parametrize("name", FILES)
def test_lengths_are_those_of_the_third_quarter(name: str) -> None:
    whole = recorded(SHARED, name)
    part = whole.window(0.5 * whole.duration_s, 0.75 * whole.duration_s)
    for column, bound in zip(("prompt_tokens", "output_tokens"), KS_BOUND[name], strict=True):
        assert ks_distance(getattr(samples(name)[0], column), getattr(part, column)) < bound


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not at hand")
@pytest.mark.parametrize("name", ["azure-conv", "azure-code", "ragpulse"])
def test_burstiness_is_that_of_the_third_quarter(name: str) -> None:
    whole = recorded(SHARED, name)
    part = whole.window(0.5 * whole.duration_s, 0.75 * whole.duration_s)
    seeds = range(20)
    drawn = [WORKLOADS[name].sample(np.random.default_rng(seed), part.duration_s) for seed in seeds]
    for window, factor in ((1.0, 1.5), (10.0, 1.5), (60.0, 2.5)):
        found = np.mean([index_of_dispersion(trace.arrival_s, window, part.duration_s) for trace in drawn])
        assert 1 / factor < found / index_of_dispersion(part.arrival_s, window, part.duration_s) < factor


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not at hand")
def test_hit_ratios_of_the_mooncake_conversation_trace() -> None:
    trace = recorded(SHARED, "mooncake-conversation")
    ratios = (token_hit_ratio(trace), token_hit_ratio(trace, 10_000))
    assert ratios == pytest.approx(PUBLISHED["mooncake-conversation"].hit_ratios, abs=0.005)


@pytest.mark.parametrize("name", WORKLOADS)
def test_presets_by_name(name: str) -> None:
    workload = Workload.preset(name)
    assert workload == WORKLOADS[name]
    assert workload.to_dict() == {"preset": name}
    assert Workload.from_dict({"preset": name}) == workload
    faster = Workload.from_dict({"preset": name, "rate_rps": 3.0, "class_shares": [0.5, 0.5]})
    assert faster.mean_rate_rps == pytest.approx(3.0)
    assert faster == Workload.preset(name, 3.0, (0.5, 0.5))
    assert Workload.from_dict(faster.to_dict()) == faster


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"preset": "azure-cnv"}, "preset: 'azure-cnv' .*'azure-conv'"),
        ({"preset": 3}, "preset: 3"),
        ({"preset": "azure-conv", "rate_rps": 0}, "rate_rps: 0"),
        ({"preset": "azure-conv", "rate": 1}, "rate: 1 .*'rate_rps'"),
        ({"presets": "azure-conv"}, "presets: .*'preset'"),
    ],
)
def test_bad_presets(table: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Workload.from_dict(table)
