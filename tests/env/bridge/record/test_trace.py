"""A decision log is a trace, and the log of served requests that a calibration asks for."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from aladdin_calibration.request_log import read_request_log
from aladdin_env.bridge.dispatcher import Queueing, Shed
from aladdin_env.bridge.record.recorder import RecordSettings
from aladdin_env.errors import InputError
from aladdin_traces import read_trace
from aladdin_traces.readers.registry import choose_reader
from aladdin_traces.source import open_source
from tests.env.bridge.record.simulated import record_simulation, served_scenario
from tests.env.bridge.record.traffic import BEGAN, Bridge


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.mark.parametrize("level", ["requests", "events"])
def test_what_was_served_is_the_trace(path: Path, level: str) -> None:
    settings = RecordSettings(level)
    requests = record_simulation(path, served_scenario(4.0, 20.0), "least_request", "aladdin", settings=settings)
    trace = read_trace(path)
    assert choose_reader(open_source(path)).name == "aladdin-log"
    assert trace == read_trace(path, "aladdin-log")
    assert trace.arrival_s == pytest.approx(requests["arrival_s"] - requests["arrival_s"].min(), abs=1e-12)
    assert trace.prompt_tokens.tolist() == requests["prompt_tokens"].tolist()
    assert trace.output_tokens.tolist() == requests["generated_tokens"].tolist()
    assert trace.request_id is not None and list(trace.request_id[:3]) == ["r0", "r1", "r2"]
    assert trace.dropped == {} and trace.notes == {}


def test_what_was_not_served_is_counted(path: Path) -> None:
    bridge = Bridge(path, queueing=Queueing(max_held=0))
    ticket = bridge.enter()
    assert not bridge.dispatcher.place(ticket)
    with pytest.raises(Shed, match="queue_full"):
        asyncio.run(bridge.dispatcher.wait(ticket))
    bridge.ready(1)
    bridge.serve(3)
    for end in (bridge.dispatcher.leave, lambda ticket: bridge.dispatcher.fail(ticket, "gone")):
        ticket = bridge.enter()
        bridge.dispatcher.place(ticket)
        bridge.dispatcher.grew(ticket, 2)
        end(ticket)
    bridge.recorder.close()
    trace = read_trace(path)
    assert len(trace) == 1
    assert trace.dropped == {"outcome failed": 1, "outcome left": 1, "outcome shed": 1}


def test_half_a_line_at_the_end_is_noted(path: Path) -> None:
    record_simulation(path, served_scenario(4.0, 20.0), "least_request", "aladdin")
    whole = read_trace(path)
    path.write_bytes(path.read_bytes()[:-30])
    cut = read_trace(path)
    assert len(cut) == len(whole) - 1 and cut.notes == {"truncated last line": 1}
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_trace(packed) == cut


def test_a_short_log_is_known_though_its_last_line_is_cut(path: Path) -> None:
    bridge = Bridge(path, settings=RecordSettings("requests"))
    bridge.ready(1)
    for _ in range(2):
        bridge.serve(2)
    bridge.recorder.close()
    path.write_bytes(path.read_bytes()[:-2])
    assert len(read_trace(path)) == 1


def test_two_runs_in_a_file_are_no_trace(path: Path, tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b")):
        began = BEGAN.replace(minute=i)
        record_simulation(tmp_path / name, served_scenario(4.0, 20.0), "least_request", "aladdin", began=began)
    path.write_bytes((tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes())
    with pytest.raises(InputError, match=r"key began: .*another run"):
        read_trace(path)


def test_a_log_without_requests(path: Path) -> None:
    Bridge(path).recorder.close()
    with pytest.raises(InputError, match="at least one request"):
        read_trace(path)
    with pytest.raises(InputError, match="at least one request"):
        read_request_log(path)


# --- calibration ----------------------------------------------------------------------------------------------------


def test_one_worker_of_a_log_is_a_served_log(path: Path) -> None:
    scenario = served_scenario(4.0, 40.0)
    requests = record_simulation(path, scenario, "least_request", "aladdin")
    with pytest.raises(InputError, match=r"column worker: .*several runs.*where worker="):
        read_request_log(path)
    mine = requests[requests["worker"] == 1].reset_index(drop=True)
    log = read_request_log(path, {"worker": "1"})
    assert len(log) == len(mine) > 20
    start_s = mine["arrival_s"][0]
    assert np.allclose(log.trace.arrival_s, mine["arrival_s"] - start_s)
    assert np.allclose(log.first_token_s, mine["first_token_s"] - start_s)
    assert np.allclose(log.last_token_s, mine["finish_s"] - start_s)
    assert log.trace.output_tokens.tolist() == mine["generated_tokens"].tolist()


def test_a_request_reaches_its_worker_when_it_is_sent_there(path: Path) -> None:
    def held(ticket) -> None:
        ticket.arrived_s -= 0.0 if ticket.id != "r3" else 0.5

    requests = record_simulation(path, served_scenario(4.0, 20.0, initial=1), "least_request", "aladdin", change=held)
    log = read_request_log(path)
    assert np.allclose(log.trace.arrival_s, requests["arrival_s"] - requests["arrival_s"][0])


def test_answers_that_came_whole_have_no_first_token_to_go_by(path: Path) -> None:
    def whole(ticket) -> None:
        ticket.streams = ticket.id != "r3"

    requests = record_simulation(path, served_scenario(4.0, 20.0, initial=1), "least_request", "aladdin", change=whole)
    assert len(read_request_log(path)) == len(requests) - 1


@pytest.mark.parametrize(("key", "value"), [("first_token_s", "soon"), ("finish_s", None), ("prompt_tokens", 0)])
def test_a_damaged_value_is_named(path: Path, key: str, value: object) -> None:
    record_simulation(path, served_scenario(4.0, 20.0, initial=1), "least_request", "aladdin")
    lines = path.read_text().splitlines()
    lines[9] = json.dumps(json.loads(lines[9]) | {key: value})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"log.jsonl line 10, key {key}"):
        read_request_log(path)
