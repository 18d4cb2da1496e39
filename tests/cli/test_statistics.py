"""Intervals worked out by hand."""

import math

import pytest

from aladdin_env.compare import Estimate, estimate
from aladdin_env.compare.statistics import student_t


def test_three_values_by_hand():
    # mean 2, standard deviation 1, t(2) = 4.3027: half the interval is 4.3027 / sqrt(3)
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.low == pytest.approx(2 - 4.30265 / math.sqrt(3), rel=1e-5)
    assert found.half_width == pytest.approx(2.48413, rel=1e-5)


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.7062), (4, 2.77645), (9, 2.26216), (1000, 1.96234)])
def test_quantiles_are_those_of_the_printed_tables(degrees, quantile):
    assert student_t(degrees) == pytest.approx(quantile, rel=1e-5)


def test_one_value_has_no_width():
    assert estimate([0.7]) == Estimate(0.7, 0.7, 0.7)


def test_equal_values_have_no_width():
    assert estimate([0.5, 0.5, 0.5]) == Estimate(0.5, 0.5, 0.5)


def test_what_cannot_be_is_cut_off():
    found = estimate([0.99, 1.0], least=0.0, most=1.0)
    assert found.high == 1.0
    assert found.low < 0.99


def test_missing_values_are_left_out():
    assert estimate([math.nan, 2.0]).mean == 2.0
    assert math.isnan(estimate([math.nan]).mean)
    assert math.isnan(estimate([]).low)
