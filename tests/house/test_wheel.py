"""The wheel: built, installed into a fresh environment outside the checkout, used there."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "aladdin_env": ROOT / "aladdin_env",
    "aladdin_agents": ROOT / "agents/aladdin_agents",
    "aladdin_calibration": ROOT / "calibration/aladdin_calibration",
    "aladdin_traces": ROOT / "traces/aladdin_traces",
}

pytestmark = pytest.mark.slow


def output(command: Sequence[str | Path], folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    output([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a fresh environment that has the wheel, and borrows the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, symlinks=os.name != "nt")
    binaries = Path(sysconfig.get_path("scripts", "venv", vars={"base": str(folder)}))
    interpreter = binaries / ("python.exe" if os.name == "nt" else "python")
    output([sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-deps", wheel], folder)
    own = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    # A plain path: the borrowed folder's own .pth files, which lead to this checkout, are not followed.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return interpreter


def answer(python: Path, code: str) -> object:
    return json.loads(output([python, "-c", f"import json\n{code}"], python.parent))


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.suffix in (".py", ".json") or path.name == "py.typed"
    }
    assert expected <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_from_the_wheel(python: Path, package: str) -> None:
    file = answer(python, f"import {package}\nprint(json.dumps({package}.__file__))")
    assert isinstance(file, str)
    assert Path(file).is_relative_to(python.parents[1])


def test_shipped_profiles_and_scenarios_load(python: Path) -> None:
    code = (
        "from aladdin_env import load_profile, profile_names\n"
        "from aladdin_env.presets import load_scenario, scenario_names\n"
        "profiles = [load_profile(name).name for name in profile_names()]\n"
        "print(json.dumps([profiles, [load_scenario(name).name for name in scenario_names()]]))"
    )
    from aladdin_env import profile_names
    from aladdin_env.presets import scenario_names

    assert answer(python, code) == [profile_names(), scenario_names()]


@pytest.mark.parametrize("group", ["aladdin.policies", "aladdin.scalers", "aladdin.planners"])
def test_entry_points_load(python: Path, group: str) -> None:
    code = (
        "from importlib.metadata import entry_points\n"
        f"points = entry_points(group={group!r})\n"
        "print(json.dumps({point.name: callable(point.load()) for point in points}))"
    )
    found = answer(python, code)
    assert isinstance(found, dict)
    assert "aladdin" in found
    assert all(found.values())


def test_command_line_starts(python: Path) -> None:
    assert "compare" in output([python.with_name("aladdin"), "--help"], python.parent)
