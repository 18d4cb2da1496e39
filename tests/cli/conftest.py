"""A small scenario, policies of a third party, and the command line in this process."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aladdin_env import SLO, Fleet, Scenario, WorkerType, Workload, policy
from aladdin_env.cli import app
from aladdin_env.scenario_file import write_scenario
from aladdin_traces import FixedLengths, Poisson

ENTRY_POINTS = """\
[aladdin.policies]
toy_first = toy_policies:make_first
toy_spread = toy_policies:make_spread
toy_coin = toy_policies:make_coin
toy_silly = toy_policies:make_silly
toy_slow = toy_policies:make_slow

[aladdin.scalers]
toy_rate = toy_policies:make_rate
"""


@pytest.fixture(scope="module", autouse=True)
def toys(tmp_path_factory):
    """A folder with an installed distribution of toy policies, on the path of this process and of its children.

    Taken away after each file: other tests in this process run every policy that there is.
    """
    folder = tmp_path_factory.mktemp("toys")
    shutil.copy(Path(__file__).with_name("toy_policies.py"), folder)
    info = folder / "toy_policies-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-policies\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    sys.path.insert(0, str(folder))
    policy._registry.cache_clear()
    yield folder
    sys.path.remove(str(folder))
    policy._registry.cache_clear()


@pytest.fixture(scope="module")
def environment(toys):
    """Environment variables of child processes that should find the toys."""
    paths = [str(toys), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def small_scenario(**changes) -> Scenario:
    """Half a minute of a few requests per second on one to four workers."""
    kind = WorkerType("h100", "llama-3.1-8b-h100-tp1", initial=2, minimum=1, maximum=4, price_per_gpu_hour=3.0)
    workload = Workload.generated(Poisson(6.0), FixedLengths(400, 60))
    base = Scenario("small", workload, Fleet((kind,)), SLO(1.0, 0.02), horizon_s=30.0, heartbeat_s=5.0)
    return replace(base, **changes)


@pytest.fixture
def scenario():
    return small_scenario()


@pytest.fixture
def burst():
    """Six requests at once for workers that run one at a time, so slow that only the first of each is in time."""
    kind = WorkerType("h100", "llama-3.1-8b-h100-tp1", initial=1, maximum=8, max_num_seqs=1)
    workload = Workload.from_arrays([0.0] * 6, [400] * 6, [200] * 6)
    return Scenario("burst", workload, Fleet((kind,)), SLO(0.2, 0.02), horizon_s=None)


@pytest.fixture
def scenario_file(tmp_path):
    path = tmp_path / "small.toml"
    write_scenario(small_scenario(), path)
    return path


@pytest.fixture
def trace_file(tmp_path):
    path = tmp_path / "trace.csv"
    rows = [f"{t:.3f},{prompt},40" for t, prompt in zip(np.arange(60) / 4, np.arange(100, 160), strict=True)]
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run ``aladdin ...`` in this process, in an empty folder; gives exit_code, stdout and stderr."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="aladdin")

    return run
