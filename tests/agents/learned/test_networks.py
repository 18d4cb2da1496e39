"""The two networks: symmetric, of any size, and with the weights that their layout names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aladdin_agents.learned.layout import layers_of, weight_sizes
from aladdin_agents.learned.networks import EquivariantNet, load_weights, make_net, net_of, sharpen, weights_of
from aladdin_agents.learned.shape import Shape
from aladdin_env import InputError
from aladdin_env.envs.spaces import Actions, Task
from aladdin_env.features import W

from . import samples
from .samples import NETWORKS, SHAPES


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("slots", [1, 8, 33])
def test_exchanging_slots_exchanges_their_logits_and_nothing_else(shape, slots):
    network = samples.net(shape)
    workers, request, cluster = samples.observations(shape, slots, 64)
    logits, values = samples.in_torch(network, workers, request, cluster)
    order = np.random.default_rng(1).permutation(slots)
    moved, moved_values = samples.in_torch(network, workers[:, order], request, cluster)
    expected = logits.copy()
    if shape.places:
        expected[:, :slots] = logits[:, order]
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moved_values, values, rtol=1e-4, atol=1e-4)


def test_slots_that_are_off_change_nothing_for_the_others():
    shape = Shape(1, True, True, holds=True)
    network = samples.net(shape)
    workers, request, cluster = samples.observations(shape, 6, 32)
    off = np.zeros((32, 5, 24), dtype=np.float32)
    off[:, :, W.type : W.price + 1] = workers[:, :1, W.type : W.price + 1]
    logits, values = samples.in_torch(network, workers, request, cluster)
    more, more_values = samples.in_torch(network, np.concatenate((workers, off), axis=1), request, cluster)
    np.testing.assert_allclose(np.delete(more, np.s_[6:11], axis=1), logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(more_values, values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("slots", [1, 4, 64])
@pytest.mark.parametrize("types", [1, 2, 4])
def test_the_equivariant_network_takes_any_fleet(slots, types):
    network = samples.net(Shape(2, True, True, holds=True, rejects=True))
    asked = Shape(types, True, True, holds=True, rejects=True)
    logits, values = samples.in_torch(network, *samples.observations(asked, slots, 5))
    assert logits.shape == (5, asked.actions(slots))
    assert values.shape == (5,)
    assert np.isfinite(logits).all()


def test_types_are_told_apart_by_what_they_are():
    """Two types in the same state but for their price have other logits: the network can prefer the cheap one."""
    shape = Shape(2, False, True)
    network = samples.net(shape)
    workers, request, cluster = samples.observations(shape, 4, 4)
    cluster[:, 24:29] = cluster[:, 29:34]
    workers[:, :, W.price] = np.where(workers[:, :, W.type] < 0.75, 0.2, 1.0)
    logits, _ = samples.in_torch(network, workers, request, cluster)
    assert (np.abs(logits[:, 1:5] - logits[:, 5:9]).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_those_of_the_layout(shape, name):
    network = samples.net(shape, name)
    weights = weights_of(network)
    sizes = weight_sizes(layers_of(name, shape, 32, 8))
    assert {key: array.shape for key, array in weights.items()} == sizes
    assert all(array.dtype == np.float32 for array in weights.values())
    again = net_of(samples.card(shape, name), weights)
    arrays = samples.observations(shape, 8, 16)
    for one, other in zip(samples.in_torch(network, *arrays), samples.in_torch(again, *arrays), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_shape_counts_actions_as_the_environments_do(shape):
    scenario = samples.scenario_for(shape)
    actions = Actions.of(shape.task, scenario)
    assert shape == Shape.of(shape.task, shape.types)
    assert shape.actions(scenario.fleet.slots) == actions.size
    assert shape.changes == len(actions.changes)


def test_a_copy_of_weights_is_no_view():
    network = samples.net(SHAPES["joint"])
    weights = weights_of(network)
    before = {name: array.copy() for name, array in weights.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert all((weights[name] == before[name]).all() for name in weights)


def test_every_weight_learns():
    shape = SHAPES["joint, 2 types, HOLD"]
    network = samples.net(shape)
    logits, values = network(*map(torch.from_numpy, samples.observations(shape, 8, 64)))
    (logits.square().mean() + values.square().mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_fresh_policy_is_undecided(name):
    torch.manual_seed(0)
    shape = SHAPES["joint"]
    logits, _ = samples.in_torch(make_net(name, shape, 32, 8), *samples.observations(shape, 8, 64))
    assert np.ptp(logits, axis=1).max() < 0.5


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sharper_policy_has_the_same_logits_times_a_factor(name):
    shape = SHAPES["joint, 2 types, HOLD"]
    network, observations = samples.net(shape, name), samples.observations(shape, 8, 16)
    logits, values = samples.in_torch(network, *observations)
    sharpen(network, 3.0)
    sharper, same = samples.in_torch(network, *observations)
    assert np.allclose(sharper, 3.0 * logits, rtol=1e-4, atol=1e-4) and np.allclose(same, values)


def test_wrong_weights_are_refused():
    network = EquivariantNet(SHAPES["placement"])
    weights = weights_of(network)
    with pytest.raises(InputError, match="no array 'context\\.bias'"):
        load_weights(network, {name: array for name, array in weights.items() if name != "context.bias"})
    with pytest.raises(InputError, match="context\\.bias"):
        load_weights(network, {**weights, "context.bias": np.zeros(3, dtype=np.float32)})
    with pytest.raises(InputError, match="no such array"):
        load_weights(network, {**weights, "more": np.zeros(3, dtype=np.float32)})


def test_impossible_shapes_and_networks_are_refused():
    with pytest.raises(InputError, match="decide something"):
        Shape(1, False, False)
    with pytest.raises(InputError, match="HOLD or REJECT"):
        Shape(1, False, True, holds=True)
    with pytest.raises(InputError, match="types"):
        Shape(0, True, False)
    with pytest.raises(InputError, match="max_change"):
        Shape(1, False, True, max_change=0)
    with pytest.raises(InputError, match="equivariant or mlp"):
        make_net("transformer", SHAPES["joint"], 32)
    with pytest.raises(InputError, match="slots"):
        make_net("mlp", SHAPES["joint"], 32)
    assert Shape.of(Task(places=False, scales=True, holds=True), 1) == Shape(1, False, True)
