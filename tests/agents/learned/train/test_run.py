"""A run in its folder: resumed with nothing lost, stopped, killed, refused; what TensorBoard finds."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from aladdin_agents.learned.checkpoint import load, load_zip
from aladdin_agents.learned.networks import weights_of
from aladdin_agents.learned.train import state
from aladdin_agents.learned.train.callbacks import SERVING
from aladdin_agents.learned.train.config import write_config
from aladdin_agents.learned.train.run import Run, train
from aladdin_env.errors import InputError
from aladdin_env.policy import make_policy
from tests.agents.learned.train.toys import elastic, events, small, too_many, written


def scaling_run(tmp_path, **more):
    more.setdefault("imitation", {"steps": 320, "rounds": 1, "epochs": 1, "value_rollouts": 1})
    return small("scaling", written(elastic(), tmp_path), **more)


def kept_state(folder):
    with zipfile.ZipFile(folder / "checkpoint.zip") as file:
        return json.loads(file.read(state.STATE_MEMBER))


def test_a_resumed_run_goes_on_where_it_was(tmp_path):
    config = scaling_run(tmp_path)
    folder = tmp_path / "run"
    train(config, folder)
    before = kept_state(folder)
    longer = replace(config, steps=2048)
    run = Run(longer, folder, "")
    assert run._open(resume=True)
    assert run.steps == before["steps"] == 1024
    assert run.model._n_updates == before["updates"] > 0
    assert run.keeper.history == before["history"] and run.prices.state() == before["prices"] != {}
    assert run.load.state() == before["load"]
    assert run.model.rewards.sums.tolist() == before["reward"]
    assert state.random_state()["numpy"] == before["random"]["numpy"]
    weights, _ = load_zip(folder / "checkpoint.zip")
    assert all(np.array_equal(weights[name], array) for name, array in weights_of(run.model.policy.net).items())
    with zipfile.ZipFile(folder / "checkpoint.zip") as file, file.open("policy.optimizer.pth") as kept:
        moments = torch.load(kept, weights_only=True)["state"]
    mine = run.model.policy.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[k]["exp_avg"], mine[k]["exp_avg"]) for k in moments)
    outcome = train(longer, folder, resume=True)
    assert outcome.steps == 2048
    after = kept_state(folder)
    assert after["history"][: len(before["history"])] == before["history"]
    assert (
        after["updates"] == 2 * before["updates"] == 2 * 2 * 1024 // config.rollout
        and after["seconds"] > before["seconds"]
    )
    assert after["expert"] == before["expert"]


def test_two_resumed_runs_are_the_same(tmp_path):
    config = scaling_run(tmp_path, imitation={"steps": 0})
    found = []
    for name in ("one", "other"):
        train(config, tmp_path / name)
        train(replace(config, steps=1536), tmp_path / name, resume=True)
        found.append(load(tmp_path / name / "last.npz")[0])
    assert all(np.array_equal(found[0][key], found[1][key]) for key in found[0])


def test_the_best_is_kept_with_its_card(tmp_path):
    folder = tmp_path / "run"
    outcome = train(scaling_run(tmp_path), folder, command="aladdin train it.toml")
    weights, card = load(outcome.best)
    assert card.kind == "scaling" and card.network == "equivariant" and card.command == "aladdin train it.toml"
    assert card.scenarios == ("elastic",) and card.seeds == (0,) and "torch" in card.versions
    assert card.results["validation_score"] == outcome.score == max(row["score"] for row in rows(folder))
    assert card.results["expert_score"] == outcome.expert
    scaler = make_policy(f"least_request+{outcome.best}", elastic()).scaler
    assert scaler.name == "best"
    assert len(weights) > 0 and outcome.best.stat().st_size < 2_000_000
    assert load_zip(folder / "checkpoint.zip")[1].kind == "scaling"


def rows(folder):
    with (folder / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    config = scaling_run(tmp_path, imitation={"steps": 0})
    folder = tmp_path / "run"
    train(config, folder)
    before = (folder / "checkpoint.zip").read_bytes()

    def cut(path, card):
        path.write_bytes(path.read_bytes()[:1000])
        raise MemoryError("the end")

    monkeypatch.setattr(state, "write_zip_card", cut)
    with pytest.raises(MemoryError):
        train(replace(config, steps=2048), folder, resume=True)
    assert (folder / "checkpoint.zip").read_bytes() == before
    monkeypatch.undo()
    assert train(replace(config, steps=1536), folder, resume=True).steps == 1536


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_run_can_be_resumed(number, tmp_path):
    config = scaling_run(tmp_path, steps=10**6, imitation={"steps": 0}, validation={"every": 10**6})
    write_config(config, tmp_path / "it.toml")
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "experiments.train", "it.toml", "--out", "run"]
    root = os.fspath(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 4)))
    variables = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background shell ignores it
    )
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint.zip").exists() or kept_state(folder)["steps"] < 1024:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130 and "Traceback" not in err, err
        assert "interrupted at " in err.splitlines()[-1] and "--resume" in err
    steps = kept_state(folder)["steps"]
    assert steps % config.rollout == 0
    outcome = train(replace(config, steps=steps + 512), folder, resume=True)
    assert outcome.steps == steps + 512


def test_a_run_is_not_written_over_and_not_mistaken_for_another(tmp_path):
    config = scaling_run(tmp_path, steps=256, imitation={"steps": 0})
    folder = tmp_path / "run"
    train(config, folder)
    with pytest.raises(InputError, match=r"--out: .* there is a run in it: give --resume"):
        train(config, folder)
    other = replace(config, learner=replace(config.learner, discount_s=0.5))
    with pytest.raises(InputError, match=r"learner.discount_s: 0.5 is not valid; the run in .* has another value"):
        train(other, folder, resume=True)
    (folder / "checkpoint.zip").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="it cannot be resumed"):
        train(config, folder, resume=True)
    assert train(config, tmp_path / "nothing yet", resume=True).steps == 256


def test_a_run_without_progress_ends(tmp_path):
    config = scaling_run(
        tmp_path, steps=10**6, imitation={"steps": 0}, validation={"every": 256, "patience": 2},
        learner={"learning_rate": 0.0, "last_learning_rate": 0.0},
    )  # fmt: skip
    outcome = train(config, tmp_path / "run")
    assert outcome.steps == 512 and len(rows(tmp_path / "run")) == 3


def test_a_run_begins_with_a_checkpoint(tmp_path):
    config = scaling_run(tmp_path, steps=256, imitation={"steps": 0})
    best = train(config, tmp_path / "one").best
    start = {"start": str(best), "hidden": 8}
    frozen = {"learning_rate": 0.0, "last_learning_rate": 0.0}
    again = scaling_run(tmp_path, steps=256, network=start, learner=frozen, imitation={"value_rollouts": 1})
    last = load(train(again, tmp_path / "two").best.with_name("last.npz"))[0]
    first = load(best)[0]
    assert all(np.array_equal(last[key], first[key]) for key in first if not key.startswith("value"))
    assert not np.array_equal(last["value2.weight"], first["value2.weight"])
    wider = scaling_run(tmp_path, steps=256, network={"start": str(best), "hidden": 9})
    with pytest.raises(InputError, match=r"network.start: .* equivariant 8 for scaling, with other actions or layers"):
        train(wider, tmp_path / "three")


@pytest.mark.slow
def test_tensorboard_finds_everything(tmp_path):
    config = small(
        "joint",
        written(elastic(horizon_s=8.0), tmp_path),
        steps=2048,
        imitation={"steps": 320, "rounds": 1, "epochs": 1, "value_rollouts": 1},
        validation={"pictures": 3, "every": 1024},
    )
    folder = tmp_path / "run"
    train(config, folder)
    train(replace(config, steps=4096), folder, resume=True)
    found = events(folder)
    scalars = found.Tags()["scalars"]
    assert {f"serving/{name}" for name in SERVING} <= set(scalars)
    assert {"train/loss", "rollout/ep_rew_mean", "time/fps", "train/load", "validation/score"} <= set(scalars)
    assert {"actions/hold", "actions/reject", "price/elastic", "validation/best", "validation/expert"} <= set(scalars)
    assert {"actions/slot", "actions/change"} <= set(found.Tags()["histograms"])
    assert {f"episode/moment_{k}" for k in (1, 2, 3)} <= set(found.Tags()["images"])
    assert found.Images("episode/moment_1")[0].width > 100
    steps = [event.step for event in found.Scalars("validation/score")]
    assert steps == sorted(set(steps)) and steps[-1] == 4096  # one curve, goes on after the resumption
    kept = rows(folder)
    assert found.Scalars("validation/score")[-1].value == pytest.approx(kept[-1]["score"], abs=1e-6)
    settings = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"learner.discount_s" in settings and b"elastic" in settings
    assert b"validation/best" in found.summary_metadata["_hparams_/experiment"].plugin_data.content


def test_an_event_file_after_a_kill_has_no_step_twice(tmp_path):
    """What was written after the last checkpoint is void once the run is resumed from there."""
    config = scaling_run(tmp_path, imitation={"steps": 0}, validation={"every": 10**6})
    folder = tmp_path / "run"
    train(config, folder)
    kept = (folder / "checkpoint.zip").read_bytes()
    train(replace(config, steps=2048), folder, resume=True)
    (folder / "checkpoint.zip").write_bytes(kept)  # as if it had been killed before the next one
    train(replace(config, steps=1536), folder, resume=True)
    steps = [event.step for event in events(folder).Scalars("serving/slo_attainment")]
    assert steps == sorted(set(steps)) and steps[-1] == 1536


def test_an_mlp_trains_too_and_refuses_another_fleet(tmp_path):
    config = scaling_run(tmp_path, steps=256, network={"kind": "mlp"}, imitation={"steps": 0})
    best = train(config, tmp_path / "run").best
    assert load(best)[1].slots == 5
    with pytest.raises(InputError, match="its MLP was trained for 5 slots"):
        make_policy(f"least_request+{best}", too_many())
