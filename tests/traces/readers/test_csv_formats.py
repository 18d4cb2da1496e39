"""Formats of named columns: Azure, BurstGPT, Vidur and the plain table."""

import io
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from aladdin_traces import InputError, ReadOptions, Trace, read_trace
from tests.traces.readers import samples
from tests.traces.readers.samples import written


def test_azure_of_three_years(tmp_path: Path) -> None:
    first = read_trace(written(tmp_path, samples.AZURE_2023))
    assert first == Trace.from_arrays([0.0, 4.314579], [374, 396], [44, 109])
    assert read_trace(written(tmp_path, samples.AZURE_2024)).arrival_s.tolist() == [0.0, 0.041683]
    third = read_trace(written(tmp_path, samples.AZURE_2025))
    assert third == Trace.from_arrays([0.0, 5.55], [770, 949], [491, 126])


def test_azure_in_parquet_is_the_same(tmp_path: Path) -> None:
    text = read_trace(written(tmp_path, samples.AZURE_2024))
    assert read_trace(written(tmp_path, samples.parquet(samples.AZURE_2024))) == text


def test_burstgpt(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.BURSTGPT))
    assert trace == Trace.from_arrays(
        [0.0, 40.0, 113.0], [472, 1087, 417], [18, 230, 276], model=["ChatGPT", "GPT-4", "ChatGPT"]
    )
    assert trace.dropped == {"prompt_tokens <= 0": 1}


def test_burstgpt_3_has_sessions_but_for_its_interface(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.BURSTGPT_3))
    assert trace.arrival_s.tolist() == [0.0, 51.0, 82.0]
    assert trace.session is not None
    assert trace.session.codes.tolist() == [0, -1, 0]
    assert trace.session.categories.tolist() == ["aa-1"]


def test_burstgpt_filters_count_what_they_drop(tmp_path: Path) -> None:
    path = written(tmp_path, samples.BURSTGPT)
    trace = read_trace(path, options=ReadOptions(models=("ChatGPT",), log_types=("Conversation log",)))
    assert trace.prompt_tokens.tolist() == [472, 417]
    assert trace.dropped == {"another Model": 1, "prompt_tokens <= 0": 1}
    only = read_trace(path, options=ReadOptions(log_types=("API log",)))
    assert (only.prompt_tokens.tolist(), only.arrival_s.tolist()) == ([1087], [40.0])
    with pytest.raises(InputError, match=r"models: 'gpt' .*the file has ChatGPT, GPT-4"):
        read_trace(path, options=ReadOptions(models=("gpt",)))
    with pytest.raises(InputError, match=r"no row is left .3 with another Model, 1 with another Log Type"):
        read_trace(path, options=ReadOptions(models=("GPT-4",), log_types=("Conversation log",)))


def test_vidur(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.VIDUR))
    assert trace == Trace.from_arrays([0.0, 4.25], [374, 396], [44, 109])


@pytest.mark.parametrize("text", [samples.VIDUR_LENGTHS, samples.PLAIN_LENGTHS])
def test_lengths_alone_all_arrive_at_zero(tmp_path: Path, text: str) -> None:
    trace = read_trace(written(tmp_path, text))
    assert trace.arrival_s.tolist() == [0.0, 0.0]
    assert trace.with_arrivals([1.0, 2.0]).arrival_s.tolist() == [1.0, 2.0]


def test_lengths_beside_an_unknown_column_are_not_taken_for_lengths_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing arrived_at_s or arrival_s"):
        read_trace(written(tmp_path, "time,prompt_tokens,output_tokens\n0,1,1\n"))


def test_the_plain_table_holds_everything(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, samples.PLAIN_FULL))
    assert list(trace.columns()) == [
        "arrival_s", "prompt_tokens", "output_tokens", "klass", "session", "model", "request_id", "prefix_blocks",
    ]  # fmt: skip
    assert trace.request_id is not None
    assert list(trace.request_id) == ["007", "008"]
    assert trace.prefix_blocks is not None
    assert (trace.prefix_blocks[0].tolist(), trace.prefix_blocks[1].tolist()) == ([1, 2], [])
    assert trace.prefix_blocks.block_size == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("1 2,16", "1 x,16"), "line 2, column prefix_blocks: '1 x' .*whole numbers"),
        (("1 2,16", "1 -2,16"), "line 2, column prefix_blocks: '1 -2'"),
        (("1 2,16", "1 2,0"), "line 2, column block_size: '0'"),
        (("1 2,16", "1 2,8"), "line 3, column block_size: '16' .*one block size"),
        ((",block_size", ",size"), "missing block_size"),
        ((",model,", ",session,"), "'session' .*twice"),
    ],
)
def test_bad_plain_tables(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_trace(written(tmp_path, samples.PLAIN_FULL.replace(*change)))


def table_with(column: str, *values: object) -> bytes:
    """Requests of 5 and 5 tokens a second apart, in Parquet, with a column of these values."""
    columns = {"arrival_s": range(len(values)), "prompt_tokens": 5, "output_tokens": 5}
    packed = io.BytesIO()
    pd.DataFrame({**columns, column: values}).to_parquet(packed, index=False)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("prompt_tokens", (b"5", b"ten"), "row 1, column prompt_tokens: '5'"),
        ("session", (True, False), "column session: 'bool' .*text"),
        ("request_id", (1.0, math.inf), "row 2, column request_id: inf .*name"),
    ],
)
def test_parquet_columns_of_another_type(tmp_path: Path, column: str, values: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_trace(written(tmp_path, table_with(column, *values)))


def test_azures_times_in_parquet(tmp_path: Path) -> None:
    lengths = {"ContextTokens": [1, 1], "GeneratedTokens": [1, 1]}
    packed = io.BytesIO()
    pd.DataFrame({"TIMESTAMP": [b"2024-05-10", b"2024-05-10 00:00:02"], **lengths}).to_parquet(packed)
    assert read_trace(written(tmp_path, packed.getvalue())).arrival_s.tolist() == [0.0, 2.0]
    packed = io.BytesIO()
    pd.DataFrame({"TIMESTAMP": pd.to_datetime(["2024-05-10", None]), **lengths}).to_parquet(packed)
    with pytest.raises(InputError, match=r"row 2, column TIMESTAMP: None .*give a time"):
        read_trace(written(tmp_path, packed.getvalue()))


def test_times_of_any_century_are_read(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n1500-01-01 00:00:00,1,1\n1500-01-01 00:00:00.000001,1,1\n"
    assert read_trace(written(tmp_path, text)).arrival_s.tolist() == [0.0, 1e-6]


THREADS_STARTED = """
import os, sys
from aladdin_traces import read_trace
before = len(os.listdir("/proc/self/task"))
read_trace(sys.argv[1])
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize(("content", "most"), [(samples.PLAIN, 1), (samples.parquet(samples.PLAIN), 0)])
def test_a_small_file_starts_no_pool_of_threads(tmp_path: Path, content: str | bytes, most: int) -> None:
    """A process that ends while they start is aborted; the one of CSV has started once it has read the file."""
    command = [sys.executable, "-c", THREADS_STARTED, str(written(tmp_path, content))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) <= most
