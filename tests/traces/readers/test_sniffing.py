"""How a format is chosen: by the content, never the name of the file; and what is said of a file of none."""

import gzip
import random
from pathlib import Path

import pytest

from aladdin_traces import READERS, InputError, read_trace
from aladdin_traces.readers.registry import choose_reader
from aladdin_traces.source import open_source
from tests.traces.readers.samples import SAMPLES, sample_bytes, written


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_sample_is_known_by_its_content(tmp_path: Path, name: str, packed: bool) -> None:
    content = sample_bytes(name)
    path = written(tmp_path, gzip.compress(content) if packed else content, "misleading.txt")
    assert choose_reader(open_source(path)).name == SAMPLES[name][0]
    trace = read_trace(path)
    assert trace == read_trace(path, SAMPLES[name][0])
    assert trace.arrival_s[0] >= 0.0


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "mixed"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", [name for name in SAMPLES if "Parquet" not in name])
def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path, name: str, end: str, mark: bytes) -> None:
    text = sample_bytes(name).decode()
    rng = random.Random(1)
    lines = [line + (rng.choice(["\n", "\r\n"]) if end == "mixed" else end) for line in text.splitlines()]
    changed = written(tmp_path, mark + "".join(lines).encode(), "changed")
    assert read_trace(changed) == read_trace(written(tmp_path, text))


def test_blank_lines_change_nothing_but_the_numbers_of_lines(tmp_path: Path) -> None:
    text = sample_bytes("mooncake").decode()
    spaced = written(tmp_path, "\n\n" + text.replace("\n", "\n\n"), "spaced")
    assert read_trace(spaced) == read_trace(written(tmp_path, text))
    table = "\n\narrival_s,prompt_tokens,output_tokens\n\n0,1,1\n\n1,{},1\n"
    assert len(read_trace(written(tmp_path, table.format(1)))) == 2
    with pytest.raises(InputError, match="line 7, column prompt_tokens: 'x'"):
        read_trace(written(tmp_path, table.format("x")))


@pytest.mark.parametrize("text", ["a,b\n1,2\n", '{"a": 1}', "just words"])
def test_a_file_of_no_format_is_told_what_was_tried_and_why_not(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        read_trace(written(tmp_path, text))
    message = str(caught.value)
    assert "\n" not in message
    for name in READERS:
        assert f"{name} (" in message


def test_every_reader_says_why_or_takes_the_file(tmp_path: Path) -> None:
    for name in SAMPLES:
        source = open_source(written(tmp_path, sample_bytes(name)))
        for reader in READERS.values():
            refusal = reader.refusal(source)
            assert refusal is None or (refusal and "\n" not in refusal)


@pytest.mark.parametrize(
    "cut", [lambda data: data[:-20], lambda data: data[: len(data) // 2], lambda data: data[:8], lambda data: b"PAR1"]
)
def test_damaged_parquet(tmp_path: Path, cut: object) -> None:
    with pytest.raises(InputError, match="Parquet data is truncated or damaged"):
        read_trace(written(tmp_path, cut(sample_bytes("plain in Parquet"))))  # type: ignore[operator]
