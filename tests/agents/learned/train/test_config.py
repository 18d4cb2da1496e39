"""Configurations: read, refused with the field's name, written and read again, documented."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from aladdin_agents.learned.train.config import (
    Config,
    Stages,
    config_from,
    difference,
    flat,
    read_config,
    write_config,
)
from aladdin_env.errors import InputError

ROOT = Path(__file__).parents[4]
SHIPPED = sorted((ROOT / "experiments" / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_can_be_read(path):
    config = read_config(path)
    assert config.task in path.stem
    assert config.network.kind in ("equivariant", "steered")


def test_tasks_have_defaults_of_their_own_which_a_file_may_change():
    assert config_from({"task": "scaling"}).learner.discount_s != config_from({"task": "placement"}).learner.discount_s
    found = config_from({"task": "scaling", "learner": {"discount_s": 0.5}}).learner
    assert found.discount_s == 0.5
    assert found.n_steps == config_from({"task": "scaling"}).learner.n_steps


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"step": 5}, "step: 5 is not valid; there is no such field here; did you mean 'steps'?"),
        ({"learner": {"clipp": 1}}, "learner.clipp: 1 is not valid; there is no such field here; did you mean 'clip'?"),
        ({"task": "placing"}, "task: 'placing' is not valid; did you mean 'placement'?"),
        ({"network": {"kind": "transformer"}}, "network.kind: 'transformer' is not valid; choose one of equivariant"),
        ({"learner": {"clip": 1.5}}, "learner.clip: 1.5 is not valid; give a finite number >= 1e-06 and <= 1"),
        ({"learner": {"clip": "high"}}, "learner.clip: 'high' is not valid; give a number"),
        ({"environment": {"envs": 0}}, "environment.envs: 0 is not valid; give a whole number from 1 to 4096"),
        ({"environment": {"envs": 2.5}}, "environment.envs: 2.5 is not valid; give a whole number"),
        ({"environment": {"allow_hold": 1}}, "environment.allow_hold: 1 is not valid; give true or false"),
        ({"network": 3}, "network: 3 is not valid; give a table"),
        ({"scenarios": []}, "scenarios: .* is not valid; give 'benchmark', or names"),
        ({"scenarios": ["benchmark", "flood"]}, "scenarios: .* give 'benchmark' alone"),
        ({"scenarios": [3]}, "scenarios.0.: 3 is not valid; give a text in quotes"),
        ({"learner": {"batch_size": 100_000}}, "learner.batch_size: 100000 .* at most environment.envs . learner.n_s"),
        ({"lagrangian": {"start": 0.5}}, "lagrangian.start: 0.5 is not valid; give a number from lagrangian.low"),
        ({"curriculum": {"start": 5.0}}, "curriculum.start: 5.0 is not valid"),
        ({"stages": {"placement": "a.npz"}}, "stages: .* give both, and only with task = .joint."),
        ({"seed": -1}, "seed: -1 is not valid; give a whole number from 0"),
        ({"validation": {"scenarios": 3}}, "validation.scenarios: 3 is not valid; give a name, or a list"),
    ],
)
def test_mistakes_are_refused_by_name(table, message):
    with pytest.raises(InputError, match=message):
        config_from(table)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="give a readable TOML file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("task = ")
    with pytest.raises(InputError, match="mend its TOML"):
        read_config(tmp_path / "bad.toml")


def test_written_and_read_again(tmp_path):
    config = config_from({"task": "joint", "scenarios": "flood", "stages": {"placement": "a.npz", "scaling": "b.npz"}})
    write_config(config, tmp_path / "config.toml")
    again = read_config(tmp_path / "config.toml")
    assert again.stages == Stages(str(tmp_path / "a.npz"), str(tmp_path / "b.npz"))  # from the file's own folder
    assert difference(again, config, ("stages.placement", "stages.scaling")) is None
    assert difference(again, config.with_seed(5), ("stages.placement", "stages.scaling")) == "seed"
    assert flat(config)["network.hidden"] == config.network.hidden


def test_policy_files_are_found_from_the_folder_of_the_configuration(tmp_path):
    (tmp_path / "config.toml").write_text(
        'environment.placement = "one.npz"\nimitation.expert = "aladdin_plus+two.npz"\nenvironment.scaler = "kpa"\n'
    )
    config = read_config(tmp_path / "config.toml")
    assert config.environment.placement == str(tmp_path / "one.npz") and config.environment.scaler == "kpa"
    assert config.imitation.expert == f"aladdin_plus+{tmp_path / 'two.npz'}"


def test_every_field_is_documented():
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for part in [Config, *(type(value) for value in vars(Config()).values() if is_dataclass(value))]:
        for each in fields(part):
            assert f"    {each.name}: " in (part.__doc__ or "") or is_dataclass(getattr(Config(), each.name, None))
            assert f"`{each.name}`" in text, each.name
