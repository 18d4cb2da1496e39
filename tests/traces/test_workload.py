"""Workloads: drawing and replaying, tables there and back, equality, and seeds across processes."""

import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aladdin_traces import (
    LENGTHS,
    BucketedLengths,
    Diurnal,
    EmpiricalQuantiles,
    FixedLengths,
    Flood,
    GammaRenewal,
    IndependentLengths,
    InputError,
    LognormalMixture,
    OnOff,
    Poisson,
    Trace,
    Workload,
    write_trace,
)

SIDE = EmpiricalQuantiles((0.0, 0.25, 1.0), (1, 20, 300))
GENERATED = [
    Workload.generated(Poisson(40.0), "sharegpt"),
    Workload.generated(GammaRenewal(40, 0.1 + 0.2), LENGTHS["azure-conv"], (0.5, 0.25, 0.25)),
    Workload.generated(OnOff(), FixedLengths(3, 4)),
    Workload.generated(Flood(1.0, 20.0, 600.0, 30.0), IndependentLengths(SIDE, LognormalMixture((1,), (5,), (1,)))),
    Workload.generated(Diurnal(5.0, (1.0, 2.0, 3.0), period_s=60.0), BucketedLengths(SIDE, (10,), (SIDE, SIDE))),
    Workload.generated(Diurnal(5.0), "azure-code", [1.0]),
]
REPLAYED = [
    Workload.from_arrays([0.0, 1.0, 2.5], [1, 2, 3], [4, 5, 6]),
    Workload.from_arrays([0.1 + 0.2, 1 / 3], [1, 2], [4, 5], [0, 3]).with_rate(7.7),
]


def rng(seed: int = 11) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv.gz"
    write_trace(Trace.from_arrays([0.0, 1.0, 2.0, 4.0], [1, 2, 3, 4], [5, 6, 7, 8]), path)
    return path


@pytest.mark.parametrize("workload", GENERATED, ids=lambda w: w.arrivals.kind)
def test_generated_samples_are_new_draws(workload: Workload) -> None:
    source = rng()
    first, second = workload.sample(source, 200.0), workload.sample(source, 200.0)
    assert first != second
    assert first == workload.sample(rng(), 200.0)
    assert Trace.from_arrays(first.arrival_s, first.prompt_tokens, first.output_tokens, first.klass) == first
    assert first.duration_s < 200.0


def test_classes_have_their_shares() -> None:
    trace = Workload.generated(Poisson(100.0), FixedLengths(1, 1), (0.6, 0.0, 0.4)).sample(rng(), 1000.0)
    assert np.bincount(trace.klass, minlength=4) / len(trace) == pytest.approx([0.6, 0.0, 0.4, 0.0], abs=0.01)
    assert not Workload.generated(Poisson(100.0), FixedLengths(1, 1)).sample(rng(), 10.0).klass.any()


def test_nothing_drawn_is_an_empty_trace() -> None:
    assert len(Workload.generated(Poisson(1e-9), "azure-conv", (0.5, 0.5)).sample(rng(), 1.0)) == 0


def test_a_trace_is_replayed_the_same_each_time() -> None:
    workload, source = REPLAYED[0], rng()
    assert workload.sample(source, 2.5).arrival_s.tolist() == [0.0, 1.0]
    assert workload.sample(source, 2.5) == workload.sample(source, 2.5)
    assert len(workload.sample(source, None)) == 3
    assert source.random() == rng().random()


def test_a_file_is_replayed(file: Path) -> None:
    workload = Workload.from_file(file, rate_scale=2)
    assert workload.sample(rng(), None).arrival_s.tolist() == [0.0, 0.5, 1.0, 2.0]
    assert workload.mean_rate_rps == 2.0
    assert workload.path == str(file)
    assert Workload.from_trace(Workload.from_file(file).sample(rng(), None)) != workload


@pytest.mark.parametrize("workload", GENERATED + REPLAYED, ids=repr)
def test_with_rate(workload: Workload) -> None:
    assert workload.with_rate(12.5).mean_rate_rps == pytest.approx(12.5, rel=1e-12)
    assert workload.with_rate(3.0).with_rate(12.5).mean_rate_rps == pytest.approx(12.5, rel=1e-12)
    with pytest.raises(InputError, match="rate_rps: -1"):
        workload.with_rate(-1)


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(plain(item) for item in value)
    return type(value) in (str, int, float)


@pytest.mark.parametrize("workload", GENERATED + REPLAYED, ids=repr)
def test_tables_and_pickles_lose_nothing(workload: Workload) -> None:
    table = workload.to_dict()
    assert plain(table)
    for copy in (
        Workload.from_dict(table),
        Workload.from_dict(json.loads(json.dumps(table))),
        pickle.loads(pickle.dumps(workload)),
    ):
        assert copy == workload
        assert hash(copy) == hash(workload)
        assert copy.sample(rng(), 30.0) == workload.sample(rng(), 30.0)


def test_file_tables_lose_nothing(file: Path) -> None:
    for workload in (Workload.from_file(file), Workload.from_file(str(file), "csv").with_rate(3.3)):
        assert plain(workload.to_dict())
        assert Workload.from_dict(workload.to_dict()) == workload
    assert Workload.from_file(file).to_dict() == {"file": str(file)}


def test_tables_are_short_where_they_can_be() -> None:
    assert GENERATED[0].to_dict() == {"arrivals": {"kind": "poisson", "rate_rps": 40.0}, "lengths": "sharegpt"}
    assert GENERATED[1].to_dict()["lengths"] == "azure-conv"
    assert REPLAYED[0].to_dict() == {
        "arrival_s": [0.0, 1.0, 2.5],
        "prompt_tokens": [1, 2, 3],
        "output_tokens": [4, 5, 6],
    }


def test_a_table_written_by_hand() -> None:
    table = tomllib.loads("""
        class_shares = [0.5, 0.5]
        [arrivals]
        kind = "onoff"
        on_rate_rps = 4
        [lengths]
        kind = "independent"
        prompt = {kind = "quantiles", probabilities = [0, 1], tokens = [5, 9]}
        output = {kind = "lognormal-mixture", weights = [1], mus = [3], sigmas = [1]}
    """)
    expected = IndependentLengths(EmpiricalQuantiles((0.0, 1.0), (5, 9)), LognormalMixture((1.0,), (3.0,), (1.0,)))
    assert Workload.from_dict(table) == Workload.generated(OnOff(on_rate_rps=4.0), expected, (0.5, 0.5))


POISSON = {"kind": "poisson", "rate_rps": 1.0}
ARRAYS = {"arrival_s": [0.0], "prompt_tokens": [1], "output_tokens": [1]}
QUANTILES = {"kind": "quantiles", "probabilities": [0, 1], "tokens": [1, 2]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (5, "workload: 5"),
        ({}, "workload: 'nothing' .*missing arrivals, lengths"),
        ({"arrivals": POISSON}, "workload: 'arrivals' .*missing lengths"),
        ({"arrivals": POISSON, "length": "sharegpt"}, "length: 'sharegpt' .*did you mean 'lengths'"),
        ({"arrivals": POISSON, "lengths": "sharegtp"}, "lengths: 'sharegtp' .*did you mean 'sharegpt'"),
        ({"arrivals": "poisson", "lengths": "sharegpt"}, r"arrivals\.table: 'poisson' .*kind"),
        ({"arrivals": {"kind": "poison"}, "lengths": "sharegpt"}, r"arrivals\.kind: 'poison' .*'poisson'"),
        ({"arrivals": {"rate_rps": 1.0}, "lengths": "sharegpt"}, r"arrivals\.kind: None"),
        ({"arrivals": {"kind": ["poisson"]}, "lengths": "sharegpt"}, r"arrivals\.kind: "),
        ({"arrivals": {"kind": "poisson"}, "lengths": "sharegpt"}, r"arrivals\.parameters: 'none' .*missing rate_rps"),
        ({"arrivals": {**POISSON, "rate": 2}, "lengths": "sharegpt"}, r"arrivals\.rate: 2 .*'rate_rps'"),
        ({"arrivals": {"kind": "poisson", "rate_rps": -1}, "lengths": "sharegpt"}, r"arrivals\.rate_rps: -1"),
        ({"arrivals": POISSON, "lengths": 5}, r"lengths\.table: 5"),
        ({"arrivals": POISSON, "lengths": {"kind": "fixd"}}, r"lengths\.kind: 'fixd' .*'fixed'"),
        (
            {
                "arrivals": POISSON,
                "lengths": {"kind": "independent", "prompt": {**QUANTILES, "tokens": [2, 1]}, "output": 1},
            },
            r"lengths\.prompt\.tokens: ",
        ),
        (
            {
                "arrivals": POISSON,
                "lengths": {"kind": "bucketed", "prompt": QUANTILES, "edges": [1], "outputs": [{}, 1]},
            },
            r"lengths\.outputs\[0\]\.kind: None",
        ),
        ({"arrivals": POISSON, "lengths": "sharegpt", "class_shares": [0.5]}, r"class_shares: \[0.5\] .*sum to 1"),
        ({"arrivals": POISSON, "lengths": "sharegpt", "class_shares": [0.2] * 5}, "class_shares: .*at most 4"),
        ({"arrivals": POISSON, "lengths": "sharegpt", "class_shares": "1"}, "class_shares: '1'"),
        ({"arrivals": POISSON, "lengths": "sharegpt", "class_shares": [2.0, -1.0]}, r"class_shares\[1\]: -1.0"),
        ({"file": "absent.csv"}, "path: 'absent.csv' .*no such file"),
        ({"file": 3}, "path: 3"),
        ({"file": "absent.csv", "arrivals": POISSON}, "arrivals: .*no such key here"),
        ({"file": "absent.csv", "format": "azur"}, "format: 'azur' .*'azure'"),
        ({"file": "absent.csv", "format": ["csv"]}, "format: "),
        ({"fil": "absent.csv"}, "fil: 'absent.csv' .*did you mean 'file'"),
        ({**ARRAYS, "prompt": [1]}, "prompt: .*'prompt_tokens'"),
        ({"arrival_s": [0.0]}, "missing prompt_tokens, output_tokens"),
        ({**ARRAYS, "prompt_tokens": [0]}, r"prompt_tokens\[0\]: 0"),
        ({**ARRAYS, "rate_scale": 0}, "rate_scale: 0"),
        ({5: 1}, "5: 1 .*no such key"),
    ],
)
def test_bad_tables(table: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Workload.from_dict(table)
    assert "\n" not in str(caught.value)


def test_bad_parts() -> None:
    trace = Trace.from_arrays([0.0], [1], [1])
    for parts, field in (
        ({}, "arrivals"),
        ({"arrivals": Poisson(1.0)}, "lengths"),
        ({"arrivals": Poisson(1.0), "lengths": SIDE}, "lengths"),
        ({"arrivals": Poisson(1.0), "lengths": LENGTHS["sharegpt"], "rate_scale": 2.0}, "path"),
        ({"trace": trace, "arrivals": Poisson(1.0)}, "trace"),
        ({"trace": trace, "class_shares": (1.0,)}, "trace"),
        ({"trace": trace.window(1.0)}, "trace"),
        ({"trace": [1]}, "trace"),
    ):
        with pytest.raises(InputError, match=f"^{field}: "):
            Workload(**parts)
    with pytest.raises(InputError, match=r"horizon_s: None .*no end"):
        GENERATED[0].sample(rng(), None)
    for horizon in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="_s: "):
            REPLAYED[0].sample(rng(), horizon)
    with pytest.raises(InputError, match=r"rate_rps: 2\.0 .*time 0"):
        Workload.from_trace(trace).with_rate(2.0)


def digest(workload: Workload) -> str:
    trace = workload.sample(np.random.default_rng(2024), 120.0)
    return hashlib.sha256(trace.to_frame().to_csv().encode()).hexdigest()


def test_a_seed_gives_the_same_requests_in_another_process() -> None:
    script = "import pickle, sys, test_workload as t; print(*map(t.digest, pickle.load(sys.stdin.buffer)))"
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(GENERATED),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "5"},
        check=True,
        timeout=60,
    )
    assert done.stdout.decode().split() == [digest(workload) for workload in GENERATED]
