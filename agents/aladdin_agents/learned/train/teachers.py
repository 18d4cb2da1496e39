"""Who is imitated: the expert of the configuration, in some scenarios with settings of its own.

With hindsight better settings can be found for each training scenario than for all of them at once. The network, which
is not told which scenario it is in, learns to tell from what it sees.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aladdin_agents.learned.train.config import Imitation
from aladdin_agents.scale_aladdin import AladdinScaler, ScalerSettings
from aladdin_env.errors import InputError, suggest
from aladdin_env.policy import Combined, make_policy
from aladdin_env.scenario import Scenario

Teacher = Callable[[Scenario], Combined]
_FIELD = "imitation.settings"


@dataclass(frozen=True)
class SettledTeacher:
    """An expert whose Aladdin scaler has other settings in some scenarios.

    Attributes:
        expert: ``placement+aladdin``.
        settings: By name of the scenario.
    """

    expert: str
    settings: Mapping[str, ScalerSettings]

    def __call__(self, scenario: Scenario) -> Combined:
        """The teacher for a scenario, or a variation of it with its name."""
        usual = make_policy(self.expert, scenario)
        own = self.settings.get(scenario.name)
        return usual if own is None else Combined(usual.placement, AladdinScaler(scenario, own))


def teacher(chosen: Imitation) -> Teacher:
    """Makes the teacher for a scenario.

    Raises:
        InputError: settings for an expert that does not scale by ``aladdin``, or that cannot be read or used.
    """
    if not chosen.settings:
        return partial(make_policy, chosen.expert)
    if chosen.expert.partition("+")[2].strip() != AladdinScaler.name:
        raise InputError(_FIELD, chosen.settings, f"only the scaler aladdin takes settings, not {chosen.expert!r}")
    return SettledTeacher(chosen.expert, _read(chosen.settings))


def _read(path: str) -> dict[str, ScalerSettings]:
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(_FIELD, path, f"give a readable TOML file with a table for each scenario ({error})") from None
    return {name: _settings(name, given) for name, given in tables.items()}


def _settings(name: str, given: Any) -> ScalerSettings:
    if not isinstance(given, dict):
        raise InputError(f"{_FIELD}: {name}", given, "give a table of settings")
    known = ScalerSettings.__dataclass_fields__
    for field in given:
        if field not in known:
            raise InputError(f"{_FIELD}: {name}.{field}", given[field], suggest(field, list(known)))
    return ScalerSettings(**given)
