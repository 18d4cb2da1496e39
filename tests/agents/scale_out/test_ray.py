"""A real Ray of two processes on this machine: the same results as without it, and workers killed half-way."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import ray

from aladdin_agents.benchmark.results import Ledger, read_rows
from aladdin_agents.benchmark.run import Asked, benchmark, plan, run
from aladdin_agents.benchmark.units import Unit, measured
from aladdin_agents.learned.train.run import train
from aladdin_agents.scale_out import cluster
from aladdin_agents.scale_out.engine import RayTasks
from aladdin_agents.scale_out.follow import progress_of, validations_of
from aladdin_agents.scale_out.remote import train_on
from aladdin_agents.scale_out.sweep import run_sweep
from aladdin_agents.scale_out.sweep_file import read_sweep
from aladdin_agents.scale_out.sweep_table import rows_of
from aladdin_env.compare import Contender
from aladdin_env.errors import InputError, OutsideFault
from tests.agents.scale_out.toys import ROOT, a_run, a_sweep, dies, is_alive, refuses, steps_of, wait_for, waits_once

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray keeps files open
]
SMALL = Asked("validate", ("placement",), ("steady",), ("least_request", "aladdin"), 2)


@pytest.fixture(scope="module")
def address():
    """The address of a cluster that has two CPUs; this process is connected to it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


# --- the benchmark --------------------------------------------------------------------------------------------------


def test_the_benchmark_gives_the_rows_that_it_gives_here(address, cli, same, tmp_path):
    options = [part for policy in SMALL.policies for part in ("--policy", policy)]
    done = cli("benchmark", "run", "--task", "placement", "--scenario", "steady", *options, "--seeds", 2,
               "--ray", address, "--out", "there.csv")  # fmt: skip
    assert done.exit_code == 0 and "there.csv: 6 new rows" in done.stderr, done.output
    there = {row.key: row for row in read_rows(tmp_path / "there.csv")}
    here = benchmark(SMALL, tmp_path / "here.csv", jobs=1)
    assert len(there) == len(here) and all(same(row, there[row.key]) for row in here)
    assert cli("benchmark", "verify", "there.csv", "--rows", 1, "--ray", address).exit_code == 0


def unit(label, make):
    return Unit(("validate", "placement", "steady"), 20_000, Contender(label, make))


def test_a_killed_worker_loses_no_row(address, tmp_path):
    marker = tmp_path / "marker"
    units = [unit("waits", waits_once(marker)), unit("least_request", "least_request")]
    found = {}

    def keep(one, measures):
        found[one.contender.label] = measures
        if one.contender.label == "least_request":  # kept while the other one still waits
            os.kill(int(wait_for(lambda: marker.exists() and marker.read_text())), signal.SIGKILL)

    measured(units, engine=RayTasks(address), progress=lambda done: None, keep=keep)
    assert found["waits"] == found["least_request"]
    assert int(marker.read_text()) != os.getpid() and not is_alive(int(marker.read_text()))


def test_a_worker_that_always_dies_is_told_in_a_line(address, monkeypatch):
    monkeypatch.setattr("aladdin_agents.scale_out.engine.RETRIES", 0)
    with pytest.raises(OutsideFault, match=r"validate/placement/steady/dies/20000: its process has died"):
        measured([unit("dies", dies)], engine=RayTasks(address), progress=lambda done: None, keep=lambda *_: None)


def test_a_mistake_there_is_the_mistake_that_it_is_here(address):
    with pytest.raises(InputError, match="policy: 'refuses' is not valid; give another") as told:
        measured([unit("x", refuses)], engine=RayTasks(address), progress=lambda done: None, keep=lambda *_: None)
    assert type(told.value) is InputError


def test_policy_files_keep_their_names(address, tmp_path, monkeypatch):
    """A worker has another working folder than the command."""
    (tmp_path / "files").mkdir()
    train(a_run(tmp_path / "files", steps=128, checkpoint_every=10**6), tmp_path / "files" / "run")
    ledger = Ledger(tmp_path / "rows.csv")
    asked = Asked("validate", ("joint",), ("lengths",), ("least_request+files/run/best.npz",), 1)
    monkeypatch.chdir(tmp_path)
    planned = plan(asked, ledger)
    run(planned, ledger, engine=RayTasks(address, jobs=1))
    assert {row.policy for row in ledger.rows.values()} == {"bound", "least_request+files/run/best.npz"}


def test_other_versions_there_are_refused(address, monkeypatch):
    monkeypatch.setattr(cluster, "versions", lambda: {"aladdin_env": "0.0", "numpy": "0.0", "numba": "0.0"})
    with pytest.raises(OutsideFault, match=r"has aladdin_env .*, the machine that asks 0.0: install the same"):
        measured([unit("least_request", "least_request")], engine=RayTasks(address), progress=lambda done: None,
                 keep=lambda *_: None)  # fmt: skip


# --- training -------------------------------------------------------------------------------------------------------


def half_done(folder):
    """The process of a run that has saved a checkpoint, and goes on."""
    told = progress_of(folder)
    return told.process if told and told.trained > 0.3 and (folder / "checkpoint.zip").exists() else None


def command(folder, *arguments):
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "aladdin_env.cli", *map(str, arguments)], cwd=folder, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )  # fmt: skip


def killed_when(found):
    """Kills the process that ``found`` gives at last, from a thread; gives the thread."""
    thread = threading.Thread(target=lambda: os.kill(wait_for(found), signal.SIGKILL))
    thread.start()
    return thread


def test_a_run_whose_worker_is_killed_goes_on_from_its_checkpoint(address, tmp_path):
    config = a_run(tmp_path, steps=8192, checkpoint_every=512, validation={"every": 1024})
    killer = killed_when(lambda: half_done(tmp_path / "out"))
    outcome = train_on(address, config, tmp_path / "out", command="aladdin train run.toml")
    killer.join()
    assert outcome.steps == 8192 and outcome.best.exists()
    rows = validations_of(tmp_path / "out")
    assert [row["steps"] for row in rows] == [k * 1024.0 for k in range(9)]
    assert list((tmp_path / "out").glob(".shared-*")) == []
    assert len(list((tmp_path / "out" / "tb").glob("events*"))) == 2
    with pytest.raises(InputError, match="there is a run in it: give --resume"):
        train_on(address, config, tmp_path / "out")


def test_an_interrupted_run_has_saved_and_goes_on(address, tmp_path):
    config = a_run(tmp_path, steps=10**6, checkpoint_every=10**6, validation={"every": 10**6})
    process = command(tmp_path, "train", "run.toml", "--out", "out", "--ray", address)
    wait_for(lambda: (told := progress_of(tmp_path / "out")) and told.trained > 0.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert err.splitlines()[-1] == "aladdin: interrupted: go on with --resume --out out"
    steps = steps_of(tmp_path / "out")
    assert steps > 0  # nothing else than the interruption has saved since the first validation
    assert train(replace(config, steps=steps + 128), tmp_path / "out", resume=True).steps == steps + 128


# --- sweeps ---------------------------------------------------------------------------------------------------------


def test_a_sweep_gives_what_it_gives_here_and_a_killed_worker_loses_no_trial(address, tmp_path):
    heeds = signal.getsignal(signal.SIGINT)
    sweep = read_sweep(a_sweep(tmp_path, epochs=(1,), steps=4096, checkpoint_every=512))
    first = sweep.trials[0].name
    killer = killed_when(lambda: half_done(tmp_path / "out" / first))
    run_sweep(sweep, tmp_path / "out", ray=address)
    killer.join()
    there = rows_of(sweep, tmp_path / "out")
    assert {(row.state, row.steps) for row in there} == {("finished", 4096)} and len(there) == 2
    assert len(list((tmp_path / "out" / first / "tb").glob("events*"))) == 2
    here = replace(sweep, trials=sweep.trials[1:2])
    run_sweep(here, tmp_path / "here", jobs=1)
    assert rows_of(here, tmp_path / "here") == there[1:2]
    assert signal.getsignal(signal.SIGINT) is heeds


def test_a_sweep_whose_command_is_killed_goes_on(address, cli, tmp_path):
    a_sweep(tmp_path, epochs=(1,), steps=4096, checkpoint_every=512, validation={"every": 1024})
    process = command(tmp_path, "sweep", "sweep.toml", "--out", "out", "--ray", address)
    at_work = wait_for(lambda: half_done(tmp_path / "out" / "0-seed3"))
    process.kill()
    process.communicate()
    wait_for(lambda: not is_alive(at_work))
    assert not (tmp_path / "out" / "0-seed3" / "ending.json").exists()
    done = cli("sweep", "sweep.toml", "--out", "out", "--ray", address, "--resume")
    assert done.exit_code == 0 and "all 2 trials" in done.stdout, done.output
    assert [row["steps"] for row in validations_of(tmp_path / "out" / "0-seed3")] == [k * 1024.0 for k in range(5)]
    assert len(list((tmp_path / "out" / "0-seed3" / "tb").glob("events*"))) == 2
    again = cli("sweep", "sweep.toml", "--out", "out", "--ray", address, "--resume")
    assert again.exit_code == 0 and again.stdout == done.stdout


def test_a_trial_that_is_refused_ends_the_sweep(address, cli, tmp_path):
    a_sweep(tmp_path, environment={"placement": "least_requests"})
    done = cli("sweep", "sweep.toml", "--out", "out", "--ray", address)
    assert done.exit_code == 2 and "did you mean 'least_request'" in done.stderr, done.output
    assert len(done.stderr.strip().splitlines()) == 1
