"""Reading logs: what is whole is read, what is damaged is named by its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from aladdin_env.bridge.record import log_file
from aladdin_env.bridge.record.log import read_logs
from aladdin_env.bridge.record.recorder import RecordSettings
from aladdin_env.errors import InputError
from tests.env.bridge.record.traffic import BEGAN, Bridge


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of five requests."""
    path = tmp_path / "log.jsonl"
    bridge = Bridge(path)
    bridge.ready(2)
    for _ in range(5):
        bridge.serve(3)
    bridge.recorder.close()
    return path


def changed(path: Path, number: int, **fields: object) -> Path:
    """The same with other fields in a line, counted from 1; a field that is ... is taken away."""
    lines = path.read_text().splitlines()
    line = json.loads(lines[number - 1]) | fields
    lines[number - 1] = json.dumps({key: value for key, value in line.items() if value is not ...})
    path.write_text("\n".join(lines) + "\n")
    return path


def line_of(path: Path, kind: str) -> int:
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if f'"kind":"{kind}"' in line)


def test_a_log_is_read(path: Path) -> None:
    (log,) = read_logs([path])
    assert len(log.requests) == 5 and log.truncated == log.lost == 0
    assert log.header.began == BEGAN.isoformat() and log.header.rows == 64
    assert {record.kind for record in log.records} == {"worker", "look"}
    (whole,) = read_logs([path], events=True)
    assert {"arrive", "decide", "tokens", "end"} < {record.kind for record in whole.records}
    assert log.end_s == pytest.approx(5 * 0.12)


def test_a_packed_log_is_read(path: Path, tmp_path: Path) -> None:
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    (log,) = read_logs([packed])
    assert len(log.requests) == 5


@pytest.mark.parametrize("cut", [1, 2, 20, 200])
def test_half_a_line_at_the_end_is_left_out_and_counted(path: Path, cut: int) -> None:
    before = len(path.read_text().splitlines())
    path.write_bytes(path.read_bytes()[:-cut])
    (log,) = read_logs([path], events=True)
    assert log.truncated == (cut > 1)  # without its end a line is whole all the same
    assert len(log.requests) == 5 - (cut > 1)
    assert before > 5


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_file(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(InputError, match="the file is empty"):
        read_logs([path])


def test_half_a_header_is_no_log(path: Path) -> None:
    path.write_text(path.read_text()[:40])
    with pytest.raises(InputError, match=r"line 1.*begins with a header"):
        read_logs([path])


@pytest.mark.parametrize("number", [2, 7, 12])
def test_a_damaged_line_is_named(path: Path, number: int) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = lines[number - 1][:-5]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"log.jsonl line {number}\b"):
        read_logs([path])


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("worker", "slot", "one"), ("worker", "slot", None), ("worker", "t", ...), ("arrive", "coin", "x"),
        ("look", "kv_tokens", 1.5), ("tokens", "count", True), ("tokens", "first_s", "now"), ("decide", "by", 3),
        ("arrive", "prompt_tokens", 2**40), ("arrive", "t", float("nan")), ("request", "arrival_s", "soon"),
        ("request", "klass", 4), ("request", "worker", ...), ("request", "outcome", ["x"]), ("end", "kind", "ended"),
    ],
)  # fmt: skip
def test_a_damaged_value_is_named(path: Path, kind: str, field: str, value: object) -> None:
    number = line_of(path, kind)
    changed(path, number, **{field: value})
    with pytest.raises(InputError, match=rf"log.jsonl line {number}, key {field}\b") as caught:
        read_logs([path], events=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("aladdin_log", 2, "version 1"), ("policy", None, "key policy"), ("workers", [1, 2], "6 workers"),
        ("slo", [[1.0, 2.0]], "4 classes"), ("scenario", {"name": "x"}, "scenario.workload"),
        ("level", ..., "key level"), ("laws", {"0": {}}, "laws"), ("slo", "x", "a list"),
    ],
)  # fmt: skip
def test_a_damaged_header_is_named(path: Path, field: str, value: object, told: str) -> None:
    changed(path, 1, **{field: value})
    with pytest.raises(InputError, match=rf"log.jsonl line 1\b.*{told}"):
        read_logs([path])


def test_versions_are_not_mixed(path: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.jsonl"
    newer.write_text(path.read_text())
    changed(newer, 1, aladdin_log=2)
    with pytest.raises(InputError, match=r"newer.jsonl line 1, key aladdin_log: 2 .*reads version 1"):
        read_logs([path, newer])


def test_a_trace_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n")
    with pytest.raises(InputError, match="begins with a header"):
        read_logs([path])


def in_parts(path: Path, minute: int = 30) -> list[Path]:
    bridge = Bridge(
        path, settings=RecordSettings("requests", max_bytes=2500, keep=50), began=BEGAN.replace(minute=minute)
    )
    bridge.ready(2)
    for _ in range(30):
        bridge.serve(3)
    bridge.recorder.close()
    return [*log_file.numbered(path), path]


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = in_parts(tmp_path / "log.jsonl")
    parts[2].unlink()
    with pytest.raises(InputError, match=r"part 3.*part 2 of this run is not among the files"):
        read_logs([tmp_path / "log.jsonl"])


def test_parts_may_come_in_any_order_and_the_first_may_be_gone(tmp_path: Path) -> None:
    parts = in_parts(tmp_path / "log.jsonl")
    (whole,) = read_logs([tmp_path / "log.jsonl"])
    parts[-1].rename(tmp_path / "last")
    (same,) = read_logs([tmp_path / "last", *reversed(parts[:-1])])
    assert same.requests.equals(whole.requests)
    (rest,) = read_logs([*parts[1:-1], tmp_path / "last"])
    assert 0 < len(rest.requests) < 30


def test_a_part_given_twice_is_named(tmp_path: Path) -> None:
    parts = in_parts(tmp_path / "log.jsonl")
    with pytest.raises(InputError, match="given twice"):
        read_logs([tmp_path / "log.jsonl", parts[1]])


def test_runs_are_logs_of_their_own(tmp_path: Path) -> None:
    in_parts(tmp_path / "b.jsonl", minute=40)
    in_parts(tmp_path / "a.jsonl", minute=50)
    in_parts(tmp_path / "c.jsonl", minute=10)
    logs = read_logs([tmp_path / f"{name}.jsonl" for name in "abc"])
    assert [log.header.began[14:16] for log in logs] == ["10", "40", "50"]
    assert all(len(log.requests) == 30 for log in logs)
