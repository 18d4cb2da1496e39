"""Sweeps on this machine: what they leave, resumed, killed, interrupted, refused."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from aladdin_agents.learned.card import Card
from aladdin_agents.learned.checkpoint import load
from aladdin_agents.learned.train.run import train
from aladdin_agents.scale_out.follow import follow, progress_of, validations_of
from aladdin_agents.scale_out.shared import shared
from aladdin_agents.scale_out.sweep import run_sweep
from aladdin_agents.scale_out.sweep_file import read_sweep
from aladdin_agents.scale_out.sweep_table import groups_of, rows_of
from aladdin_env.errors import InputError
from tests.agents.scale_out.toys import ROOT, a_run, a_sweep, is_alive, steps_of, wait_for


def table(folder):
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sweep that has ended, and its folder."""
    folder = tmp_path_factory.mktemp("done")
    file = a_sweep(folder)
    run_sweep(read_sweep(file), folder / "out", jobs=1)
    return file


@pytest.fixture
def again(done, tmp_path):
    """A copy of its folder."""
    return shutil.copytree(done.parent / "out", tmp_path / "out")


def test_a_trial_is_the_training_run_that_its_folder_says(done, tmp_path):
    trial = read_sweep(done).trials[1]
    train(trial.config, tmp_path / "alone")
    assert validations_of(tmp_path / "alone") == validations_of(done.parent / "out" / trial.name)
    _, card = load(done.parent / "out" / trial.name / "best.npz")
    assert isinstance(card, Card) and card.seeds == (4,)
    assert card.command == f"aladdin train {done.parent / 'out' / trial.name / 'config.toml'}"


def test_its_table_and_its_best(cli, done, again):
    told = cli("sweep", done, "--out", again, "--resume")
    assert told.exit_code == 0, told.output
    found = table(again)
    assert list(found[0]) == [
        "trial", "state", "learner.epochs", "seed", "score", "attainment", "cost_ratio", "steps", "checkpoint",
    ]  # fmt: skip
    assert [(row["trial"], row["learner.epochs"], row["seed"]) for row in found] == [
        ("0-seed3", "1", "3"), ("0-seed4", "1", "4"), ("1-seed3", "2", "3"), ("1-seed4", "2", "4"),
    ]  # fmt: skip
    assert {(row["state"], row["steps"]) for row in found} == {("finished", "1024")}
    best = max(found, key=lambda row: float(row["score"]))
    assert (again / "best.npz").read_bytes() == (again / best["checkpoint"]).read_bytes()
    assert f"best: {best['trial']}, score {float(best['score']):.4f}" in told.stdout
    groups = groups_of(rows_of(read_sweep(done), again))
    assert [len(group.scores) for group in groups] == [2, 2] and groups[0].mean >= groups[1].mean
    assert "learner.epochs" in told.stdout and f"{groups[0].mean:.4f}" in told.stdout


def test_tensorboard_finds_all_trials(done):
    folders = sorted((done.parent / "out").glob("*/tb"))
    assert len(folders) == 4
    found = EventAccumulator(str(folders[0]))
    found.Reload()
    assert "validation/score" in found.Tags()["scalars"]


def test_what_has_ended_is_not_run_again_and_half_done_trials_go_on(done, again):
    sweep = read_sweep(done)
    for name in ("0-seed4", "1-seed3"):
        (again / name / "ending.json").unlink()
    shutil.rmtree(again / "1-seed4")
    before = {path: path.stat().st_mtime_ns for path in again.glob("*/checkpoint.zip")}
    run_sweep(sweep, again, jobs=1, resume=True)
    changed = {path.parent.name for path, time_ns in before.items() if path.stat().st_mtime_ns != time_ns}
    assert changed == {"0-seed4", "1-seed3"} and (again / "1-seed4" / "best.npz").exists()
    rows = rows_of(sweep, again)
    assert rows == rows_of(sweep, done.parent / "out")


def test_a_sweep_can_be_made_longer(done, again):
    sweep = read_sweep(done)
    longer = replace(
        sweep, trials=tuple(replace(trial, config=replace(trial.config, steps=1536)) for trial in sweep.trials[:1])
    )
    run_sweep(longer, again, jobs=1, resume=True)
    assert rows_of(longer, again)[0].steps == 1536


def test_a_sweep_is_not_written_over_and_not_mistaken_for_another(done, again):
    with pytest.raises(InputError, match=r"--out: .* there is a sweep in it: give --resume, or another folder"):
        run_sweep(read_sweep(done), again, jobs=1)
    (done.parent / "other.toml").write_text(done.read_text().replace("[1, 2]", "[1, 3]"))
    with pytest.raises(InputError, match=r"learner.epochs: 3 is not valid; trial 1-seed3 in .* another value there"):
        run_sweep(read_sweep(done.parent / "other.toml"), again, jobs=1, resume=True)


def test_trials_that_are_left_behind_end_early(tmp_path):
    more = "[stopping]\ngrace = 256\nreduction = 2"
    sweep = read_sweep(a_sweep(tmp_path, more, validation={"every": 128, "patience": 0}))
    first, *others = sweep.trials
    for trial in others:  # they have ended, and were ever better
        folder = tmp_path / "out" / trial.name
        folder.mkdir(parents=True)
        lines = [f"{steps}.0,9.0,1.0,1.0" for steps in range(0, 1024, 128)]
        (folder / "history.csv").write_text("\n".join(["steps,score,attainment,cost_ratio", *lines, ""]))
        (folder / "ending.json").write_text('{"how": "finished", "steps": 1024}')
    run_sweep(sweep, tmp_path / "out", jobs=1)
    row = rows_of(sweep, tmp_path / "out")[0]
    assert (row.trial, row.state, row.steps) == (first, "stopped", 256)
    run_sweep(sweep, tmp_path / "out", jobs=1, resume=True)  # it stays so
    assert rows_of(sweep, tmp_path / "out")[0] == row


COMMAND = [sys.executable, "-m", "aladdin_env.cli", "sweep", "sweep.toml", "--out", "out"]


def begun(folder, is_half_done):
    """A sweep in a process of its own, of which two trials are half done; the process."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*COMMAND, "--jobs", "2"], cwd=folder, env=variables, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )  # fmt: skip

    def are_half_done():
        assert process.poll() is None, process.communicate()
        return all(is_half_done(folder / "out" / name) for name in ("0-seed3", "0-seed4"))

    wait_for(are_half_done)
    return process


LONG = {"steps": 10**6, "checkpoint_every": 10**6, "validation": {"every": 256, "patience": 0}}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_sweep_goes_on(cli, tmp_path):
    a_sweep(tmp_path, epochs=(1,), **LONG)
    process = begun(tmp_path, lambda own: len(validations_of(own)) > 1)
    at_work = [progress_of(tmp_path / "out" / name).process for name in ("0-seed3", "0-seed4")]
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not any(map(is_alive, at_work)), 20)
    before = validations_of(tmp_path / "out" / "0-seed3")
    a_sweep(tmp_path, epochs=(1,), **(LONG | {"steps": int(before[-1]["steps"]) + 256}))
    done = cli("sweep", "sweep.toml", "--out", "out", "--resume", "--jobs", "1")
    assert done.exit_code == 0, done.output
    assert {row["state"] for row in table(tmp_path / "out")} == {"finished"}
    assert validations_of(tmp_path / "out" / "0-seed3")[: len(before)] == before


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupted_sweep_has_saved_and_stopped(tmp_path):
    a_sweep(tmp_path, **(LONG | {"validation": {"every": 10**6}}))
    process = begun(tmp_path, lambda own: (told := progress_of(own)) and told.trained > 0.0)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the whole group
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert err.splitlines()[-1] == "aladdin: interrupted: go on with --resume --out out"
    assert [(row["trial"], row["state"]) for row in table(tmp_path / "out")] == [
        ("0-seed3", "begun"), ("0-seed4", "begun"),
    ]  # fmt: skip
    assert min(steps_of(tmp_path / "out" / name) for name in ("0-seed3", "0-seed4")) > 0  # not saved since 0 but now
    assert not (tmp_path / "out" / "1-seed3").exists()  # the pool had it already


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep", "nothing.toml"), "nothing.toml"),
        (("sweep", "sweep.toml", "--jobs", "0"), "--jobs: 0 is not valid"),
        (("sweep", "sweep.toml", "--ray", "over there"), "--ray: 'over there' is not valid; give HOST:PORT"),
        (("train", "run.toml", "--ray", "localhost:1"), "nobody answers there"),
    ],
)
def test_a_mistake_is_one_line(cli, tmp_path, arguments, message):
    a_sweep(tmp_path)
    done = cli(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_without_ray_the_way_to_install_it_is_told(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    a_sweep(tmp_path)
    for command in (("sweep", "sweep.toml"), ("train", "run.toml"), ("benchmark", "run", "--seeds", "1")):
        done = cli(*command, "--ray", "auto")
        assert done.exit_code == 2 and "pip install 'aladdin-env[ray]'" in done.stderr, done.output
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_folder_that_others_do_not_see_is_refused(tmp_path):
    with shared(tmp_path / "out") as folder:
        folder.check()
    with pytest.raises(InputError, match=r"--out: .* does not see it: give a folder on a disk that the whole cluster"):
        folder.check()


def test_a_folder_has_one_run_at_a_time(tmp_path, monkeypatch):
    from aladdin_agents.learned.train import lock as module

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(module, "_WAIT_S", 0.1)
    config = a_run(tmp_path)
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process trains in it"):
            follow(config, tmp_path / "run", "")
    assert follow(replace(config, steps=128), tmp_path / "run", "").steps == 128
    told = progress_of(tmp_path / "run")
    assert told.process == os.getpid() and told.trained == 1.0
