"""Who is compared in these experiments: every shipped policy but the learned ones, whose place is the benchmark."""

from __future__ import annotations

from aladdin_env.compare import Contender, contenders
from aladdin_env.compare.contenders import default_specs
from aladdin_env.policy import scaler_names
from aladdin_env.scenario import Scenario

_LEARNED = "learned_"


def heuristic_specs(scenario: Scenario) -> list[str]:
    """Their names, as a policy is written."""
    return [spec for spec in default_specs(scenario) if _LEARNED not in spec]


def heuristics(scenario: Scenario) -> list[Contender]:
    """The contenders."""
    return contenders(scenario, heuristic_specs(scenario))


def heuristic_scalers() -> list[str]:
    """Names of the scalers."""
    return [name for name in scaler_names() if not name.startswith(_LEARNED)]
