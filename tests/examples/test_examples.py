"""The examples run as their README says, with small numbers; ``custom_policy.py`` is tested beside the agents."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import minari
import numpy as np
import platformdirs
import pytest

import aladdin_env  # noqa: F401  registers the environments
from aladdin_env.presets import load_scenario
from aladdin_env.simulator.run import simulate

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of this Python, to its end."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def output(*command: str | Path, **environment: str) -> str:
    done = run(*command, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_lists_what_is_there() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    there = {path.name for path in EXAMPLES.iterdir() if path.name not in ("README.md", "__pycache__")}
    assert {link.rstrip("/") for link in re.findall(r"\]\(([^)]+)\)", text)} == there
    assert {name for name in there if f"examples/{name}" in text} == there


@pytest.mark.slow
def test_ppo_learns() -> None:
    told = output(EXAMPLES / "cleanrl_ppo.py", "32000")
    before, after = (float(number) for number in re.findall(r"return \w+: +(-[\d.]+)", told))
    assert after > 0.8 * before  # about half of the misses are gone; both are below 0


@pytest.mark.slow
def test_rllib_learns() -> None:
    told = output(EXAMPLES / "rllib_ppo.py", "3")
    returns = [float(number) for number in re.findall(r"iteration \d: mean return +(-[\d.]+)", told)]
    assert len(returns) == 3 and returns[2] > 0.8 * returns[0]  # all are below 0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a data set of three episodes, and what was printed; the home directory is another one."""
    folder, home = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("home")
    cache = str(platformdirs.user_cache_path())  # so that nothing is compiled again
    told = output(EXAMPLES / "minari_dataset.py", folder, "--episodes", "3", HOME=str(home), XDG_CACHE_HOME=cache)
    assert not (home / ".minari").exists()
    return folder, told


@pytest.fixture
def data(written: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> minari.MinariDataset:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(written[0]))
    return minari.load_dataset("aladdin/two-types-v0")


@pytest.mark.slow
def test_data_set_is_imitated(written: tuple[Path, str]) -> None:
    right, common = (float(share) for share in re.findall(r"([\d.]+)%", written[1]))
    assert right > common + 10


@pytest.mark.slow
def test_data_set_holds_the_episodes_of_the_policy(data: minari.MinariDataset, written: tuple[Path, str]) -> None:
    scenario = load_scenario(str(written[0] / "two-types.toml"))
    weights = scenario.reward
    assert data.total_episodes == 3
    for seed, episode in enumerate(data.iterate_episodes()):
        told = simulate(scenario, "aladdin", seed=seed).summary
        unserved = told["rejected"] + told["failed"] + told["truncated"]
        loss = told["cost"] * weights.cost + told["ttft_missed"] * weights.ttft_miss
        loss += told["atgt_missed"] * weights.atgt_miss + unserved * weights.unserved
        assert episode.rewards.sum() == pytest.approx(-loss)


@pytest.mark.slow
def test_data_set_plays_again_in_the_environment_it_recovers(data: minari.MinariDataset) -> None:
    env = data.recover_environment()
    episode = data[1]
    (about,) = data.storage.get_episode_metadata([1])
    observation, _ = env.reset(seed=about["seed"])
    for t, action in enumerate(episode.actions):
        assert all(np.array_equal(observation[key], rows[t]) for key, rows in episode.observations.items())
        assert observation["mask"][action]
        observation, reward, terminated, _, _ = env.step(action)
        assert (reward, terminated) == (episode.rewards[t], episode.terminations[t])
    assert terminated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "says"), [((), "give another folder"), (("--episodes", "1"), "--episodes: give 2 or more")]
)
def test_data_set_refuses(written: tuple[Path, str], more: tuple[str, ...], says: str) -> None:
    done = run(EXAMPLES / "minari_dataset.py", written[0], *more)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_package_gives_its_policies_names(tmp_path: Path) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation")
    output("-m", "pip", "install", *quiet, "--target", tmp_path, EXAMPLES / "policy_package")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    aladdin = ("-c", "from aladdin_env.cli import main; main()")
    listed = json.loads(output(*aladdin, "policies", "--json", PYTHONPATH=path))
    mine = {row["name"]: row for row in listed if row["name"] in ("cheapest_first", "nights_off")}
    assert mine["cheapest_first"]["settings"] == {"full": 24.0}
    assert mine["nights_off"]["description"] == "All workers by day, half of them by night."
    asked = ["cheapest_first+nights_off", "cheapest_first+static", "aladdin"]
    told = output(
        *aladdin, "compare", "--scenario", "mixed-fleet", "--horizon", "30", "--policies", ",".join(asked),
        "--jobs", "1", "--json", PYTHONPATH=path,
    )  # fmt: skip
    rows = {row["policy"]: row for row in json.loads(told)}
    assert set(rows) >= set(asked[:2])
    assert rows["cheapest_first+nights_off"]["cost"] < rows["cheapest_first+static"]["cost"]
