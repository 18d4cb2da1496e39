"""The cache of compiled code: never stale, never in the way."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aladdin_env import compiled


@pytest.fixture(autouse=True)
def forget_the_folder() -> Iterator[None]:
    compiled.cache_folder.cache_clear()
    yield
    compiled.cache_folder.cache_clear()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's sources that stands for the package."""
    package = tmp_path / "package"
    shutil.copytree(Path(compiled.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "profiles"))
    monkeypatch.setattr(compiled, "_PACKAGE", package)
    monkeypatch.setenv("ALADDIN_CACHE_DIR", str(tmp_path / "cache"))
    return package


def folder_now() -> Path:
    compiled.cache_folder.cache_clear()
    return compiled.cache_folder()


def test_folder_is_the_same_for_the_same_sources(sources: Path) -> None:
    before = folder_now()
    (sources / "simulator" / "laws.py").touch()
    assert folder_now() == before
    assert before.is_dir()


@pytest.mark.parametrize("file", ["simulator/laws.py", "simulator/core.py", "compiled.py"])
def test_folder_changes_with_any_source_of_compiled_code(sources: Path, file: str) -> None:
    before = folder_now()
    path = sources / file
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert folder_now() != before


def test_folder_changes_with_a_new_source(sources: Path) -> None:
    before = folder_now()
    (sources / "simulator" / "new.py").write_text("", encoding="utf-8")
    assert folder_now() != before


def test_core_stays_compiled_when_only_what_is_built_on_it_changes(sources: Path) -> None:
    before = folder_now(), compiled.cache_folder(sources / "envs")
    (sources / "observation.py").write_text("# changed", encoding="utf-8")
    assert folder_now() == before[0]
    assert compiled.cache_folder(sources / "envs") != before[1]


def test_kernels_elsewhere_follow_their_neighbours(sources: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "helpers.py").write_text("a = 1", encoding="utf-8")
    before = compiled.cache_folder(mine)
    (mine / "helpers.py").write_text("a = 2", encoding="utf-8")
    compiled.cache_folder.cache_clear()
    assert compiled.cache_folder(mine) != before


def test_folder_stays_for_what_is_never_compiled(sources: Path) -> None:
    before = folder_now()
    (sources / "scenario.py").write_text("", encoding="utf-8")
    assert folder_now() == before


def test_old_folders_are_removed(sources: Path) -> None:
    path = sources / "simulator" / "laws.py"
    for i in range(24):
        path.write_text(f"# {i}\n", encoding="utf-8")
        newest = folder_now()
    assert newest in (kept := list(newest.parent.iterdir()))
    assert len(kept) <= 17


def test_folder_that_cannot_be_written_gives_way_to_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("", encoding="utf-8")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("ALADDIN_CACHE_DIR", str(in_the_way))
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(temporary))
    folder = folder_now()
    assert folder.is_relative_to(temporary)
    assert folder.is_dir()


def test_cache_is_cold_until_something_was_compiled(sources: Path) -> None:
    assert compiled.is_cold()
    (compiled.cache_folder() / "core.advance-1.py311.nbi").write_text("", encoding="utf-8")
    assert not compiled.is_cold()


def test_other_users_of_numba_keep_their_cache(sources: Path) -> None:
    before = compiled.numba_config.CACHE_DIR
    with compiled.fingerprinted_cache(test_other_users_of_numba_keep_their_cache):
        assert str(compiled.cache_folder(Path(__file__).parent)) == compiled.numba_config.CACHE_DIR
    assert before == compiled.numba_config.CACHE_DIR
