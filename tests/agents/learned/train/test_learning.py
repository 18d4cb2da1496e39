"""Training finds what is known to be best, and the same thing each time."""

from __future__ import annotations

import numpy as np
import pytest

from aladdin_agents.learned.checkpoint import load
from aladdin_agents.learned.train.run import train
from tests.agents.learned.train.toys import elastic, one_useless, small, too_many, written

FROM_SCRATCH = {
    "discount_s": 10.0,
    "credit_s": 5.0,
    "learning_rate": 3e-3,
    "last_learning_rate": 1e-3,
    "epochs": 4,
    "batch_size": 512,
}


@pytest.mark.slow
@pytest.mark.parametrize("network", ["equivariant", "mlp"])
def test_ppo_from_scratch_never_chooses_the_useless_worker(network, tmp_path):
    scenario = one_useless()
    options = {"allow_hold": False, "allow_reject": False, "envs": 32, "placement": "least_request"}
    config = small(
        "placement",
        written(scenario, tmp_path),
        steps=40_000,
        network={"kind": network, "hidden": 16},
        environment=options,
        learner=FROM_SCRATCH | {"n_steps": 32},
        validation={"every": 10_000},
        imitation={"expert": "round_robin"},
    )
    outcome = train(config, tmp_path / "run")
    assert outcome.attainment > 0.99
    assert outcome.expert < 0.6  # to choose in turn misses half


@pytest.mark.slow
def test_ppo_from_scratch_lets_go_of_the_workers_that_nobody_needs(tmp_path):
    config = small(
        "scaling",
        written(too_many(), tmp_path),
        steps=40_000,
        environment={"envs": 32, "placement": "least_request"},
        learner=FROM_SCRATCH,
        validation={"every": 10_000},
        imitation={"expert": "least_request+static"},
    )
    outcome = train(config, tmp_path / "run")
    assert outcome.attainment > 0.99
    assert outcome.cost_ratio < 0.35  # one of four workers, the first seconds apart


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(tmp_path):
    scenario = written(elastic(), tmp_path)
    more = {"imitation": {"steps": 400, "rounds": 2, "epochs": 1, "value_rollouts": 1}}
    found = []
    for name, seed in (("one", 3), ("other", 3), ("third", 4)):
        train(small("joint", scenario, seed=seed, **more), tmp_path / name)
        found.append(load(tmp_path / name / "last.npz")[0])
    assert all(np.array_equal(found[0][key], found[1][key]) for key in found[0])
    assert not all(np.array_equal(found[0][key], found[2][key]) for key in found[0])
