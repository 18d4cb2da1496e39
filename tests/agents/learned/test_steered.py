"""Steered policies: with all weights 0 they are Aladdin, and what they are told moves what they do."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from aladdin_agents import aladdin
from aladdin_agents.learned.checkpoint import load, save, sizes_of
from aladdin_agents.learned.forward import Forward
from aladdin_agents.learned.policy import load_policy
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.steered import ORIGIN, LinearSteer, SteeredJoint, objectives, placement_settings
from aladdin_agents.learned.train.merge import merge
from aladdin_agents.scale_aladdin import AladdinScaler
from aladdin_agents.steering import LEARNED, OBJECTIVES, Situation, Steering
from aladdin_env import SLO, InputError
from aladdin_env.policy import Combined, combine, make_policy, make_scaler
from aladdin_env.simulator.run import Simulator

from . import samples

SHAPES = {"placement": Shape(1, True, False), "scaling": Shape(1, False, True), "joint": Shape(1, True, True)}


def card(kind: str):
    return samples.card(SHAPES[kind], "steered", hidden=0)


def zeros(kind: str) -> dict[str, np.ndarray]:
    return {name: np.zeros(size, dtype=np.float32) for name, size in sizes_of(card(kind)).items()}


def written(path, kind: str, **changed: np.ndarray) -> str:
    weights = zeros(kind)
    for name, value in changed.items():
        weights[name.replace("_", ".")][:] = value
    save(path, weights, card(kind))
    return str(path)


def elastic():
    """A fleet that grows and shrinks under a load that comes and goes."""
    return samples.cluster_of(rate=60.0, horizon_s=300.0, heartbeat_s=5.0)


def ran(scenario, policy) -> dict[str, float]:
    return Simulator(scenario, 4).run(policy).summary


def origin(scenario):
    """What all searches began from: the settings of aladdin_plus as they were then."""
    return aladdin.make(scenario, ORIGIN)


def test_with_all_weights_zero_it_is_what_the_search_began_from(tmp_path):
    scenario = elastic()
    expected = ran(scenario, Combined(origin(scenario), make_scaler("aladdin", scenario)))
    joint, placement, scaling = (written(tmp_path / f"{kind}.npz", kind) for kind in ("joint", "placement", "scaling"))
    assert ran(scenario, make_policy(joint, scenario)) == expected
    assert ran(scenario, make_policy(f"{placement}+{scaling}", scenario)) == expected
    other = ran(scenario, make_policy(f"aladdin_plus+{joint}", scenario))
    assert other == ran(scenario, "aladdin_plus+aladdin")


def test_what_the_search_began_from_does_not_move_with_the_defaults():
    assert asdict(ORIGIN) == {
        "theta": 0.9, "gamma": 0.95, "ahead": 1.0, "fresh_ahead": 8.0, "stretch": 1.0, "hold_share": 0.7,
        "rebalance": 1.0, "target": 0.99, "groups": 1, "affinity": 0.3, "shed": 0.5,
    }  # fmt: skip


def test_placements_stay_compiled_and_names_are_those_of_the_file(tmp_path):
    scenario = elastic()
    path = written(tmp_path / "joint.npz", "joint")
    both = make_policy(path, scenario)
    assert isinstance(both, SteeredJoint) and both.kernel is not None and both.name == "joint"
    assert isinstance(make_scaler(path, scenario), AladdinScaler)
    assert isinstance(make_policy(f"least_request+{path}", scenario), Combined)
    told = both.scaler.settings()
    assert told["policy"] == "joint" and told["network"] == "steered" and told["scenarios"] == 1


def test_a_bold_steer_keeps_fewer_workers_than_a_fearful_one(tmp_path):
    scenario = replace(elastic(), horizon_s=1500.0)
    found = []
    for k, bias in enumerate(([-0.5, 0, -0.5, -0.5], [0, 0, 0, 0], [0.5, 0, 0.5, 0.5])):
        path = written(tmp_path / f"{k}.npz", "scaling", steer_bias=np.array(bias))
        found.append(ran(scenario, make_policy(f"aladdin_plus+{path}", scenario))["gpus_mean"])
    assert found[0] < found[1] < found[2]


def test_factors_are_exponentials_of_the_situation_within_limits():
    weight, bias = np.zeros((4, 13)), np.zeros(4)
    weight[0, Situation._fields.index("filled")] = 0.5
    bias[2], bias[3] = -5.0, 0.1
    steer = LinearSteer(weight, bias)
    situation = Situation(*[0.0] * 13)._replace(filled=0.4, failed=2.0)
    assert steer(situation) == pytest.approx(Steering(np.exp(0.2), 1.0, np.exp(-1.2), np.exp(0.1)))
    assert steer(situation._replace(filled=1e9)).forecast == pytest.approx(np.exp(1.2))  # 3 x 0.5, then cut
    assert Situation(*[1e9] * 13).features().max() == 3.0


def test_settings_of_the_placement_move_within_their_ranges():
    scenario = elastic()
    weights = zeros("placement")
    assert placement_settings(weights, scenario) == ORIGIN
    for by in (-1e6, -1.0, 0.5, 1e6):
        weights["settings.bias"][:] = by
        found = placement_settings(weights, scenario)
        for name in LEARNED:
            assert (getattr(found, name) > getattr(ORIGIN, name)) == (by > 0)
    weights["settings.bias"][:] = 0.0
    weights["settings.weight"][0, 0] = 1.0
    tight = placement_settings(weights, replace(scenario, slo=SLO(0.2, 0.02)))
    loose = placement_settings(weights, replace(scenario, slo=SLO(2.0, 0.02)))
    assert tight.theta < loose.theta and tight.gamma == loose.gamma


def test_objectives_say_how_much_room_there_is():
    scenario = elastic()
    base = objectives(scenario)
    assert base.shape == (OBJECTIVES,) and (np.abs(base) <= 3.0).all()
    looser = objectives(replace(scenario, slo=SLO(2.0 * scenario.slo.ttft_s, scenario.slo.atgt_s)))
    np.testing.assert_allclose(looser - base, [np.log(2.0), 0.0, 0.0], atol=1e-12)


def test_halves_become_a_joint_checkpoint(tmp_path):
    halves = [load(written(tmp_path / f"{kind}.npz", kind)) for kind in ("placement", "scaling")]
    weights, joint = merge(*halves, "aladdin train joint.toml")
    assert joint.network == "steered" and joint.kind == "joint" and joint.hidden == 0
    save(tmp_path / "joint.npz", weights, joint)
    assert isinstance(load_policy(tmp_path / "joint.npz", elastic()), SteeredJoint)
    other = samples.card(SHAPES["scaling"], hidden=8)
    with pytest.raises(InputError, match=r"stages.placement: 'steered for placement' is not valid"):
        merge(halves[0], (zeros("scaling"), other), "")


def test_cards_that_contradict_themselves_are_refused():
    with pytest.raises(InputError, match=r"card.hidden: 8 is not valid; a steered policy has no layers"):
        samples.card(SHAPES["joint"], "steered", hidden=8)
    with pytest.raises(InputError, match=r"card.shape.*has no actions of its own"):
        samples.card(Shape(1, True, False, holds=True), "steered", hidden=0)
    with pytest.raises(InputError, match=r"card.network.*steered"):
        Forward(zeros("joint"), card("joint"))


def test_a_steered_placement_alone_is_asked_as_any_other(tmp_path):
    scenario = samples.cluster_of()
    policy = load_policy(written(tmp_path / "placement.npz", "placement"), scenario)
    assert ran(scenario, combine(policy)) == ran(scenario, combine(origin(scenario)))
