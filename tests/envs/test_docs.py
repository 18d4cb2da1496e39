"""The page about the environments: its tables are those of the code, its examples run."""

import re
from pathlib import Path

import pytest

from aladdin_env.envs.engine import HEADLINES, INFO
from aladdin_env.features import CLUSTER_TABLE, OBSERVATION_VERSION, REQUEST_TABLE, TYPE_TABLE, WORKER_TABLE

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_features_are_those_of_the_code():
    rows = [
        f"| `{f.name}` | {f.meaning} | {f.scale} |"
        for f in (*WORKER_TABLE, *REQUEST_TABLE, *CLUSTER_TABLE, *TYPE_TABLE)
    ]
    assert re.findall(r"^\| `[a-z_0-9]+` \|.*$", TEXT, flags=re.MULTILINE) == rows
    assert f"## Observation (version {OBSERVATION_VERSION})" in TEXT
    assert all(f"`{name}`" in TEXT for name in (*INFO, *HEADLINES))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run(number):
    exec(compile(EXAMPLES[number], f"{PAGE.name}, example {number + 1}", "exec"), {})
