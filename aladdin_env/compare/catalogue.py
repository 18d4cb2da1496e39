"""What policies are installed, with a line about each."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from aladdin_env.compare.contenders import settings_of_part
from aladdin_env.errors import InputError
from aladdin_env.scenario import Scenario

_GROUPS = {"placement": "aladdin.policies", "scaler": "aladdin.scalers"}


def describe_policies(scenario: Scenario) -> list[dict[str, Any]]:
    """``kind, name, description, settings`` of every placement and scaler, as made for ``scenario``."""
    return [
        {"kind": kind, "name": point.name, **_describe(point, scenario)}
        for kind, group in _GROUPS.items()
        for point in sorted(entry_points(group=group), key=lambda point: point.name)
    ]


def _describe(point: EntryPoint, scenario: Scenario) -> dict[str, Any]:
    try:
        factory = point.load()
        made = factory(scenario)
    except (InputError, ImportError) as error:
        return {"description": f"not usable here: {error}", "settings": {}}
    text = getattr(made, "description", None) or inspect.getdoc(factory) or inspect.getdoc(type(made)) or ""
    return {"description": text.strip().split("\n")[0], "settings": settings_of_part(made)}
