"""The soak itself, for twenty seconds: a real bridge, two workers that are killed, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.bridge.soak import plan
from experiments.bridge.soak.__main__ import measure
from experiments.bridge.soak.judge import COMPLETE, LEFT, REBUKED
from experiments.bridge.soak.report import summary
from experiments.bridge.soak.run import Options

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc"),
]


def test_twenty_seconds() -> None:
    told = json.loads(json.dumps(measure(Options(minutes=1 / 3, workers=2, seed=3, capacity_s=6.0))))
    assert {name: verdict["seen"] for name, verdict in told["verdicts"].items() if not verdict["holds"]} == {}
    assert told["lost"] == []
    assert set(told["faults"]) == set(plan.FAULTS)
    outcomes = told["outcomes"]
    assert (
        outcomes[plan.STREAM][COMPLETE] > 20 and outcomes[plan.LEAVES_LATE][LEFT] and outcomes[plan.MALFORMED][REBUKED]
    )
    assert "All of the above holds." in summary(told)


def test_ctrl_c_leaves_no_process() -> None:
    command = [sys.executable, "-m", "experiments.bridge.soak", "--workers", "1", "--minutes", "1"]
    run = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        while not (marked := _marked(run.pid)) and run.poll() is None:
            time.sleep(0.2)
        time.sleep(4.0)  # workers have been started
        marked |= _marked(run.pid)
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(60.0) == 130
        assert marked and not any(_is_there(pid) for pid in marked)
    finally:
        run.kill()


def _marked(parent: int) -> set[int]:
    """The bridge and all that it has started: whoever descends from it."""
    found, todo = set[int](), [parent]
    while todo:
        pid = todo.pop()
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                children = [int(word) for word in file.read_text().split()]
            except OSError:
                continue
            todo += children
            found |= set(children)
    return found


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
