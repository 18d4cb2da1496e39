"""The checkpoints in the package: small, with a card, a curve and a configuration, and policies by name."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from aladdin_agents.benchmark.results import read_files
from aladdin_agents.benchmark.verify import verify
from aladdin_agents.learned.checkpoint import load
from aladdin_agents.learned.shipped import FOLDER
from aladdin_agents.scale_out.engine import LocalProcesses
from aladdin_env.features import OBSERVATION_VERSION
from aladdin_env.policy import make_policy, make_scaler
from aladdin_env.presets import load_scenario
from aladdin_env.simulator.run import simulate

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "experiments" / "benchmark" / "results"
KINDS = ("placement", "scaling", "joint")


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_small_and_says_where_it_comes_from(kind):
    path = FOLDER / f"{kind}.npz"
    assert path.stat().st_size < 2 * 2**20
    card = load(path)[1]
    assert card.kind == kind and card.observation_version == OBSERVATION_VERSION
    aladdin, train, config, *_ = shlex.split(card.command)
    assert (aladdin, train) == ("aladdin", "train")
    assert (ROOT / config).is_file()
    assert len(card.commit) >= 40 and card.scenarios and card.seeds and card.steps > 0


@pytest.mark.parametrize("kind", KINDS)
def test_its_curve_has_the_validation_that_was_kept(kind):
    card = load(FOLDER / f"{kind}.npz")[1]
    curve = pd.read_csv(ROOT / "experiments" / "training" / "results" / f"{kind}.csv")
    kept = curve.loc[curve["score"].idxmax()]
    assert kept["score"] == pytest.approx(card.results["validation_score"])
    assert (ROOT / "experiments" / "training" / "results" / f"{kind}.png").stat().st_size > 1000


def _committed(policy, scenario):
    """The first row of an agent in a scenario of the test split."""
    rows = read_files([RESULTS / "learned" / "test.csv"])
    return next(row for row in rows if (row.policy, row.scenario) == (policy, scenario))


@pytest.mark.parametrize("scenario", ["flood", "types"])
def test_the_joint_agent_decides_as_when_its_rows_were_made(scenario):
    (verdict,) = verify([_committed("learned_joint", scenario)], engine=LocalProcesses(1))
    assert verdict.measures == ()


def test_they_are_policies_by_name_on_any_fleet():
    scenario = replace(load_scenario("sharegpt-poisson"), horizon_s=20.0)
    for spec in ("learned_joint", "learned_placement+learned_scaling"):
        assert make_policy(spec, scenario).name == spec
        assert simulate(scenario, spec, seed=0).summary["slo_attainment"] > 0.9
    assert make_scaler("learned_scaling", scenario).name == "learned_scaling"
    large = scenario.with_workers((40,))
    assert simulate(large, "learned_placement", seed=0).summary["slo_attainment"] > 0.9
