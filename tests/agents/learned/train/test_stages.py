"""Two halves make a joint checkpoint that decides exactly as they do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aladdin_agents.learned.checkpoint import load
from aladdin_agents.learned.forward import Forward
from aladdin_agents.learned.networks import weights_of
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train import stages
from aladdin_agents.learned.train.config import Stages, write_config
from aladdin_agents.learned.train.merge import merge
from aladdin_agents.learned.train.run import train
from aladdin_env.errors import InputError
from tests.agents.learned.samples import card, net, observations
from tests.agents.learned.train.toys import elastic, small, written

PLACES, SCALES = Shape(2, True, False, True, True), Shape(2, False, True, max_change=3)


def half(shape, hidden, seed, network="equivariant"):
    return weights_of(net(shape, network, seed=seed, hidden=hidden)), card(shape, network, hidden=hidden)


def test_a_merged_network_decides_as_its_halves_do():
    placement, scaling = half(PLACES, 8, 1), half(SCALES, 12, 2)
    weights, joint = merge(placement, scaling, "aladdin train joint.toml")
    assert joint.kind == "joint" and joint.hidden == 20 and joint.steps == 2000
    assert joint.shape == Shape(2, True, True, True, True, 3)
    whole, one, other = Forward(weights, joint), Forward(*placement), Forward(*scaling)
    for arrays in zip(*observations(joint.shape, 9, 50), strict=True):
        found = whole.logits(*arrays).copy()
        assert np.allclose(found[:11], one.logits(*arrays), atol=1e-4)
        assert np.allclose(found[11:], other.logits(*arrays), atol=1e-4)


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(InputError, match=r"stages.placement: 'equivariant for scaling' is not valid"):
        merge(half(SCALES, 8, 0), half(SCALES, 8, 0), "")
    with pytest.raises(InputError, match=r"stages.scaling: 'mlp for scaling' is not valid; give an equivariant"):
        merge(half(PLACES, 8, 0), half(SCALES, 8, 0, "mlp"), "")


@pytest.mark.slow
def test_a_joint_run_in_stages(tmp_path):
    scenario = written(elastic(), tmp_path)
    none = {"steps": 0, "value_rollouts": 1}
    write_config(small("placement", scenario, steps=256, imitation=none), tmp_path / "placement.toml")
    write_config(small("scaling", scenario, steps=256, imitation=none), tmp_path / "scaling.toml")
    stages = {"placement": str(tmp_path / "placement.toml"), "scaling": str(tmp_path / "scaling.toml")}
    config = small("joint", scenario, steps=0, stages=stages, imitation={"steps": 0, "value_rollouts": 0})
    folder = tmp_path / "run"
    outcome = train(config, folder)
    merged, joint = load(folder / "merged.npz")
    best, final = load(outcome.best)
    assert joint.kind == final.kind == "joint" and final.hidden == 16
    assert all(np.array_equal(best[key], merged[key]) for key in best)
    placement, scaling = load(folder / "placement" / "best.npz"), load(folder / "scaling" / "best.npz")
    stages = {"placement": str(folder / "placement" / "best.npz"), "scaling": str(folder / "scaling" / "best.npz")}
    longer = small("joint", scenario, steps=256, stages=stages, imitation=none)
    trained = train(longer, tmp_path / "further")
    assert trained.steps == 256
    assert np.array_equal(load(tmp_path / "further" / "merged.npz")[0]["keep.bias"], scaling[0]["keep.bias"])
    assert placement[1].kind == "placement"
    assert train(config, folder, resume=True).score == outcome.score
    wrong = small("joint", scenario, stages={"placement": stages["scaling"], "scaling": stages["scaling"]})
    with pytest.raises(InputError, match=r"stages.placement"):
        train(wrong, tmp_path / "wrong")


def test_an_interrupted_half_goes_on_with_the_whole(tmp_path, monkeypatch):
    def stopped(config, out, **options):
        raise KeyboardInterrupt(f" at 10 decisions: go on with --resume --out {out}")

    monkeypatch.setattr(stages, "train", stopped)
    half = small("placement", written(elastic(), tmp_path))
    write_config(half, tmp_path / "half.toml")
    whole = replace(small("joint", written(elastic(), tmp_path)), stages=Stages(str(tmp_path / "half.toml"), "b.npz"))
    with pytest.raises(KeyboardInterrupt, match=rf"--out {tmp_path / 'run'}$"):
        stages.train_in_stages(whole, tmp_path / "run", False, "")
