"""Readers: both formats, gzip, every kind of broken file."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from aladdin_traces import READERS, InputError, Reader, Source, Trace, read_trace, register_reader, write_trace
from aladdin_traces.csv_table import CsvTable

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "traces"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the public trace files are not beside the project")

AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109\r\n"
    "2023-11-16 18:15:50.9951690,10,0\r\n"
    "2023-11-16 18:15:51.2224671,-1,55"
)
PLAIN = "arrival_s,prompt_tokens,output_tokens\n0.5,10,20\n1.25,30,40\n"


def write(folder: Path, content: str | bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_azure(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path, AZURE))
    assert trace.arrival_s.tolist() == [0.0, 4.314579]
    assert trace.prompt_tokens.tolist() == [374, 396]
    assert trace.output_tokens.tolist() == [44, 109]
    assert trace.dropped == {"prompt_tokens <= 0": 1, "output_tokens <= 0": 1}


def test_azure_keeps_the_seventh_decimal(tmp_path: Path) -> None:
    text = AZURE.replace("50.9951690,396", "46.6805901,396")
    assert read_trace(write(tmp_path, text)).arrival_s[1] == 1e-7


def test_azure_columns_go_by_name(tmp_path: Path) -> None:
    header = "NumImages,GeneratedTokens,TIMESTAMP,ContextTokens"
    text = f"{header}\n0,5,2024-10-15T12:00:00Z,70\n2,6,2024-10-15T12:00:00.269Z,80"
    trace = read_trace(write(tmp_path, text))
    assert trace.arrival_s.tolist() == [0.0, 0.269]
    assert trace.prompt_tokens.tolist() == [70, 80]


@pytest.mark.parametrize("arrival", ["arrival_s", "arrived_at_s"])
def test_plain(tmp_path: Path, arrival: str) -> None:
    text = f"output_tokens, {arrival} ,other,prompt_tokens,klass\n1,3.0,x,2,0\n\n3,3.5,y,4,2\n5,4.5,z,0,1\n\n"
    trace = read_trace(write(tmp_path, text))
    assert trace == Trace.from_arrays([0.0, 0.5], [2, 4], [1, 3], [0, 2])
    assert trace.dropped == {"prompt_tokens <= 0": 1}


@pytest.mark.parametrize("name", ["trace.csv.gz", "trace.csv"])
def test_gzip_goes_by_content(tmp_path: Path, name: str) -> None:
    assert len(read_trace(write(tmp_path, gzip.compress(PLAIN.encode(), mtime=0), name))) == 2
    assert len(read_trace(write(tmp_path, PLAIN, name))) == 2


def test_byte_order_mark(tmp_path: Path) -> None:
    assert len(read_trace(write(tmp_path, b"\xef\xbb\xbf" + PLAIN.encode()))) == 2


BAD_TEXT = {
    "text": (PLAIN + "2,ten,5\n", "trace.csv line 4, column prompt_tokens: 'ten'"),
    "nan": (PLAIN + "2,nan,5\n", "line 4, column prompt_tokens: 'nan'"),
    "infinite": (PLAIN + "inf,5,5\n", "line 4, column arrival_s: 'inf'"),
    "empty cell": (PLAIN + "2,,5\n", "line 4, column prompt_tokens: ''"),
    "short row": (PLAIN + "2,5\n", "line 4, column output_tokens: ''"),
    "negative time": ("arrival_s,prompt_tokens,output_tokens\n-1,5,5\n", "line 2, column arrival_s: '-1'"),
    "fraction": (PLAIN + "2,5.5,1\n", "line 4, column prompt_tokens: '5.5' .*whole"),
    "too large": (PLAIN + "2,2147483648,1\n", "line 4, column prompt_tokens: '2147483648' .*2147483647"),
    "blank line before": (PLAIN + "\n\n2,x,1\n", "line 6, column prompt_tokens: 'x'"),
    "time goes back": (PLAIN + "1.0,5,5\n", "line 4, column arrival_s: '1.0' .*sort"),
    "class": ("arrival_s,prompt_tokens,output_tokens,klass\n1,5,5,4\n", "line 2, column klass: '4'"),
    "one missing": ("arrival_s,prompt_tokens\n1,5\n", "columns: 'arrival_s, prompt_tokens' .*missing output_tokens$"),
    "two missing": ("prompt_tokens,x\n1,5\n", "columns: .*missing arrived_at_s or arrival_s, output_tokens"),
    "azure missing": ("TIMESTAMP,ContextTokens\n2023-11-16,5\n", "missing GeneratedTokens"),
    "azure time": (AZURE + "\r\n16 Nov,5,5", "line 6, column TIMESTAMP: '16 Nov'"),
    "azure back": (AZURE + "\r\n2023-11-16 18:15:51.2224670,5,5", "line 6, column TIMESTAMP: .*sort"),
    "azure text": (AZURE + "\r\n2023-11-16 18:15:52,many,5", "line 6, column ContextTokens: 'many'"),
    "azure centuries": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n1700-01-01,1,1\n2200-01-01,1,1",
        "line 3, column TIMESTAMP: '2200-01-01' .*century",
    ),
    "azure seconds": ("TIMESTAMP,ContextTokens,GeneratedTokens\n5,1,1", "line 2, column TIMESTAMP: '5' .*time such as"),
    "no row": ("arrival_s,prompt_tokens,output_tokens\n", "'0 rows'"),
    "blank rows": ("arrival_s,prompt_tokens,output_tokens\n\n,,\n", "'0 rows'"),
    "nobody served": ("arrival_s,prompt_tokens,output_tokens\n0,0,1\n1,1,0\n", "'2 rows' .*every row has 0 tokens"),
    "wide rows": ("arrival_s,prompt_tokens,output_tokens\n0,1,1,9\n1,1,1,9\n", "more cells"),
    "one wide row": (PLAIN + "2,1,1,9\n", "not a CSV table"),
    "open quote": (PLAIN + '"2,1,1\n', "not a CSV table|line 4"),
    "unknown": ("a,b\n1,2\n", "trace.csv line 1: 'a,b' .*known formats.*azure .no column TIMESTAMP.*weka"),
    "json": ('{"time": 0}\n', "known formats.*mooncake .no keys input_length, output_length and hash_ids.*guidellm"),
    "empty": ("", "file is empty"),
    "blank": (" \n\n", "file is empty"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
def test_bad_text(tmp_path: Path, case: str) -> None:
    text, message = BAD_TEXT[case]
    with pytest.raises(InputError, match=message) as caught:
        read_trace(write(tmp_path, text))
    assert "trace.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


PACKED = gzip.compress(PLAIN.encode(), mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PACKED[:-9], "truncated or damaged"),
        (PACKED[:5], "truncated or damaged"),
        (PACKED[:12] + b"\xff\xff" + PACKED[14:], "truncated or damaged"),
        (PACKED + b"more", "truncated or damaged"),
        (gzip.compress(b"", mtime=0), "file is empty"),
        (b"\x89PNG\xff\xfe", "not UTF-8 text"),
        (b"arrival_s\x00,prompt_tokens", "not UTF-8 text"),
    ],
)
def test_bad_bytes(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_trace(write(tmp_path, content))


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_trace(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="is a directory"):
        read_trace(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_trace("a\0b")
    with pytest.raises(InputError, match="path: 3 "):
        read_trace(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'azure'"):
        read_trace(tmp_path / "absent.csv", "azur")


def test_a_named_format_overrides_the_sniffing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing arrived_at_s or arrival_s"):
        read_trace(write(tmp_path, AZURE), "csv")


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
@pytest.mark.parametrize("klass", [None, [0, 3, 1]])
def test_round_trip_is_exact(tmp_path: Path, name: str, klass: list[int] | None) -> None:
    trace = Trace.from_arrays([0.0, 0.1 + 0.2, 1e6 / 3], [1, 2**31 - 1, 3], [4, 5, 6], klass)
    path = tmp_path / name
    write_trace(trace, path)
    first = path.read_bytes()
    assert read_trace(path) == trace
    assert first.startswith(b"\x1f\x8b") == name.endswith(".gz")
    write_trace(read_trace(path), path)
    assert path.read_bytes() == first


def test_the_clock_starts_at_the_first_row(tmp_path: Path) -> None:
    write_trace(Trace.from_arrays([5.0, 7.5], [1, 2], [3, 4]), tmp_path / "t.csv")
    assert read_trace(tmp_path / "t.csv").arrival_s.tolist() == [0.0, 2.5]


def test_bad_writes(tmp_path: Path) -> None:
    trace = Trace.from_arrays([0.0], [1], [1])
    with pytest.raises(InputError, match="at least one request"):
        write_trace(trace.window(1.0), tmp_path / "t.csv")
    for path in (tmp_path, tmp_path / "no" / "t.csv", tmp_path / "no" / "t.csv.gz"):
        with pytest.raises(InputError, match="cannot be written"):
            write_trace(trace, path, "csv")


def test_a_further_format_is_one_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aladdin_traces.readers.registry.READERS", dict(READERS))
    one = Trace.from_arrays([0.0], [1], [1])

    def refusal(source: Source) -> str | None:
        return None if source.text.startswith("<") else "no XML"

    reader = Reader("xml", "<requests>", refusal, lambda source, options: one)
    register_reader(reader)
    assert read_trace(write(tmp_path, "<requests/>")) == one
    with pytest.raises(InputError, match="another reader"):
        register_reader(reader)


def test_a_table_names_a_missing_column() -> None:
    with pytest.raises(InputError, match=r"t columns: 'a, b' .*missing c or d"):
        CsvTable(Source("t", b"a,b\n1,2"), ["a"]).called("c", "d")


@needs_shared
@pytest.mark.parametrize(
    ("name", "rows", "rate", "prompt", "output"),
    [
        ("azure2023_conv.csv.gz", 19366, 5.53, (1020, 4083, 4142), (129, 451, 601)),
        ("azure2023_code.csv.gz", 8819, 2.57, (1469, 7303, 7436), (13, 90, 251)),
    ],
)
def test_public_traces(name: str, rows: int, rate: float, prompt: tuple[int, ...], output: tuple[int, ...]) -> None:
    trace = read_trace(SHARED / name)
    assert len(trace) == rows
    assert trace.rate_rps == pytest.approx(rate, abs=0.005)
    assert np.percentile(trace.prompt_tokens, [50, 95, 99]) == pytest.approx(prompt, abs=1)
    assert np.percentile(trace.output_tokens, [50, 95, 99]) == pytest.approx(output, abs=1)
    assert trace.dropped == {}


@needs_shared
@pytest.mark.parametrize("service", ["conv", "code"])
def test_original_azure_files_agree_with_the_plain_ones(service: str) -> None:
    original = read_trace(SHARED / "samples" / f"azure2023_{service}_head200.csv")
    plain = read_trace(SHARED / f"azure2023_{service}.csv.gz")
    assert len(original) == 200
    assert np.allclose(original.arrival_s, plain.arrival_s[:200], rtol=0, atol=2e-7)
    assert np.array_equal(original.prompt_tokens, plain.prompt_tokens[:200])
    assert np.array_equal(original.output_tokens, plain.output_tokens[:200])
