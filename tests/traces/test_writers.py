"""Writers: what is read back is what was written, as far as the format can say it; the same bytes each time."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aladdin_traces import WRITERS, InputError, PrefixBlocks, ReadOptions, Trace, read_trace, write_trace
from tests.traces.readers import samples

BLOCKS = PrefixBlocks.from_lists([[0, 5], [0, 6, 2**63 - 1], []], 512)


def trace_with(**columns: object) -> Trace:
    return Trace.from_arrays([0.0, 0.25, 7.003], [600, 1100, 3], [1, 2, 3], **columns)  # type: ignore[arg-type]


FULL = trace_with(
    klass=[0, 3, 0], session=["a", None, "a"], model=["x, y", '"z"', "x, y"], request_id=["007", "8", "é"],
    prefix_blocks=BLOCKS,
)  # fmt: skip


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
@pytest.mark.parametrize("trace", [FULL, trace_with(), trace_with(session=[None, None, None], model=["a", "b", "c"])])
def test_the_plain_table_loses_nothing(tmp_path: Path, name: str, trace: Trace) -> None:
    write_trace(trace, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert read_trace(tmp_path / name) == trace
    write_trace(trace, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.floats(0, 1e9), st.integers(1, 2**31 - 1), text, st.lists(st.integers(0, 2**63 - 1))))
)
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_any_plain_table_loses_nothing(
    tmp_path: Path, name: str, rows: list[tuple[float, int, str, list[int]]]
) -> None:
    rows = sorted(rows) or [(0.0, 1, "", [])]
    times, tokens, names, ids = (list(column) for column in zip(*rows, strict=True))
    blocks = PrefixBlocks.from_lists(ids, 16) if any(ids) else None
    trace = Trace.from_arrays(np.array(times) - times[0], tokens, tokens, session=names, prefix_blocks=blocks)
    write_trace(trace, tmp_path / name)
    back = read_trace(tmp_path / name)
    assert back == trace


def test_mooncake(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    write_trace(trace_with(prefix_blocks=BLOCKS), path, "mooncake")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[1] == {"timestamp": 250, "input_length": 1100, "output_length": 2, "hash_ids": [0, 6, 2**63 - 1]}
    assert read_trace(path) == trace_with(prefix_blocks=BLOCKS)


@pytest.mark.parametrize(("format", "size"), [("mooncake", 512), ("timed_trace", 16)])
def test_prompts_without_blocks_get_blocks_of_their_own(tmp_path: Path, format: str, size: int) -> None:
    path = tmp_path / "t.jsonl.gz"
    write_trace(trace_with(), path, format)
    assert path.read_bytes().startswith(b"\x1f\x8b")
    back = read_trace(path, format, ReadOptions(block_size=size))
    assert back.arrival_s.tolist() == [0.0, 0.25, 7.003]
    assert back.prefix_blocks is not None
    assert back.prefix_blocks.counts.tolist() == (-(-trace_with().prompt_tokens // size)).tolist()
    assert len(np.unique(back.prefix_blocks.ids)) == len(back.prefix_blocks.ids)


def test_timed_trace_keeps_its_block_size_and_tells_it(tmp_path: Path) -> None:
    trace = trace_with(prefix_blocks=PrefixBlocks.from_lists([[1], [1, 2], [3]], 64))
    write_trace(trace, tmp_path / "t.jsonl", "timed_trace")
    assert read_trace(tmp_path / "t.jsonl", "timed_trace", ReadOptions(block_size=64)) == trace
    assert "--timed-trace-chunk-hash-size 64" in str(WRITERS["timed_trace"].remark(trace))
    assert "block size of 64" in str(WRITERS["aiperf"].remark(trace))
    with pytest.raises(InputError, match=r"block_size: 64 .*512"):
        write_trace(trace, tmp_path / "u.jsonl", "mooncake")
    assert not (tmp_path / "u.jsonl").exists()


@pytest.mark.parametrize("blocks", [None, BLOCKS])
def test_aiperf(tmp_path: Path, blocks: PrefixBlocks | None) -> None:
    trace = trace_with(prefix_blocks=blocks)
    write_trace(trace, tmp_path / "t.jsonl", "aiperf")
    assert read_trace(tmp_path / "t.jsonl") == trace
    assert ("hash_ids" in (tmp_path / "t.jsonl").read_text()) == (blocks is not None)


def test_vllm_custom_prompts_have_their_lengths_and_share_no_beginning(tmp_path: Path) -> None:
    trace = Trace.from_arrays([0.0] * 40, range(1, 41), range(2, 42))
    write_trace(trace, tmp_path / "t.jsonl", "vllm-custom")
    assert read_trace(tmp_path / "t.jsonl") == trace
    prompts = [json.loads(line)["prompt"] for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [len(prompt.split()) for prompt in prompts] == list(range(1, 41))
    assert len({tuple(prompt.split()[:2]) for prompt in prompts[1:]}) == 39


@pytest.mark.parametrize("format", WRITERS)
def test_gzip_and_bytes_are_the_same_each_time(tmp_path: Path, format: str) -> None:
    write_trace(trace_with(prefix_blocks=BLOCKS), tmp_path / "a", format)
    write_trace(trace_with(prefix_blocks=BLOCKS), tmp_path / "b", format)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    if format != "parquet":
        write_trace(trace_with(prefix_blocks=BLOCKS), tmp_path / "a.gz", format)
        assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("t.jsonl", None, r"end it in \.csv.*name the format: csv, parquet, mooncake"),
        ("t", None, r"end it in \.csv"),
        ("t.parquet.gz", None, r"leave out \.gz"),
        ("t.gz", "parquet", r"leave out \.gz"),
        ("t.csv", "mooncak", "did you mean 'mooncake'"),
    ],
)
def test_bad_targets(tmp_path: Path, name: str, format: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_trace(trace_with(), tmp_path / name, format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_every_sample_survives_the_plain_table(tmp_path: Path, name: str) -> None:
    trace = read_trace(samples.written(tmp_path, samples.sample_bytes(name)))
    for ending in ("csv", "parquet"):
        write_trace(trace, tmp_path / f"t.{ending}")
        assert read_trace(tmp_path / f"t.{ending}") == trace
