"""Compiled placements with named parameters."""

import copy
import pickle

import numpy as np

from aladdin_agents import placements
from tests.agents.worlds import kind, scenario_of


def test_a_pickled_kernel_keeps_its_parameters():
    first = placements.make_lmetric(scenario_of([(0.0, 8, 8)], kind()))
    again = pickle.loads(pickle.dumps(first))
    assert type(again) is type(first) and again.settings() == first.settings()
    assert np.array_equal(again.memory, first.memory) and again.function is first.function
    copied = copy.deepcopy(first)
    assert copied is not first and copied.settings() == first.settings()
