"""Named workloads beside the published statistics of their traces, and beside the traces where those are at hand."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aladdin_traces import (
    WORKLOADS,
    Clients,
    InputError,
    Trace,
    Workload,
    index_of_dispersion,
    ks_distance,
    read_trace,
    spearman,
    token_hit_ratio,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
HORIZON_S = {"ragpulse": 604_800.0, "sharegpt": 10_000.0}

# Rate, index of dispersion by window, prompt and output at 50, 95 and 99 %, Spearman.
PUBLISHED = {
    "azure-conv": (5.5, {1: 1.4, 10: 3.9, 60: 16}, (1020, 4083, 4142), (129, 451, 601), 0.07),
    "azure-code": (2.6, {1: 13, 10: 72, 60: 167}, (1469, 7303, 7436), (13, 90, 251), -0.02),
    "mooncake-conversation": (3.4, {10: 2.1, 60: 2.9}, (6909, 39_600, 85_000), (350, 698, 1119), 0.07),
    "ragpulse": (0.012, {1: 1.0, 10: 1.1, 60: 1.7}, (3140, 4425, 5438), (234, 670, 891), 0.42),
    "sharegpt": (None, {}, (35, 1423, 2862), (286, 839, 1000), 0.14),
}
# Of the lengths; the first half of a trace, to which the workload was fitted, is nearly as far from the third quarter.
KS_BOUND = {
    "azure-conv": (0.16, 0.21),
    "azure-code": (0.05, 0.05),
    "mooncake-conversation": (0.10, 0.05),
    "ragpulse": (0.08, 0.10),
    "sharegpt": (0.06, 0.05),
}
FILES = {
    "azure-conv": "azure2023_conv.csv.gz",
    "azure-code": "azure2023_code.csv.gz",
    "mooncake-conversation": "mooncake_conversation_trace.jsonl.gz",
    "ragpulse": "ragpulse_week.jsonl.gz",
    "sharegpt": "sharegpt_10k_lengths.csv.gz",
}


@cache
def samples(name: str) -> tuple[Trace, ...]:
    horizon = HORIZON_S.get(name, 3600.0)
    return tuple(WORKLOADS[name].sample(np.random.default_rng(seed), horizon) for seed in range(4))


def mean(name: str, figure: Callable[[Trace], float]) -> float:
    return float(np.mean([figure(trace) for trace in samples(name)]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_rate_and_burstiness_are_the_published_ones(name: str) -> None:
    rate, dispersions, *_ = PUBLISHED[name]
    horizon = HORIZON_S.get(name, 3600.0)
    if rate is not None:
        assert mean(name, len) / horizon == pytest.approx(rate, rel=0.1)
    for window, published in dispersions.items():
        found = mean(name, lambda trace, window=window: index_of_dispersion(trace.arrival_s, window, horizon))
        assert 1 / 1.6 < found / published < 1.6, f"{window} s: {found:.3g}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_lengths_are_the_published_ones(name: str) -> None:
    _, _, prompt, output, rank = PUBLISHED[name]
    for column, figures, factor in (("prompt_tokens", prompt, 1.25), ("output_tokens", output, 1.25)):
        for level, published in zip((50, 95, 99), figures, strict=True):
            found = mean(name, lambda trace, c=column, level=level: float(np.percentile(getattr(trace, c), level)))
            assert 1 / factor < found / published < factor, f"{column} p{level}: {found:.0f}"
    assert mean(name, lambda t: spearman(t.prompt_tokens, t.output_tokens)) == pytest.approx(rank, abs=0.05)


def test_mooncakes_prefixes_are_reused_as_published() -> None:
    assert mean("mooncake-conversation", token_hit_ratio) == pytest.approx(0.37, abs=0.03)
    assert mean("mooncake-conversation", lambda t: token_hit_ratio(t, 10_000)) == pytest.approx(0.22, abs=0.03)


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


def recorded(name: str) -> Trace:
    if name == "sharegpt":
        lengths = pd.read_csv(SHARED / FILES[name])
        return Trace.from_arrays(np.arange(len(lengths)), lengths["prompt_tokens"], lengths["output_tokens"])
    return read_trace(SHARED / FILES[name])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not at hand")
@pytest.mark.parametrize("name", FILES)
def test_lengths_are_those_of_the_third_quarter(name: str) -> None:
    whole = recorded(name)
    part = whole.window(0.5 * whole.duration_s, 0.75 * whole.duration_s)
    for column, bound in zip(("prompt_tokens", "output_tokens"), KS_BOUND[name], strict=True):
        assert ks_distance(getattr(samples(name)[0], column), getattr(part, column)) < bound


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not at hand")
@pytest.mark.parametrize("name", ["azure-conv", "azure-code", "ragpulse"])
def test_burstiness_is_that_of_the_third_quarter(name: str) -> None:
    whole = recorded(name)
    part = whole.window(0.5 * whole.duration_s, 0.75 * whole.duration_s)
    seeds = range(20)
    drawn = [WORKLOADS[name].sample(np.random.default_rng(seed), part.duration_s) for seed in seeds]
    for window, factor in ((1.0, 1.5), (10.0, 1.5), (60.0, 2.5)):
        found = np.mean([index_of_dispersion(trace.arrival_s, window, part.duration_s) for trace in drawn])
        assert 1 / factor < found / index_of_dispersion(part.arrival_s, window, part.duration_s) < factor


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not at hand")
def test_hit_ratios_of_the_mooncake_conversation_trace() -> None:
    trace = recorded("mooncake-conversation")
    assert token_hit_ratio(trace) == pytest.approx(0.37, abs=0.005)
    assert token_hit_ratio(trace, 10_000) == pytest.approx(0.22, abs=0.005)


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
