"""Rows made by hand, and the command line in this process."""

import pytest
from typer.testing import CliRunner

from aladdin_agents.benchmark.rows import Row
from aladdin_agents.benchmark.scenarios import case_of
from aladdin_env.cli import app


@pytest.fixture
def make_row():
    """A row of the present code with the given fields; measures that are not given are unknown, but the attainment."""

    def make(policy, seed=20_000, *, task="joint", scenario="steady", split="validate", **fields):
        row = Row.of(case_of(split, task, scenario), None, seed, {"slo_attainment": 1.0})
        return Row(**{**row.__dict__, "policy": policy, **fields})

    return make


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run ``aladdin ...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="aladdin")

    return run


@pytest.fixture
def same():
    """Whether two rows are equal, unknown measures too."""

    def is_same(one, other):
        def known(row):
            return {name: None if value != value else value for name, value in row.__dict__.items()}

        return known(one) == known(other)

    return is_same
