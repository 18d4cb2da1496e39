"""Replays inside an engine: what is kept of one that is stopped, what goes on, and loads of a measured capacity."""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aladdin_calibration.engine import replayer
from aladdin_calibration.engine.measure import read_served
from aladdin_calibration.engine.replayer import Served, kept, read_trace, serve
from aladdin_calibration.engine.session import at_rate, capacity_rps, replays
from aladdin_traces.errors import InputError

FACTS = {"model": "m"}
STEP_S = 0.1


class FakeEngine:
    """Four places; every step takes a tenth of a second and gives each request in them a token."""

    counts_preemptions = True

    def __init__(self) -> None:
        self.preemptions = 7  # of whatever was before
        self.steps = 0
        self.terminated_at = -1  # step in which somebody terminates this process
        self._asked = 0
        self._left: dict[str, int] = {}
        self._here: list[str] = []

    def alone(self) -> None:
        """No fixed job here."""

    def ask(self, tokens: int, output_tokens: int) -> str:
        self._asked += 1
        self._left[f"r{self._asked}"] = output_tokens
        return f"r{self._asked}"

    @property
    def is_busy(self) -> bool:
        return bool(self._left)

    def step(self) -> dict[str, float]:
        self._here = list(self._left)[:4]
        for name in self._here:
            self._left[name] -= 1
            if self._left[name] == 0:
                del self._left[name]
        self.steps += 1
        if self.steps == self.terminated_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"cpu_s": STEP_S, "wall_s": STEP_S}

    def new_tokens(self) -> Iterator[tuple[str, int]]:
        yield from ((name, 1) for name in self._here)


class Left(Exception):
    """The process would have ended here."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    def leave(status: int) -> None:
        raise Left(status)

    monkeypatch.setattr(replayer, "leave", leave)
    return FakeEngine()


def arguments(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"clock": "cpu", "crowd": None, "load": [], "trace": [], "served": []} | more)


def requests(count: int = 8, every_s: float = 0.0) -> list[Served]:
    return [Served(every_s * i, 16, 10) for i in range(count)]


def written(path: Path, wanted: list[Served]) -> Path:
    rows = ({"arrival_s": r.arrival_s, "prompt_tokens": 16, "output_tokens": 10} for r in wanted)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_whole_replay_is_read(engine: FakeEngine, tmp_path: Path) -> None:
    serve(engine, FACTS, requests(), arguments(), tmp_path / "served.jsonl")
    rows, preemptions, facts = read_served(tmp_path / "served.jsonl")
    assert rows["finish_s"].tolist() == pytest.approx([1.0] * 4 + [2.0] * 4)
    assert (preemptions, facts) == (0, FACTS)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert [path.name for path in tmp_path.iterdir()] == ["served.jsonl"]


def test_a_replay_that_is_terminated_keeps_what_is_served_and_says_so(engine: FakeEngine, tmp_path: Path) -> None:
    path, engine.terminated_at = tmp_path / "served.jsonl", 13
    with pytest.raises(Left, match="143"):
        serve(engine, FACTS, requests(), arguments(), path)
    assert engine.steps == 13
    head, *rows = (json.loads(line) for line in path.read_text().splitlines())
    assert head["complete"] is False
    assert sum(row["finish_s"] is not None for row in rows) == 4
    assert sum(row["first_token_s"] is not None for row in rows) == 8
    assert kept(path, requests()) is None
    with pytest.raises(InputError, match="stopped with 4 of 8 served"):
        read_served(path)


def test_what_is_served_is_written_meanwhile(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replayer, "_SAVE_EVERY_S", -1.0)
    path, marks = tmp_path / "served.jsonl", []
    write = replayer.write_served

    def noted(path: Path, head: dict[str, Any], served: list[Served]) -> None:
        marks.append(head["complete"])
        write(path, head, served)

    monkeypatch.setattr(replayer, "write_served", noted)
    serve(engine, FACTS, requests(), arguments(), path)
    assert marks == [False] * 20 + [True]


def test_only_a_whole_replay_of_the_same_requests_is_kept(engine: FakeEngine, tmp_path: Path) -> None:
    path = tmp_path / "served.jsonl"
    assert kept(path, requests()) is None
    serve(engine, FACTS, requests(), arguments(), path)
    assert kept(path, requests(7)) is None
    assert kept(path, requests(8, every_s=1.0)) is None
    found = kept(path, requests())
    assert found is not None and found[0].finish_s == pytest.approx(1.0)
    head, *rows = path.read_text().splitlines()
    plain = json.loads(head)
    del plain["complete"]  # as it was written before there was this mark
    path.write_text("\n".join([json.dumps(plain), *rows]))
    assert kept(path, requests()) is not None and len(read_served(path)[0]) == 8
    path.write_text("\n".join([head, *rows])[:-5])
    assert kept(path, requests()) is None
    with pytest.raises(InputError, match="replayer wrote"):
        read_served(path)


def test_capacity_is_that_of_taken_places(engine: FakeEngine, tmp_path: Path) -> None:
    crowd = requests(10)
    serve(engine, FACTS, crowd, arguments(), tmp_path / "served.jsonl")
    assert capacity_rps(crowd) == pytest.approx(4 / (10 * STEP_S), rel=0.06)  # not 10 requests in the 3 s of all


def test_a_trace_at_another_rate() -> None:
    assert [r.arrival_s for r in at_rate(requests(100, every_s=1.0), 4.0, 2.0)] == [i / 4 for i in range(8)]


def test_a_session_replays_shares_of_its_capacity_and_goes_on(engine: FakeEngine, tmp_path: Path) -> None:
    crowd, unit = written(tmp_path / "c.trace", requests(10)), written(tmp_path / "u.trace", requests(90, every_s=1.0))
    fixed = written(tmp_path / "f.trace", requests(3, every_s=2.0))
    asked = arguments(
        crowd=[str(crowd), str(tmp_path / "crowd.jsonl")],
        load=[[str(share), str(unit), str(tmp_path / f"{share}.jsonl")] for share in (0.5, 1.0)],
        load_s=10.0,
        trace=[fixed],
        served=[tmp_path / "fixed.jsonl"],
    )
    replays(engine, FACTS, asked)
    counts = [len(read_served(tmp_path / f"{share}.jsonl")[0]) for share in (0.5, 1.0)]
    assert counts[0] == pytest.approx(20, abs=2) and counts[1] == pytest.approx(40, abs=3)
    assert len(read_served(tmp_path / "fixed.jsonl")[0]) == len(read_trace(fixed))
    steps = engine.steps
    (tmp_path / "1.0.jsonl").unlink()
    replays(engine, FACTS, asked)
    again = engine.steps - steps
    assert 0 < again < steps  # that one alone
    assert len(read_served(tmp_path / "1.0.jsonl")[0]) == counts[1]
