"""Who imports whom, and what an import costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "stable_baselines3", "sb3_contrib", "tensorboard", "matplotlib", "ray", "vllm", "aiohttp"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after ``statement``."""
    code = f"{statement}; import json, sys; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "package", ["aladdin_traces", "aladdin_env", "aladdin_env.presets", "aladdin_env.simulator.run"]
)
def test_import_stays_light(package: str) -> None:
    assert modules_after(f"import {package}") & HEAVY == set()


def test_traces_import_nothing_of_ours() -> None:
    assert {m for m in modules_after("import aladdin_traces") if m.startswith("aladdin")} == {"aladdin_traces"}


def test_environment_does_not_import_the_agents() -> None:
    found = modules_after("import aladdin_env, aladdin_env.presets")
    assert found & {"aladdin_agents", "aladdin_calibration", "experiments"} == set()


def test_import_linter_contracts_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
