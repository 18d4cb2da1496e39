"""Ports and GPUs of this machine, the command line, and the times of restarts."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from aladdin_env.bridge.workers.command import Command
from aladdin_env.bridge.workers.machine import GpuSets, gpu_ids, reserved_port
from aladdin_env.bridge.workers.restarts import Restarts, RestartSettings
from aladdin_env.errors import InputError

from .pretend import PretendTime

PYTHON = sys.executable


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a port that way")
def test_a_reserved_port_is_for_its_server_alone() -> None:
    with reserved_port("127.0.0.1") as port:
        with closing(socket.socket()) as other, pytest.raises(OSError):  # a server that happens to use that number
            other.bind(("127.0.0.1", port))
        for host in ("127.0.0.1", "0.0.0.0"):
            with closing(socket.create_server((host, port))) as server:  # as servers do: SO_REUSEADDR
                assert server.getsockname()[1] == port


def test_ports_differ() -> None:
    with reserved_port("127.0.0.1") as one, reserved_port("127.0.0.1") as two:
        assert one != two


def tool(folder: Path, script: str) -> str:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_gpus_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", tool(tmp_path, 'test "$1" = --query-gpu=index && printf "0\\n1\\n2\\n"'))
    assert gpu_ids() == ["0", "1", "2"]
    monkeypatch.setenv("PATH", tool(tmp_path, "echo no driver; exit 9"))
    assert gpu_ids() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8f2e")
    assert gpu_ids() == ["3", "GPU-8f2e"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_ids() == []


def test_no_tool_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_ids() == []


def test_every_server_gets_gpus_of_its_own() -> None:
    sets = GpuSets(["0", "1", "2", "3", "4"], 2, 2)
    first, second = sets.take(), sets.take()
    assert (first, second) == ("0,1", "2,3")
    sets.give_back(second)
    sets.give_back(first)
    assert (sets.take(), sets.take()) == ("2,3", "0,1")


def test_without_sets_servers_share() -> None:
    sets = GpuSets(["0", "1"], 0, 8)
    assert sets.take() is None
    sets.give_back(None)
    assert sets.take() is None


def test_too_few_gpus_are_a_mistake() -> None:
    with pytest.raises(InputError, match=r"max: 3 .*at most 2: there are 5 GPUs, 2 for each worker"):
        GpuSets(["0", "1", "2", "3", "4"], 2, 3)
    with pytest.raises(InputError, match=r"gpus_per_worker: 1 .*none is found"):
        GpuSets([], 1, 3)


def test_a_command_is_split_as_a_shell_does_and_filled_in() -> None:
    text = f'{PYTHON} -m \'my server\' --port {{port}} --gpus={{gpu}} --config \'{{"mode": 0, "a": {{"b": 1}}}}\''
    command = Command.parse(text)
    filled = command.fill(8001, "2,3")
    assert filled == [
        *(PYTHON, "-m", "my server", "--port", "8001", "--gpus=2,3"),
        *("--config", '{"mode": 0, "a": {"b": 1}}'),
    ]
    assert command.fill(8001, None)[5] == "--gpus="


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{PYTHON} -m http.server", r"write \{port\} where the port goes"),
        (f"{PYTHON} {{port}} {{host}}", r"'\{host\}' .*only \{port\} and \{gpu\}"),
        (f"{PYTHON} 'x {{port}}", "mend the quotes: no closing quotation"),
        ("vllmm serve --port {port}", "'vllmm' .*it is not found"),
        ("", "write"),
    ],
)
def test_a_command_that_cannot_be_run(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Command.parse(text)


def test_restarts_come_later_each_time_and_are_capped() -> None:
    time = PretendTime()
    restarts = Restarts(RestartSettings(first_s=1.0, longest_s=8.0, most=5, window_s=100.0), time.timing)
    waits = []
    for _ in range(6):
        waits.append(restarts.next_in_s())
        time.now_s += waits[-1]
    assert waits[:5] == [1.0, 2.0, 4.0, 8.0, 8.0]  # at 1, 3, 7, 15, 23
    assert waits[5] == 101.0 - 23.0  # the sixth when the first is 100 s ago


def test_restarts_long_ago_are_forgotten() -> None:
    time = PretendTime()
    restarts = Restarts(RestartSettings(first_s=1.0, most=2, window_s=100.0), time.timing)
    for _ in range(3):
        assert restarts.next_in_s() == 1.0
        time.now_s += 102.0
