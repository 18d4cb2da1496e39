"""ServeGen's clients: requests drawn from rates and laws of lengths."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from aladdin_traces import InputError, ReadOptions, gap_cv, merge, read_trace
from tests.traces.readers import samples
from tests.traces.readers.samples import servegen_client, written

NOTE = "requests drawn from ServeGen's laws with seed 0"


def test_each_window_has_the_requests_of_its_rate_and_the_lengths_of_its_time(tmp_path: Path) -> None:
    trace = read_trace(servegen_client(tmp_path))
    assert trace.notes == {NOTE: 210 + 222 + 60}
    # The clock starts at the first line, 600 s.
    window = (trace.arrival_s // 600.0).astype(int)
    kept = len(trace) - 210 - 222
    assert np.bincount(window).tolist() == [210, 222, 0, kept]
    assert trace.dropped == {"prompt_tokens <= 0": 60 - kept}
    assert 10 < kept < 40
    first, last = window < 2, window == 3
    assert np.unique(trace.prompt_tokens[first]).tolist() == [138, 140]
    assert np.mean(trace.prompt_tokens[first] == 140) == pytest.approx(0.75, abs=0.1)
    assert set(zip(trace.prompt_tokens[last].tolist(), trace.output_tokens[last].tolist(), strict=True)) == {(20, 9)}
    assert trace.session is None and trace.model is None


def test_a_seed_gives_one_trace_and_clients_of_one_seed_have_nothing_in_common(tmp_path: Path) -> None:
    path = servegen_client(tmp_path)
    trace = read_trace(path)
    assert read_trace(path, "servegen-client") == trace
    other = read_trace(path, options=ReadOptions(seed=1))
    assert other != trace
    assert list(other.notes) == [NOTE.replace("seed 0", "seed 1")]
    (tmp_path / "b").mkdir()
    neighbour = read_trace(servegen_client(tmp_path / "b", samples.SERVEGEN_RATES.replace("1.17", "1.18")))
    assert len(np.intersect1d(neighbour.arrival_s, trace.arrival_s)) == 0
    assert merge([trace, neighbour]).notes == {NOTE: 2 * 492}


@pytest.mark.parametrize(
    ("law", "shape", "cv"),
    [
        ("Gamma", 0.25, 2.0),
        ("Gamma", 4.0, 0.5),
        ("Weibull", 0.5, 5**0.5),
        ("Exponential", "", 1.0),
        ("Poisson", "", 1.0),
    ],
)
def test_gaps_have_the_law_of_the_window(tmp_path: Path, law: str, shape: object, cv: float) -> None:
    trace = read_trace(servegen_client(tmp_path, f"0,100,9,{law},{shape},9\n"))
    assert len(trace) == 60_000
    assert gap_cv(trace.arrival_s) == pytest.approx(cv, rel=0.05)
    assert np.mean(trace.arrival_s) == pytest.approx(300.0, rel=0.05)


@pytest.mark.parametrize(("law", "shape"), [("Gamma", 1e-300), ("Gamma", 1e300), ("Weibull", 1e-9), ("Weibull", 1e9)])
def test_extreme_shapes_are_drawn(tmp_path: Path, law: str, shape: float) -> None:
    trace = read_trace(servegen_client(tmp_path, f"0,0.01,1,{law},{shape},1\n0.1,0.01,1,{law},{shape},1\n700,9,1,,,\n"))
    assert 0.0 <= trace.arrival_s[0] <= trace.arrival_s[-1] <= 700.0


def test_counts_that_are_no_whole_number_hold_in_the_mean(tmp_path: Path) -> None:
    rates = "".join(f"{10 * k},0.025,1,Gamma,1,1\n" for k in range(4000))
    assert read_trace(servegen_client(tmp_path, rates)).notes[NOTE] == pytest.approx(1000, abs=100)


def test_gzipped_files_find_each_other_too(tmp_path: Path) -> None:
    trace = read_trace(servegen_client(tmp_path))
    for name in ("chunk-0-trace.csv", "chunk-0-dataset.json"):
        written(tmp_path, gzip.compress((tmp_path / name).read_bytes()), f"{name}.gz")
        (tmp_path / name).unlink()
    assert read_trace(tmp_path / "chunk-0-trace.csv.gz") == trace


def test_what_is_not_where_it_must_be(tmp_path: Path) -> None:
    path = servegen_client(tmp_path)
    with pytest.raises(InputError, match=r"chunk-0-dataset.json' .*give the client's chunk-N-trace\.csv"):
        read_trace(tmp_path / "chunk-0-dataset.json")
    (tmp_path / "chunk-0-dataset.json").unlink()
    with pytest.raises(
        InputError, match=r"chunk-0-dataset.json' .*no such file: put the lengths of chunk-0-trace\.csv"
    ):
        read_trace(path)
    with pytest.raises(InputError, match=r"call it chunk-N-trace\.csv"):
        read_trace(path.rename(tmp_path / "rates.csv"))
    with pytest.raises(InputError, match=r"give the client's chunk-N-trace\.csv"):
        read_trace(written(tmp_path, samples.sample_bytes("plain in Parquet")), "servegen-client")


GOOD = "0,0.35,1.17,Gamma,0.72,3.87\n"
BAD_RATES = {
    "law": (GOOD + "600,0.3,1,Pareto,1,1\n", r"chunk-0-trace\.csv line 2, column law: 'Pareto' .*Gamma"),
    "case of a law": (GOOD + "600,0.3,1,gamma,1,1\n", "line 2, column law: 'gamma' .*did you mean 'Gamma'"),
    "cells": (GOOD + "\n600,0.3,1,Gamma,1\n", "line 3: '600,0.3,1,Gamma,1' .*6 cells: t, rate, cv, law, shape, scale"),
    "time": (GOOD + "soon,0.3,1,Gamma,1,1\n", "line 2, column t: 'soon'"),
    "order": (GOOD + "600,0.3,1,Gamma,1,1\n600,0.3,1,Gamma,1,1\n", "line 3, column t: '600' .*order"),
    "rate": (GOOD + "600,-0.3,1,Gamma,1,1\n", "line 2, column rate: '-0.3'"),
    "no rate": (GOOD + "600,,1,Gamma,1,1\n", "line 2, column rate: ''"),
    "shape": (GOOD + "600,0.3,1,Gamma,0,1\n", "line 2, column shape: '0' .*> 0"),
    "no shape": (GOOD + "600,0.3,1,Weibull,nan,1\n", "line 2, column shape: 'nan'"),
    "too many": ("0,0.3,1,Gamma,1,1\n600,1e7,1,Gamma,1,1\n", "about 6e.09 draws; shorten it or lower the rate"),
    "nobody": ("0,0,0,Gamma,nan,nan\n600,0,0,,0,0\n", "0 requests"),
    "before the lengths": ("0,1,1,Gamma,1,1\n", "dataset.json windows: 2400 .*lengths from second 0 on"),
}


@pytest.mark.parametrize("case", BAD_RATES)
def test_bad_rates(tmp_path: Path, case: str) -> None:
    rates, message = BAD_RATES[case]
    laws = samples.SERVEGEN_LAWS.replace('"0"', '"3000"') if "lengths" in case else samples.SERVEGEN_LAWS
    with pytest.raises(InputError, match=message) as caught:
        read_trace(servegen_client(tmp_path, rates, laws))
    assert "\n" not in str(caught.value)


BAD_LAWS = {
    "text": ("{7: 1.0}", "seven", "window 0, key output_tokens: 'seven' .*as text"),
    "code": ("{7: 1.0}", "{7: __import__('os')}", "window 0, key output_tokens: .*as text"),
    "no pair": ("{7: 1.0}", "{7}", r"window 0, key output_tokens: '\{7\}'"),
    "open": ("{7: 1.0}", "{7: 1.0", r"window 0, key output_tokens: '\{7: 1.0'"),
    "deep": ("{7: 1.0}", "{" * 100_000 + "}", "window 0, key output_tokens"),
    "digits": ("{7: 1.0}", "{" + "7" * 5000 + ": 1.0}", "window 0, key output_tokens"),
    "large": ("{7: 1.0}", "{7777777777: 1.0}", "window 0, key output_tokens: 7777777777 .*to 2147483647"),
    "negative tokens": ("{7: 1.0}", "{-7: 1.0}", "window 0, key output_tokens: -7"),
    "sum": ("{7: 1.0}", "{7: 0.5}", "window 0, key output_tokens: .*sum is 1"),
    "negative": ("{7: 1.0}", "{7: -1.0, 8: 2.0}", "window 0, key output_tokens: .*sum is 1"),
    "infinite": ("{7: 1.0}", "{7: inf}", "window 0, key output_tokens: .*sum is 1"),
    "overflow": ("{7: 1.0}", "{7: 1e308, 8: 1e308}", "window 0, key output_tokens: .*sum is 1"),
    "missing key": ('"output_tokens": "{7: 1.0}"', '"text": "{7: 1.0}"', "window 0, key output_tokens: None"),
    "window": ('"0": {', '"start": {', "windows: 'start' .*first second"),
    "no object": ('"1800": {"input_tokens": "{}", "output_tokens": "{}"}', '"1800": 5', "window 1800: 5 .*object"),
    "no JSON": ('"0": {', '"0": ', r"chunk-0-dataset\.json line 1.* not JSON"),
}


@pytest.mark.parametrize("case", BAD_LAWS)
def test_bad_laws(tmp_path: Path, case: str) -> None:
    good, bad, message = BAD_LAWS[case]
    with pytest.raises(InputError, match=message) as caught:
        read_trace(servegen_client(tmp_path, laws=samples.SERVEGEN_LAWS.replace(good, bad)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("laws", ["{}", "[{}]", '{"0": {"input_tokens": "{}", "output_tokens": "{}"}}', "a,b\n1,2\n"])
def test_no_laws_at_all(tmp_path: Path, laws: str) -> None:
    with pytest.raises(InputError, match=r"chunk-0-dataset\.json: '0 windows'"):
        read_trace(servegen_client(tmp_path, laws=laws))
