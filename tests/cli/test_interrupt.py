"""Ctrl-C: exit code 130, one line, no traceback, no process left, nothing written."""

import os
import signal
import subprocess
import sys
import time

import pytest


def _wait_for(folder, count, process):
    deadline = time.monotonic() + 90
    while len(list(folder.glob("marker-*"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(path.name.partition("-")[2]) for path in folder.glob("marker-*")]


def _is_alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted(environment, scenario_file, tmp_path, jobs):
    command = [sys.executable, "-m", "aladdin_env.cli", "compare", "--scenario", scenario_file, "--jobs", str(jobs)]
    more = ["--policies", "toy_slow", "--seeds", "2", "--out", "rows.csv", "--plot", "picture.png"]
    markers = tmp_path / "markers"
    markers.mkdir()
    variables = {**environment, "TOY_MARKER": str(markers / "marker")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        [*command, *more],
        env=variables,
        cwd=tmp_path,
        text=True,
        start_new_session=True,
        **pipes,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )
    at_work = _wait_for(markers, jobs, process)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the whole group
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert [line for line in err.splitlines() if line.startswith("aladdin")] == ["aladdin: interrupted"]
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "rows.csv").exists()
    assert not (tmp_path / "picture.png").exists()
    deadline = time.monotonic() + 10
    while any(map(_is_alive, at_work)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_alive, at_work))
