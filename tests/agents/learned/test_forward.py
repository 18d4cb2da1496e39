"""The forward pass in NumPy: torch's logits, SB3's choices."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from aladdin_agents.learned.forward import Forward
from aladdin_agents.learned.networks import weights_of
from aladdin_agents.learned.sb3 import ClusterPolicy
from aladdin_agents.learned.shape import Shape
from aladdin_env import InputError
from aladdin_env.envs.spaces import Actions, observation_space

from . import samples
from .samples import ADVISED, NETWORKS, SHAPES


def forward(network, shape: Shape, name: str, slots: int) -> Forward:
    return Forward(weights_of(network), samples.card(shape, name, slots, network.hidden))


def masked(logits: np.ndarray, mask: np.ndarray) -> int:
    return int(np.where(mask.astype(bool), logits, -np.inf).argmax())


KINDS = [(network, shape) for network in NETWORKS for shape in SHAPES]
KINDS += [("equivariant", shape) for shape in ADVISED]


@pytest.mark.parametrize(("name", "shape"), KINDS)
@pytest.mark.parametrize("slots", [4, 16])
def test_random_observations_give_the_logits_and_the_argmax_of_torch(shape, name, slots):
    shape = (SHAPES | ADVISED)[shape]
    network = samples.net(shape, name, slots, seed=3)
    arrays = samples.observations(shape, slots, 1500)
    expected, _ = samples.in_torch(network, *arrays)
    computed = forward(network, shape, name, slots)
    found = np.array([computed.logits(*row).copy() for row in zip(*arrays, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_real_observations_give_the_choices_of_sb3(shape, name):
    """Idle workers of a type look the same, and rounding may break a tie in another way: then both are the best."""
    scenario = samples.scenario_for(shape)
    slots = scenario.fleet.slots
    actions = Actions.of(shape.task, scenario)
    space = observation_space(scenario, actions)
    policy = ClusterPolicy(
        space, samples.environment_for(shape, scenario).action_space, lambda _: 0.0, name, 32, shape
    )  # fmt: skip
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in policy.net.parameters():
            parameter.normal_(0.0, 0.3)
    computed = forward(policy.net, shape, name, slots)
    differing = seen = 0
    for observation in samples.real_observations(shape, 600 if shape.places else 60):
        mask = observation["mask"]
        flat = {**observation, "workers": observation["workers"].ravel()}
        chosen = int(policy.predict(flat, deterministic=True, action_masks=mask.astype(bool))[0])
        logits = computed.logits(observation["workers"], observation["request"], observation["cluster"])
        assert mask[masked(logits, mask)]
        seen += 1
        if masked(logits, mask) != chosen:
            differing += 1
            assert logits[chosen] == pytest.approx(logits[masked(logits, mask)], abs=1e-5)
    assert differing <= 0.01 * seen


@pytest.mark.parametrize("hidden", [1, 7, 64])
def test_any_width(hidden):
    shape = SHAPES["joint, 2 types, HOLD"]
    network = samples.net(shape, hidden=hidden)
    arrays = samples.observations(shape, 8, 20)
    computed = forward(network, shape, "equivariant", 8)
    found = np.array([computed.logits(*row).copy() for row in zip(*arrays, strict=True)])
    np.testing.assert_allclose(found, samples.in_torch(network, *arrays)[0], rtol=1e-4, atol=1e-4)


def test_fleets_of_changing_size_one_after_the_other():
    """What is kept for one fleet never enters the answer for the next."""
    trained = Shape(2, True, True, rejects=True)
    network = samples.net(trained)
    computed = forward(network, trained, "equivariant", 8)
    for seed, (slots, types) in enumerate([(8, 2), (64, 2), (3, 1), (8, 2), (8, 4), (8, 2)]):
        arrays = samples.observations(Shape(types, True, True, rejects=True), slots, 3, seed)
        expected, _ = samples.in_torch(network, *arrays)
        for row, logits in zip(zip(*arrays, strict=True), expected, strict=True):
            np.testing.assert_allclose(computed.logits(*row), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))], ids=["copy", "pickle"]
)
def test_a_copy_computes_the_same_with_buffers_of_its_own(name, again):
    shape = SHAPES["joint"]
    computed = forward(samples.net(shape, name), shape, name, 8)
    arrays = samples.observations(shape, 8, 6)
    first = [array[4] for array in arrays]
    expected = computed.logits(*first).copy()
    other = again(computed)
    kept = other.logits(*first)
    computed.logits(*(array[5] for array in arrays))
    np.testing.assert_array_equal(kept, expected)


def test_an_mlp_refuses_another_fleet():
    shape = SHAPES["placement"]
    computed = forward(samples.net(shape, "mlp", 8), shape, "mlp", 8)
    with pytest.raises(InputError, match="take an equivariant network"):
        computed.logits(*(array[0] for array in samples.observations(shape, 9, 3)))


def test_what_is_no_observation_is_refused():
    shape = SHAPES["placement"]
    computed = forward(samples.net(shape), shape, "equivariant", 8)
    workers, request, cluster = (array[0] for array in samples.observations(shape, 8, 3))
    for wrong in (
        (workers[:0], request, cluster),
        (workers[:, :20], request, cluster),
        (workers, request, cluster[:26]),
        (workers, request, cluster[:24]),
        (workers[:5], request[:9], cluster),
    ):
        with pytest.raises(InputError, match="give \\(slots, 24\\)"):
            computed.logits(*wrong)


def test_weights_of_another_network_are_refused():
    shape = SHAPES["placement"]
    weights = weights_of(samples.net(shape))
    with pytest.raises(InputError, match="no array"):
        Forward(weights, samples.card(SHAPES["joint"]))
    with pytest.raises(InputError, match="no array"):
        Forward(weights, samples.card(shape, "mlp"))
    with pytest.raises(InputError, match="array of"):
        Forward(weights, samples.card(shape, hidden=16))
