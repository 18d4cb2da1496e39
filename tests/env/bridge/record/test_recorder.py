"""What is written, how it is kept, and that nothing that happens to the disk reaches who serves."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from aladdin_env.bridge.events import Sight
from aladdin_env.bridge.record import log_file
from aladdin_env.bridge.record.log import read_logs
from aladdin_env.bridge.record.recorder import RecordSettings
from aladdin_env.errors import InputError
from aladdin_env.latency import load_profile
from aladdin_env.scenario_file import scenario_from_dict
from aladdin_env.simulator.state import OFF, READY
from tests.env.bridge.record.traffic import BEGAN, Bridge

REQUEST_KEYS = {
    "kind", "id", "arrival_s", "placed_s", "first_token_s", "finish_s", "prompt_tokens", "estimated_tokens",
    "output_tokens", "klass", "coin", "streams", "worker", "answer", "by", "shadow", "outcome", "reason", "retries",
    "decision_s",
}  # fmt: skip
SOON_S = 30.0  # far more than a line may wait; a busy machine is no fault of ours


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def of_kind(path: Path, kind: str) -> list[dict]:
    return [line for line in lines(path) if line.get("kind") == kind]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_the_header_tells_who_decides_about_what(path: Path) -> None:
    bridge = Bridge(path, policy="aladdin", baseline="least_request", mode="shadow", canary=0.25)
    bridge.recorder.close()
    header = lines(path)[0]
    assert (header["aladdin_log"], header["level"], header["part"], header["seed"], header["rows"]) == (
        1,
        "events",
        0,
        5,
        64,
    )
    assert header["began"] == "2026-03-01T12:30:00+00:00"
    assert [header[key] for key in ("mode", "canary", "policy", "baseline")] == [
        "shadow",
        0.25,
        "aladdin",
        "least_request",
    ]
    assert scenario_from_dict(header["scenario"]) == bridge.scenario
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_request_is_one_line_where_that_is_enough(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests"))
    bridge.ready(2)
    bridge.clock.now_s = 1.0
    ticket = bridge.enter(120)
    bridge.dispatcher.place(ticket)
    bridge.clock.now_s = 1.5
    bridge.dispatcher.grew(ticket, 1)
    bridge.clock.now_s = 2.5
    bridge.dispatcher.grew(ticket, 4)
    ticket.counted_tokens = 117
    bridge.dispatcher.finish(ticket)
    bridge.recorder.close()
    assert {line.get("kind") for line in lines(path)[1:]} == {"worker", "request"}
    (line,) = of_kind(path, "request")
    assert set(line) == REQUEST_KEYS
    assert [line[f"{when}_s"] for when in ("arrival", "placed", "first_token", "finish")] == [1.0, 1.0, 1.5, 2.5]
    assert (line["prompt_tokens"], line["estimated_tokens"], line["output_tokens"]) == (117, 120, 5)
    assert (line["worker"], line["answer"], line["by"], line["shadow"]) == (ticket.slot, ticket.slot, "round_robin", 0)
    assert (line["outcome"], line["coin"], line["streams"]) == ("finished", ticket.coin, True)


def test_what_never_happened_is_null(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests"))
    ticket = bridge.enter()
    assert not bridge.dispatcher.place(ticket)
    bridge.dispatcher.leave(ticket)
    bridge.recorder.close()
    (line,) = of_kind(path, "request")
    assert line["placed_s"] is None and line["first_token_s"] is None and line["shadow"] is None
    assert (line["worker"], line["answer"], line["by"], line["outcome"]) == (-1, -1, "no worker", "left")


def test_only_a_memory_of_another_size_is_news(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests"))
    for tokens in (None, 100, 100, 200):
        bridge.watchers.seen(Sight(0, 1.0, READY, 0.0, tokens, 16, 0.5))
    bridge.recorder.close()
    assert [look["kv_tokens"] for look in of_kind(path, "look")] == [100, 200]


@pytest.mark.parametrize("name", ["\udc80half", "émile", "日本", 'quo"te\n'])
def test_any_name_of_a_request_is_ascii_in_the_log(path: Path, name: str) -> None:
    bridge = Bridge(path, settings=RecordSettings("events"))
    bridge.ready(1)
    ticket = bridge.dispatcher.enter(name, 10, 0, True)
    bridge.dispatcher.place(ticket)
    bridge.dispatcher.finish(ticket)
    bridge.recorder.close()
    assert path.read_bytes().isascii()
    (log,) = read_logs([path])
    assert log.requests["id"][0] == name.encode("utf-8", "replace").decode()


def test_lines_are_there_soon_without_being_asked_for(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests", flush_s=0.05))
    bridge.watchers.moved(1, READY, 0.5, 0.0)
    until = time.monotonic() + SOON_S
    while not of_kind(path, "worker"):
        assert time.monotonic() < until
        time.sleep(0.01)
    bridge.recorder.close()


def test_a_slow_disk_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests", flush_s=0.01))
    goes_on, is_stuck, write = threading.Event(), threading.Event(), os.write

    def stuck(file: int, data: bytes) -> int:
        is_stuck.set()
        goes_on.wait(SOON_S)
        return write(file, data)

    monkeypatch.setattr(log_file.os, "write", stuck)
    bridge.watchers.moved(0, READY, 0.0, 0.0)
    assert is_stuck.wait(SOON_S)
    monkeypatch.setattr(log_file, "_MOST_WAITING_BYTES", 10_000)
    for i in range(1000):
        bridge.watchers.moved(1, READY if i % 2 else OFF, float(i), 0.0)  # returns, though nothing is written
    lost = bridge.recorder.lost
    assert 0 < lost < 1000
    goes_on.set()
    bridge.recorder.close()
    assert len(of_kind(path, "worker")) + lost == 1001


class FullDisk:
    """Takes half of what it is given, then nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write = os.write
        self.is_full = False
        self.refused = threading.Event()
        monkeypatch.setattr(log_file.os, "write", self)

    def __call__(self, file: int, data: bytes) -> int:
        if self.is_full and len(data) > 1:
            return self.write(file, data[: len(data) // 2])
        if self.is_full:
            self.refused.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.write(file, data)


def test_a_full_disk_is_told_once_and_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk(monkeypatch)
    bridge = Bridge(path, settings=RecordSettings("requests", flush_s=0.01))
    bridge.ready(1)
    bridge.serve(3)
    until = time.monotonic() + SOON_S
    while not of_kind(path, "request"):
        assert time.monotonic() < until
        time.sleep(0.01)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            disk.is_full = True
            disk.refused.clear()
            bridge.serve(3)
            assert disk.refused.wait(SOON_S)
        while bridge.recorder.lost < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
        disk.is_full = False
        bridge.serve(3)
        bridge.recorder.close()
    assert [record.message for record in caplog.records if "No space left" in record.message] != []
    assert sum("cannot be written" in record.message for record in caplog.records) == 1
    assert [line["lines"] for line in of_kind(path, "lost")] == [3]  # and no half line stays in the middle
    assert len(of_kind(path, "request")) == 2
    (log,) = read_logs([path])
    assert log.lost == 3


# --- parts ----------------------------------------------------------------------------------------------------------


def test_nothing_is_lost_from_part_to_part(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests", max_bytes=3000, keep=99))
    bridge.ready(2)
    for _ in range(60):
        bridge.serve(2)
    bridge.recorder.close()
    parts = [*log_file.numbered(path), path]
    assert len(parts) > 4
    assert all(part.stat().st_size < 3000 + 600 + len(part.read_text().splitlines()[0]) for part in parts)
    assert [lines(part)[0]["part"] for part in parts] == list(range(len(parts)))
    (log,) = read_logs([path])
    assert len(log.requests) == 60 and log.requests["arrival_s"].is_monotonic_increasing
    assert all(stat.S_IMODE(part.stat().st_mode) == 0o600 for part in parts)


def test_a_later_part_begins_with_how_things_stand(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests", max_bytes=2500))
    bridge.ready(2)
    bridge.promise(1, 2.0, 0.1)
    bridge.look(1, 16000, 32, 0.1)
    profile = load_profile("llama-2-13b-a100-tp1")
    bridge.watchers.learnt(0, profile, 0.0)
    bridge.switch(mode="active")
    for _ in range(20):
        bridge.serve(2)
    bridge.recorder.close()
    path.rename(path.with_name("alone.jsonl"))
    (log,) = read_logs([path.with_name("alone.jsonl")])
    header = log.header
    assert header.part > 0 and header.t > 0.0
    assert header.workers[:3] == (READY, READY, OFF)
    assert header.slo[1].tolist() == [2.0, 0.1]
    assert header.kv[1].tolist() == [16000, 32]
    assert header.laws == {0: profile}
    assert header.regime.mode == "active"


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_oldest_parts_go(path: Path, keep: int) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests", max_bytes=2500, keep=keep))
    bridge.ready(1)
    for _ in range(60):
        bridge.serve(2)
    bridge.recorder.close()
    parts = [*log_file.numbered(path), path]
    assert len(parts) == keep
    numbers = [lines(part)[0]["part"] for part in parts]
    assert numbers == list(range(numbers[-1] - keep + 1, numbers[-1] + 1))


def test_a_log_of_an_earlier_run_is_put_aside(path: Path) -> None:
    for minute in (1, 2):
        bridge = Bridge(path, settings=RecordSettings("requests"), began=BEGAN.replace(minute=minute))
        bridge.ready(1)
        for _ in range(minute):
            bridge.serve(2)
        bridge.recorder.close()
    assert len(read_logs([path])) == 1  # the earlier run is another log
    assert [len(log.requests) for log in read_logs([path, *log_file.numbered(path)])] == [1, 2]


def test_a_part_that_cannot_be_begun_lets_the_one_before_go_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests", max_bytes=2500))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    bridge.ready(1)
    for _ in range(20):
        bridge.serve(2)
    with caplog.at_level(logging.WARNING):
        bridge.recorder.close()
    assert "Permission denied" in caplog.text
    assert log_file.numbered(path) == []
    (log,) = read_logs([path])
    assert len(log.requests) == 20 and bridge.recorder.lost == 0


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b'{"prompt": "x"}\n'])
def test_a_file_that_is_no_log_is_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match="no decision log"):
        Bridge(path)
    assert path.read_bytes() == content


def test_an_empty_file_is_taken(path: Path) -> None:
    path.touch()
    Bridge(path).recorder.close()
    assert lines(path)[0]["aladdin_log"] == 1 and log_file.numbered(path) == []


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.*No such file"):
        Bridge(tmp_path / "nowhere" / "log.jsonl")
    with pytest.raises(InputError, match="no file"):
        Bridge(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"level": "request"}, {"max_bytes": 0}, {"keep": 0}, {"flush_s": 2.0}, {"flush_s": 0.0}]
)
def test_settings_are_checked(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        RecordSettings(**wrong)


def test_nothing_is_written_after_the_end(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests"))
    bridge.recorder.close()
    size = path.stat().st_size
    bridge.ready(1)
    bridge.recorder.close()
    assert path.stat().st_size == size and bridge.recorder.lost == 1
