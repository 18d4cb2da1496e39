"""What may be wrong with a file of rows, in every format of named columns: one line with file, line, column, value."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from aladdin_traces import InputError, read_trace
from tests.traces.readers import samples
from tests.traces.readers.samples import written

HEADS = {
    "azure": ("TIMESTAMP,ContextTokens,GeneratedTokens", "2024-05-10 00:00:{:02d}.5+00:00,{},{}"),
    "burstgpt": ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", "{},m,{},{},1,API log"),
    "vidur": ("arrived_at,num_prefill_tokens,num_decode_tokens", "{},{},{}"),
    "guidellm": ("timestamp,input_length,output_length", "{}.5,{},{}"),
    "csv": ("arrival_s,prompt_tokens,output_tokens", "{},{},{}"),
}
COLUMNS = {
    "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
    "burstgpt": ("Timestamp", "Request tokens", "Response tokens"),
    "vidur": ("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    "guidellm": ("timestamp", "input_length", "output_length"),
    "csv": ("arrival_s", "prompt_tokens", "output_tokens"),
}
each_format = pytest.mark.parametrize("name", HEADS)


def file_of(folder: Path, name: str, *rows: tuple[object, object, object]) -> Path:
    head, row = HEADS[name]
    return written(folder, "\n".join([head, *(row.format(*cells) for cells in rows)]) + "\n")


@each_format
@pytest.mark.parametrize(
    "bad", ["ten", "", "nan", "inf", "1.5", "10000000000", "1" + "0" * 400, "1,5", "\uff12x", "0x1g", "1e99", "--1"]
)
def test_a_cell_that_is_no_count(tmp_path: Path, name: str, bad: str) -> None:
    path = file_of(tmp_path, name, (0, 10, 20), (1, bad, 20), (2, 10, 20))
    with pytest.raises(InputError) as caught:
        read_trace(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    if bad != "1,5":  # a further cell, which shifts the columns
        assert f"line 3, column {COLUMNS[name][1]}: {bad!r:.50}"[:60] in message


@each_format
def test_a_billion_tokens_are_read_and_many_more_refused(tmp_path: Path, name: str) -> None:
    assert read_trace(file_of(tmp_path, name, (0, 10**9, 10**9))).prompt_tokens.tolist() == [10**9]
    with pytest.raises(InputError, match=rf"line 2, column {COLUMNS[name][2]}: '10000000000' .*up to 2147483647"):
        read_trace(file_of(tmp_path, name, (0, 1, 10**10)))


@each_format
def test_times_that_go_back_are_refused_and_equal_ones_kept(tmp_path: Path, name: str) -> None:
    assert len(read_trace(file_of(tmp_path, name, (5, 1, 1), (5, 1, 1), (5, 1, 1)))) == 3
    with pytest.raises(InputError, match=f"line 4, column {COLUMNS[name][0]}: .*before the row above it; sort"):
        read_trace(file_of(tmp_path, name, (5, 1, 1), (6, 1, 1), (4, 1, 1)))


@each_format
def test_rows_without_tokens_are_dropped_and_counted(tmp_path: Path, name: str) -> None:
    trace = read_trace(file_of(tmp_path, name, (0, 0, 0), (1, 5, 0), (2, -1, 5), (3, 5, 5), (4, 5, -(10**12))))
    assert trace.arrival_s.tolist() == [3.0]
    assert trace.dropped == {"prompt_tokens <= 0": 2, "output_tokens <= 0": 2}
    with pytest.raises(InputError, match="every row has 0 tokens"):
        read_trace(file_of(tmp_path, name, (0, 0, 0), (1, 5, 0)))


@each_format
def test_columns_go_by_name_whatever_their_order(tmp_path: Path, name: str) -> None:
    head, row = HEADS[name]
    lines = [head, row.format(0, 10, 20), row.format(1, 30, 40)]
    turned = "\n".join(",".join(reversed(line.split(","))) for line in lines)
    assert read_trace(written(tmp_path, turned, "turned")) == read_trace(written(tmp_path, "\n".join(lines)))


# Without one of these the file is of another format, or lengths alone.
NEEDED = [("vidur", "arrived_at"), ("guidellm", "timestamp"), ("guidellm", "input_length")]


@pytest.mark.parametrize(
    ("name", "column"), [(name, column) for name in HEADS for column in COLUMNS[name] if (name, column) not in NEEDED]
)
def test_a_missing_column_is_named(tmp_path: Path, name: str, column: str) -> None:
    head, row = HEADS[name]
    text = f"{head.replace(column, 'other')}\n{row.format(0, 1, 1)}\n"
    with pytest.raises(InputError, match=f"missing .*{column}"):
        read_trace(written(tmp_path, text))


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_truncated_gzip(tmp_path: Path, name: str) -> None:
    packed = gzip.compress(samples.sample_bytes(name))
    for end in (len(packed) - 1, len(packed) - 9, len(packed) // 2, 12, 3):
        with pytest.raises(InputError, match="gzip data is truncated or damaged"):
            read_trace(written(tmp_path, packed[:end]))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no regular file"):
        read_trace(tmp_path / "pipe")


BYTES: dict[str, Callable[[bytes], bytes]] = {
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "Latin-1": lambda data: data + "\xe9".encode("latin-1"),
    "a zero byte": lambda data: data + b"\0",
}


@pytest.mark.parametrize("how", BYTES)
def test_other_encodings(tmp_path: Path, how: str) -> None:
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_trace(written(tmp_path, BYTES[how](samples.PLAIN.encode())))
