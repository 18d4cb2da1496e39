"""Traces within scenario files: as lists and back, whatever they hold."""

import pytest

from aladdin_traces import InputError, PrefixBlocks, Trace, Workload
from aladdin_traces.inline import trace_to_table

FULL = Trace.from_arrays(
    [0.0, 1.0],
    [5, 6],
    [7, 8],
    [0, 2],
    session=["a", None],
    model=["m", "n"],
    prefix_blocks=PrefixBlocks.from_lists([[3, 4], []], 16),
)


def test_everything_is_kept() -> None:
    table = trace_to_table(FULL)
    assert table == {
        "arrival_s": [0.0, 1.0],
        "prompt_tokens": [5, 6],
        "output_tokens": [7, 8],
        "klass": [0, 2],
        "session": ["a", ""],
        "model": ["m", "n"],
        "prefix_blocks": [[3, 4], []],
        "block_size": 16,
    }
    workload = Workload.from_trace(FULL)
    assert workload.to_dict() == table
    assert Workload.from_dict(table) == workload


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prefix_blocks": [3, 4]}, "prefix_blocks: 3 "),
        ({"prefix_blocks": [["x"], []]}, "prefix_blocks: 'x'"),
        ({"prefix_blocks": 3}, "prefix_blocks: 3 "),
        ({"block_size": None}, "block_size: None"),
        ({"prefix_blocks": [[1]]}, "prefix_blocks: '1 requests'"),
        ({"session": [1, 2]}, r"session\[0\]: 1"),
        ({"sesion": ["a", "b"]}, "did you mean 'session'"),
    ],
)
def test_bad_tables(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Workload.from_dict({**trace_to_table(FULL), **change})
