"""A search finds what steers Aladdin better, the same on any number of processes, and goes on where it was."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from aladdin_agents.learned.checkpoint import load
from aladdin_agents.learned.train.config import config_from
from aladdin_agents.learned.train.display import heard_by
from aladdin_agents.learned.train.episodes import length_of, vector_from, weights_from
from aladdin_agents.learned.train.run import train
from aladdin_env import InputError
from tests.agents.learned.train.toys import events, written

from .. import samples
from ..test_steered import SHAPES


def generous():
    """A fleet that Aladdin keeps fuller than it must be: half an hour of a steady load with loose objectives."""
    kind = samples.worker_type(workers=6, least=1)
    scenario = samples.cluster_of(kind, rate=40.0, horizon_s=1500.0, heartbeat_s=10.0, name="generous")
    return replace(scenario, slo=replace(scenario.slo, ttft_s=3.0, atgt_s=0.03))


def searching(tmp_path, steps: int = 24, **search):
    return config_from(
        {
            "task": "scaling",
            "scenarios": [written(generous(), tmp_path)],
            "steps": steps,
            "network": {"kind": "steered"},
            "environment": {"randomise": 0.0},
            "curriculum": {"low": 1.0, "start": 1.0, "full": 1.0},
            "search": {"population": 6, "sets": 1, "sigma": 0.3, "processes": 1, **search},
            "validation": {"every": 12, "seeds": 1, "pictures": 0},
        }
    )


def losses_of(folder) -> list[list[float]]:
    with zipfile.ZipFile(folder / "checkpoint.zip") as file:
        return json.loads(file.read("search.json"))["losses"]


def test_it_saves_where_there_is_something_to_save(tmp_path):
    outcome = train(searching(tmp_path, 60), tmp_path / "run", command="aladdin train x.toml")
    assert outcome.steps == 60 and outcome.score > 0.02 > outcome.expert == 0.0
    assert outcome.attainment >= 0.99 and outcome.cost_ratio < 0.98
    weights, card = load(outcome.best)
    assert card.network == "steered" and card.command == "aladdin train x.toml"
    assert card.results["validation_score"] == outcome.score and weights["steer.weight"].shape == (4, 13)
    scalars = events(tmp_path / "run").Tags()["scalars"]
    assert {"search/mean", "search/sigma", "validation/score", "serving/slo_attainment"} <= set(scalars)


def test_the_number_of_processes_changes_nothing_and_a_run_goes_on(tmp_path):
    whole = train(searching(tmp_path, processes=2), tmp_path / "whole")
    config = searching(tmp_path)
    train(replace(config, steps=12), tmp_path / "parts")
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")[:2]
    resumed = train(config, tmp_path / "parts", resume=True)
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    assert replace(resumed, best=whole.best) == whole
    weights, same = load(whole.best)[0], load(resumed.best)[0]
    assert all(np.array_equal(weights[name], same[name]) for name in weights)


def test_an_interrupted_search_keeps_its_generations(tmp_path):
    config, folder = searching(tmp_path), tmp_path / "run"

    def stop(what: str, part: float, told: str) -> None:
        if what == "training" and "generation 3" in told:
            raise KeyboardInterrupt

    with heard_by(stop), pytest.raises(KeyboardInterrupt):
        train(config, folder)
    assert len(losses_of(folder)) == 2
    with pytest.raises(InputError, match=r"--out.*there is a run in it: give --resume"):
        train(config, folder)
    with pytest.raises(InputError, match=r"search.sigma.*has another value there"):
        train(searching(tmp_path, sigma=0.2), folder, resume=True)
    assert train(config, folder, resume=True).steps == 24
    whole = (folder / "checkpoint.zip").read_bytes()
    damaged = [
        b"no zip",
        whole[:100],
        *(whole[:at] + bytes([whole[at] ^ 128]) + whole[at + 1 :] for at in (28, 29, 40)),
    ]
    for content in damaged:
        (folder / "checkpoint.zip").write_bytes(content)
        with pytest.raises(InputError, match=r"it cannot be resumed"):
            train(config, folder, resume=True)


def test_it_may_begin_with_a_checkpoint_of_its_kind(tmp_path):
    first = train(searching(tmp_path, 12), tmp_path / "first")
    config = searching(tmp_path, 0)
    begun = train(replace(config, network=replace(config.network, start=str(first.best))), tmp_path / "second")
    assert begun.score == first.score and begun.steps == 0
    other = samples.write(tmp_path / "net.npz", samples.SHAPES["scaling, 2 types"])
    with pytest.raises(InputError, match=r"it is equivariant for scaling: give a steered one for scaling"):
        train(replace(config, network=replace(config.network, start=other)), tmp_path / "third")


@pytest.mark.parametrize("kind", SHAPES)
def test_weights_and_vectors(kind):
    shape = SHAPES[kind]
    vector = np.random.default_rng(0).normal(size=length_of(shape)).astype(np.float32).astype(np.float64)
    assert np.array_equal(vector_from(weights_from(vector, shape), shape), vector)


def test_both_halves_are_searched_for_together(tmp_path):
    config = replace(searching(tmp_path, 6), task="joint")
    outcome = train(config, tmp_path / "joint")
    weights, card = load(outcome.best)
    assert card.kind == "joint" and {"steer.weight", "settings.weight"} <= set(weights)
