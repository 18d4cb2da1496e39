"""Transformations: everything that a trace knows of a request goes with it."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aladdin_traces import (
    InputError,
    PrefixBlocks,
    Trace,
    gap_cv,
    jitter,
    merge,
    read_trace,
    repeat,
    split,
    thin,
)

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the public trace files are not beside the project")


def numbered(times: list[float], name: str = "s", ids: bool = True) -> Trace:
    """Requests whose every column says which one it is."""
    count = len(times)
    return Trace.from_arrays(
        times,
        np.arange(1, count + 1),
        np.arange(101, count + 101),
        np.arange(count) % 4,
        session=[f"{name}{i // 2}" if i % 3 else None for i in range(count)],
        model=["m", "n"] * (count // 2) + ["m"] * (count % 2),
        request_id=[f"{name}-{i}" for i in range(1, count + 1)],
        prefix_blocks=PrefixBlocks.from_lists([[0, i][: i % 3] for i in range(1, count + 1)], 16) if ids else None,
        dropped={"lost": 1},
    )


def check_consistent(trace: Trace) -> None:
    """All columns of a request still belong together."""
    assert trace.request_id is not None
    assert trace.prefix_blocks is not None
    for row in range(len(trace)):
        number = int(trace.prompt_tokens[row])
        assert trace.output_tokens[row] == number + 100
        assert trace.klass[row] == (number - 1) % 4
        assert trace.request_id[row].endswith(f"-{number}")
        assert len(trace.prefix_blocks[row]) == number % 3


times_lists = st.lists(st.floats(0, 1e4), min_size=1, max_size=30).map(sorted)


@settings(deadline=None)
@given(times=times_lists, seed=st.integers(0, 9))
def test_columns_stay_together(times: list[float], seed: int) -> None:
    trace = numbered(times)
    parts = [thin(trace, 0.5, seed), jitter(trace, 3.0, seed), merge([trace, trace]), trace.window(0.0, times[-1] + 1)]
    for part in parts:
        check_consistent(part)
        assert np.all(np.diff(part.arrival_s) >= 0)
        assert part.dropped["lost"] >= 1


def test_thin_keeps_a_share() -> None:
    trace = numbered([float(i) for i in range(4000)])
    part = thin(trace, 0.25, seed=3)
    assert len(part) == pytest.approx(1000, abs=100)
    assert set(part.arrival_s.tolist()) <= set(trace.arrival_s.tolist())
    assert thin(trace, 0.25, seed=3) == part
    assert thin(trace, 0.25, seed=4) != part
    assert thin(trace, 1.0) == trace


def test_jitter_delays_by_less_than_its_width() -> None:
    trace = numbered([0.0] * 500 + [3.0] * 500)
    spread = jitter(trace, 3.0, seed=1)
    delays = spread.arrival_s - trace.arrival_s
    assert 0.0 <= delays.min() < 0.1
    assert 2.9 < delays.max() < 3.0
    assert spread.request_id is not None
    assert list(spread.request_id) == list(trace.request_id or [])
    # evenly spread requests are a Poisson process, near enough
    assert gap_cv(spread.arrival_s) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, math.nan, "a"])
def test_bad_shares(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        thin(numbered([0.0]), share)


@pytest.mark.parametrize("width", [0.0, -1.0, math.inf, math.nan])
def test_bad_widths(width: float) -> None:
    with pytest.raises(InputError, match="width_s"):
        jitter(numbered([0.0]), width)


def test_repeat_goes_on_after_one_mean_gap() -> None:
    trace = repeat(numbered([0.0, 1.0, 2.0]), 3)
    assert trace.arrival_s.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    assert repeat(numbered([0.0, 1.0]), 2, period_s=10.0).arrival_s.tolist() == [0.0, 1.0, 10.0, 11.0]
    assert repeat(numbered([0.0, 1.0]), 1) == numbered([0.0, 1.0])
    assert repeat(numbered([0.0]), 2, period_s=1.0).arrival_s.tolist() == [0.0, 1.0]


def test_repeated_copies_share_nothing() -> None:
    trace = repeat(numbered([0.0, 1.0, 2.0, 3.0, 4.0]), 2)
    assert trace.prefix_blocks is not None
    first, second = (set(trace.prefix_blocks.take(np.arange(5) + start).ids.tolist()) for start in (0, 5))
    assert first
    assert first.isdisjoint(second)
    assert trace.session is not None
    assert list(trace.session[:5].dropna()) == ["s0", "s1", "s2"]
    assert list(trace.session[5:].dropna()) == ["s0#2", "s1#2", "s2#2"]


@pytest.mark.parametrize(
    ("times", "period", "field"),
    [(0, None, "times"), (1.5, None, "times"), (10**9, None, "times"), (2, 0.5, "period_s")],
)
def test_bad_repeats(times: int, period: float | None, field: str) -> None:
    with pytest.raises(InputError, match=field):
        repeat(numbered([0.0, 1.0]), times, period)


def test_a_trace_without_times_needs_a_period() -> None:
    with pytest.raises(InputError, match="all requests arrive at time 0"):
        repeat(numbered([0.0, 0.0]), 2)


def test_merge_orders_by_arrival_and_keeps_what_each_knows() -> None:
    plain = Trace.from_arrays([0.5, 2.0], [7, 8], [9, 10])
    trace = merge([numbered([0.0, 2.0, 3.0]), plain])
    assert trace.arrival_s.tolist() == [0.0, 0.5, 2.0, 2.0, 3.0]
    assert trace.prompt_tokens.tolist() == [1, 7, 2, 8, 3]
    assert trace.session is not None
    assert [name if isinstance(name, str) else None for name in trace.session] == [None, None, "s0", None, "s1"]
    assert trace.prefix_blocks is not None
    assert trace.prefix_blocks.counts.tolist() == [1, 0, 2, 0, 0]
    assert merge([plain]) == plain


def test_merged_models_of_one_name_are_one() -> None:
    trace = merge([numbered([0.0, 1.0]), numbered([0.5, 1.5], "t")])
    assert trace.model is not None
    assert list(trace.model.categories) == ["m", "n"]
    assert trace.session is not None
    assert set(trace.session.dropna()) == {"s0", "t0"}


def test_numbered_sessions_are_merged_with_named_ones() -> None:
    times, tokens = np.array([0.0, 1.0]), np.array([1, 1], np.int32)
    drawn = Trace(times, tokens, tokens, np.zeros(2, np.int8), session=pd.Categorical.from_codes([0, 1], [7, 9]))
    trace = merge([drawn, numbered([0.5, 1.5]), drawn])
    assert trace.session is not None
    assert set(trace.session.dropna()) == {"7", "9", "s0", "7#3", "9#3"}


def test_ids_of_any_size_are_merged() -> None:
    one = Trace.from_arrays([0.0], [5], [5], prefix_blocks=PrefixBlocks.from_lists([[2**63 - 1, 3]], 16))
    trace = merge([one, one, one])
    assert trace.prefix_blocks is not None
    assert len(set(trace.prefix_blocks.ids.tolist())) == 6


def test_bad_merges() -> None:
    with pytest.raises(InputError, match="traces"):
        merge([])
    blocks = PrefixBlocks.from_lists([[1]], 32)
    with pytest.raises(InputError, match=r"block_size: 32 .*16"):
        merge([numbered([0.0]), Trace.from_arrays([0.0], [1], [1], prefix_blocks=blocks)])


def test_splits_are_a_half_and_two_quarters_of_the_time() -> None:
    trace = numbered([float(i) for i in range(9)])
    tune, validate, test = (split(trace, part) for part in ("tune", "validate", "test"))
    assert [part.prompt_tokens.tolist() for part in (tune, validate, test)] == [[1, 2, 3, 4], [5, 6], [7, 8, 9]]
    assert test.arrival_s.tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(InputError, match="did you mean 'test'"):
        split(trace, "tests")
    with pytest.raises(InputError, match="no times to split by"):
        split(numbered([0.0, 0.0]), "tune")


@needs_shared
@pytest.mark.parametrize("name", ["azure2023_code.csv.gz", "mooncake_conversation_trace.jsonl.gz"])
def test_splits_of_a_public_trace_are_all_of_it(name: str) -> None:
    trace = read_trace(SHARED / name)
    assert sum(len(split(trace, part)) for part in ("tune", "validate", "test")) == len(trace)
