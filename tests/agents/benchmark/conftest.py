"""Rows made by hand."""

import pytest

from aladdin_agents.benchmark.rows import Row
from aladdin_agents.benchmark.scenarios import case_of


@pytest.fixture
def make_row():
    """A row of the present code with the given fields; measures that are not given are unknown, but the attainment."""

    def make(policy, seed=20_000, *, task="joint", scenario="steady", split="validate", **fields):
        row = Row.of(case_of(split, task, scenario), None, seed, {"slo_attainment": 1.0})
        return Row(**{**row.__dict__, "policy": policy, **fields})

    return make
