"""The command line in this process, and rows of the benchmark compared."""

import pytest
from typer.testing import CliRunner

from aladdin_env.cli import app


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
