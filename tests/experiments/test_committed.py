"""Committed tables are what the code gives: the cheap ones in whole, of others a part."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from io import StringIO

import pandas as pd
import pytest

from experiments.paper import attainment_vs_rate, split_phase
from experiments.paper.shared import RESULTS, Asked


def committed(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def now(name: str) -> pd.DataFrame:
    """The table as the script would write it."""
    table = import_module(f"experiments.paper.{name}").find(Asked(jobs=1)).table
    return pd.read_csv(StringIO(table.to_csv(index=False, float_format="%.6g")))


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_dtype=False, rtol=1e-4)


@pytest.mark.parametrize("name", ["jsq_counterexample", "length_cdf"])
def test_a_cheap_table_is_that_of_the_code(name: str) -> None:
    same(now(name), committed(name))


@pytest.mark.slow
def test_the_errors_of_the_laws_are_those_of_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.paper.model_validation.draw_report", lambda measurement, profile: None)
    found, expected = now("model_validation"), committed("model_validation")
    pd.testing.assert_frame_equal(found, expected, atol=2e-3, rtol=0.0)  # libraries round a fit differently


def test_aladdin_attains_what_the_table_says_at_its_highest_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attainment_vs_rate, "RATES_RPS", (32.5,))
    table = committed("attainment_vs_rate")
    same(now("attainment_vs_rate"), table[table["rate_rps"] == 32.5])


@pytest.mark.slow
def test_split_phase_saves_what_the_table_says_where_it_saves_most(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = replace(split_phase.loads()["mixed"], atgt_ms=(16.0,))
    monkeypatch.setattr(split_phase, "loads", lambda: {"mixed": mixed})
    table = committed("split_phase")
    same(now("split_phase"), table[(table["load"] == "mixed") & (table["atgt_ms"] == 16.0)])
