"""A folder has one run at a time."""

from __future__ import annotations

import pytest

from aladdin_agents.learned.train import lock
from aladdin_agents.learned.train.lock import locked
from aladdin_env.errors import InputError


def test_a_second_run_is_kept_out_until_the_first_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_WAIT_S", 0.0)
    with (
        locked(tmp_path / "run"),
        pytest.raises(InputError, match="another process trains in it"),
        locked(tmp_path / "run"),
    ):
        pass
    with locked(tmp_path / "run"):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/run"):
        with pytest.raises(InputError, match=r"--out: .* give a folder that can be made"), locked(tmp_path / name):
            pass
