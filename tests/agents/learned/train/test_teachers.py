"""Teachers with settings of their own for some scenarios."""

from __future__ import annotations

import pytest

from aladdin_agents.learned.train.config import Imitation
from aladdin_agents.learned.train.teachers import teacher
from aladdin_agents.scale_aladdin import ScalerSettings
from aladdin_env.errors import InputError
from tests.agents.learned.train.toys import elastic, too_many


def file_with(tmp_path, text):
    path = tmp_path / "experts.toml"
    path.write_text(text)
    return str(path)


def test_a_scenario_with_settings_has_another_teacher_than_one_without(tmp_path):
    path = file_with(tmp_path, "[elastic]\nrho = 0.8\ndown_s = 20.0\n")
    make = teacher(Imitation(settings=path))
    assert make(elastic()).scaler.settings()["rho"] == 0.8
    assert make(too_many()).scaler.settings()["rho"] == ScalerSettings().rho
    assert make(elastic()).placement.name == make(too_many()).placement.name == "aladdin_plus"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[elastic]\nrho_hi = 1.0\n", "imitation.settings: elastic.rho_hi: 1.0 .* did you mean 'rho_high'"),
        ("[elastic]\nrho = 3.0\n", "scaler.rho: 3.0"),
        ("elastic = 3\n", "imitation.settings: elastic: 3 is not valid; give a table"),
        ("[elastic", "imitation.settings: .* give a readable TOML file"),
    ],
)
def test_settings_that_cannot_be_used_are_told(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        teacher(Imitation(settings=file_with(tmp_path, text)))


def test_only_the_scaler_aladdin_takes_settings(tmp_path):
    with pytest.raises(InputError, match=r"imitation.settings: .* only the scaler aladdin takes settings, not 'a"):
        teacher(Imitation(expert="aladdin+kpa", settings=file_with(tmp_path, "")))
