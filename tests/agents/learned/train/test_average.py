"""The average of the weights: of the last updates, with one decay; kept over a resumption."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from aladdin_agents.learned.networks import EquivariantNet
from aladdin_agents.learned.shape import Shape
from aladdin_agents.learned.train.average import Average


def filled(net, value):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(value)


@pytest.fixture
def net():
    made = EquivariantNet(Shape(types=1, places=False, scales=True), hidden=4)
    filled(made, 1.0)
    return made


def all_are(average, value):
    return all(np.allclose(array, value) for array in average.weights().values())


def test_an_update_leaves_a_share(net):
    average = Average(net, 0.9)
    assert all_are(average, 1.0)
    filled(net, 2.0)
    average.update()
    assert all_are(average, 0.9 * 1.0 + 0.1 * 2.0)
    average.begin()
    assert all_are(average, 2.0)


def test_without_a_share_it_is_the_weights(net):
    average = Average(net, 0.0)
    filled(net, 3.0)
    average.update()
    assert all_are(average, 3.0)


def test_it_goes_on_from_what_was_kept(net):
    average = Average(net, 0.5)
    filled(net, 2.0)
    average.update()
    state = json.loads(json.dumps(average.state()))
    other = Average(net, 0.5)
    other.restore(state)
    assert all_are(other, 1.5)
    other.update()
    assert all_are(other, 1.75)
