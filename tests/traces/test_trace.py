"""The trace: what it accepts, what it refuses, and its cuts and scalings."""

import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aladdin_traces import InputError, PrefixBlocks, Trace


@pytest.fixture
def trace() -> Trace:
    return Trace.from_arrays([0.0, 1.5, 1.5, 4.0], [10, 20, 30, 40], [1, 2, 3, 4], [0, 1, 2, 3], dropped={"lost": 2})


def test_arrays_have_their_types_and_are_copies() -> None:
    times = np.array([0.0, 1.0])
    trace = Trace.from_arrays(times, [1, 2], pd.Series([3.0, 4.0]))
    times[0] = 9.0
    assert [a.dtype.str[1:] for a in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens, trace.klass)] == [
        "f8",
        "i4",
        "i4",
        "i1",
    ]
    assert trace.arrival_s.tolist() == [0.0, 1.0]
    assert trace.klass.tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        trace.arrival_s[0] = 1.0


GOOD: dict[str, Any] = {"arrival_s": [0, 1], "prompt_tokens": [5, 6], "output_tokens": [7, 8], "klass": [0, 3]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrival_s": [0.0, math.nan]}, r"arrival_s\[1\]: nan"),
        ({"arrival_s": [0.0, math.inf]}, r"arrival_s\[1\]: inf"),
        ({"arrival_s": [-0.5, 1.0]}, r"arrival_s\[0\]: -0.5"),
        ({"arrival_s": [2.0, 1.0]}, r"arrival_s\[1\]: 1.0 .*sort"),
        ({"arrival_s": [0.0, 10**400]}, r"arrival_s\[1\]"),
        ({"arrival_s": ["0", "1"]}, r"arrival_s\[0\]: '0' .*number"),
        ({"arrival_s": [0.0, None]}, r"arrival_s\[1\]: None"),
        ({"arrival_s": [True, False]}, r"arrival_s\[0\]: True"),
        ({"arrival_s": [1j, 2j]}, r"arrival_s\[0\]"),
        ({"arrival_s": [[0.0, 1.0]]}, "arrival_s: .*flat"),
        ({"arrival_s": [[0.0], [1.0, 2.0]]}, "arrival_s: .*flat"),
        ({"arrival_s": 3.0}, "arrival_s: .*flat"),
        ({"arrival_s": []}, "arrival_s: '0 values'"),
        ({"prompt_tokens": [0, 1]}, r"prompt_tokens\[0\]: 0"),
        ({"prompt_tokens": [1, 2.5]}, r"prompt_tokens\[1\]: 2.5 .*whole"),
        ({"prompt_tokens": [1, math.nan]}, r"prompt_tokens\[1\]: nan"),
        ({"prompt_tokens": [1, 2**31]}, r"prompt_tokens\[1\]: 2147483648"),
        ({"prompt_tokens": [1, 10**30]}, r"prompt_tokens\[1\]"),
        ({"output_tokens": [1, -1]}, r"output_tokens\[1\]: -1"),
        ({"output_tokens": [1]}, "output_tokens: '1 values' .*2"),
        ({"klass": [0, 4]}, r"klass\[1\]: 4 .*0 to 3"),
        ({"klass": [0, 1, 2]}, "klass: '3 values'"),
        ({"session": ["a"]}, "session: '1 values'"),
        ({"session": "ab"}, "session: 'ab'"),
        ({"session": 5}, "session: 5 .*list"),
        ({"model": ["a", 5]}, r"model\[1\]: 5 .*text"),
        ({"request_id": pd.Categorical(["a"])}, "request_id: '1 values'"),
        ({"prefix_blocks": PrefixBlocks.from_lists([[1]], 16)}, "prefix_blocks: '1 requests'"),
    ],
)
def test_bad_arrays(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Trace.from_arrays(**{**GOOD, **change})
    assert "\n" not in str(caught.value)


def test_largest_values_are_kept() -> None:
    trace = Trace.from_arrays([0.0], [2**31 - 1], np.array([2**31 - 1], np.uint64))
    assert trace.prompt_tokens[0] == trace.output_tokens[0] == 2**31 - 1


def test_length_duration_rate(trace: Trace) -> None:
    assert (len(trace), trace.duration_s, trace.rate_rps) == (4, 4.0, 1.0)
    assert repr(trace) == "Trace(4 requests in 4 s)"
    assert trace.dropped == {"lost": 2}
    assert Trace.from_arrays([0.0], [1], [1]).rate_rps == math.inf


def test_window_is_half_open_and_starts_at_zero(trace: Trace) -> None:
    part = trace.window(1.5, 4.0)
    assert part.arrival_s.tolist() == [0.0, 0.0]
    assert part.prompt_tokens.tolist() == [20, 30]
    assert part.klass.tolist() == [1, 2]
    assert len(trace.window(1.0)) == 3
    assert len(trace.window(0.0, 100.0)) == 4


def test_an_empty_window_is_an_empty_trace(trace: Trace) -> None:
    empty = trace.window(5.0, 6.0)
    assert (len(empty), empty.duration_s, empty.rate_rps) == (0, 0.0, 0.0)
    assert len(empty.scale_rate(2.0).clip(5, 5).window(0.0, 1.0).to_frame()) == 0


@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (2.0, 2.0), (3.0, 2.0), (math.nan, 2.0), (0.0, math.nan)])
def test_bad_windows(trace: Trace, bounds: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="_s: "):
        trace.window(*bounds)


def test_scale_rate(trace: Trace) -> None:
    faster = trace.scale_rate(2.0)
    assert faster.arrival_s.tolist() == [0.0, 0.75, 0.75, 2.0]
    assert faster.rate_rps == 2 * trace.rate_rps
    for factor in (0.0, -1.0, math.nan, "2", 1e-320):
        with pytest.raises(InputError, match="factor: "):
            trace.scale_rate(factor)  # type: ignore[arg-type]


def test_clip(trace: Trace) -> None:
    clipped = trace.clip(max_prompt_tokens=25, max_output_tokens=3)
    assert clipped.prompt_tokens.tolist() == [10, 20, 25, 25]
    assert clipped.output_tokens.tolist() == [1, 2, 3, 3]
    assert trace.clip() == trace
    with pytest.raises(InputError, match="max_prompt_tokens: 0"):
        trace.clip(max_prompt_tokens=0)
    with pytest.raises(InputError, match="max_output_tokens: "):
        trace.clip(max_output_tokens=2.0)  # type: ignore[arg-type]


def test_frame_is_a_copy(trace: Trace) -> None:
    frame = trace.to_frame()
    assert list(frame.columns) == ["arrival_s", "prompt_tokens", "output_tokens", "klass"]
    frame.loc[0, "prompt_tokens"] = 99
    assert trace.prompt_tokens[0] == 10


def test_equality_and_hash_follow_the_requests(trace: Trace) -> None:
    same = Trace.from_arrays([-0.0, 1.5, 1.5, 4.0], [10, 20, 30, 40], [1, 2, 3, 4], [0, 1, 2, 3])
    assert trace == same
    assert hash(trace) == hash(same)
    assert trace != trace.clip(max_prompt_tokens=5)
    assert trace != trace.window(0.0, 2.0)
    assert trace != "trace"


def test_pickle(trace: Trace) -> None:
    copy = pickle.loads(pickle.dumps(trace))
    assert copy == trace
    assert copy.dropped == trace.dropped


def test_names_go_with_the_requests() -> None:
    trace = Trace.from_arrays([0.0, 1.0, 2.0], [1, 2, 3], [4, 5, 6], session=["b", "", "a"], request_id=["x", "y", "z"])
    assert trace.session is not None
    assert trace.session.codes.tolist() == [0, -1, 1]
    assert trace.session.categories.tolist() == ["b", "a"]
    assert trace.model is None
    part = trace.window(1.0)
    assert part == Trace.from_arrays([0.0, 1.0], [2, 3], [5, 6], session=[None, "a"], request_id=["y", "z"])
    assert list(part.to_frame().columns) == [
        "arrival_s", "prompt_tokens", "output_tokens", "klass", "session", "request_id",
    ]  # fmt: skip


def test_equality_sees_names_however_they_are_coded() -> None:
    def named(session: pd.Categorical | list[str | None] | None) -> Trace:
        return Trace.from_arrays([0.0, 1.0, 2.0], [1, 1, 1], [1, 1, 1], session=session)

    one = named(["b", None, "a"])
    assert one == named(pd.Categorical(["b", None, "a"], categories=["a", "unused", "b"]))
    assert one != named(["a", None, "b"])
    assert one != named(["b", "a", "a"])
    assert one != named(None)


def test_lengths_get_arrivals() -> None:
    lengths = Trace.from_arrays([0.0, 0.0], [1, 2], [3, 4], [1, 0], model=["a", "b"])
    timed = lengths.with_arrivals([0.5, 1.5, 99.0])
    assert timed == Trace.from_arrays([0.5, 1.5], [1, 2], [3, 4], [1, 0], model=["a", "b"])
    with pytest.raises(InputError, match=r"arrival_s: '1 values' .*at least 2"):
        lengths.with_arrivals([0.0])
    with pytest.raises(InputError, match=r"arrival_s\[1\]"):
        lengths.with_arrivals([1.0, 0.0])


def test_a_frame_holds_the_blocks_of_each_request() -> None:
    blocks = PrefixBlocks.from_lists([[5, 6], [], [5]], 16)
    frame = Trace.from_arrays([0.0, 1.0, 2.0], [1, 1, 1], [1, 1, 1], prefix_blocks=blocks).to_frame()
    assert [ids.tolist() for ids in frame["prefix_blocks"]] == [[5, 6], [], [5]]
