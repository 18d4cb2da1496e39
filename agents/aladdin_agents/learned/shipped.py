"""The checkpoints that come with the package, as policies by name; docs/training.md says how each was made."""

from __future__ import annotations

from pathlib import Path

from aladdin_agents.learned.checkpoint import load
from aladdin_agents.learned.policy import LearnedPolicy, made
from aladdin_env.scenario import Scenario

#: Where they are: ``placement.npz``, ``scaling.npz``, ``joint.npz``.
FOLDER = Path(__file__).parent / "checkpoints"


def _shipped(kind: str, scenario: Scenario) -> LearnedPolicy:
    return made(*load(FOLDER / f"{kind}.npz"), scenario, f"learned_{kind}")


def make_placement(scenario: Scenario) -> LearnedPolicy:
    """Places, on a fleet that is fixed or that another scales."""
    return _shipped("placement", scenario)


def make_scaling(scenario: Scenario) -> LearnedPolicy:
    """Scales, whoever places."""
    return _shipped("scaling", scenario)


def make_joint(scenario: Scenario) -> LearnedPolicy:
    """Places and scales."""
    return _shipped("joint", scenario)
