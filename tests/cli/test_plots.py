"""Pictures: what is drawn, and labels that do not overlap."""

import itertools
from dataclasses import replace

import pytest

from aladdin_env.compare import Contender, compare, compare_fewest, contenders
from aladdin_env.compare.rows import MEASURES, in_order, make_row
from aladdin_env.compare.work import Run
from aladdin_env.plots import comparison_figure, draw_comparison

BOUND = "no policy holds 99 % for less "
POLICIES = ["aladdin", "toy_first", "toy_coin", "toy_spread+toy_rate"]


@pytest.fixture
def scaling(scenario):
    return compare(scenario, contenders(scenario, POLICIES), [0, 1], jobs=1)


def overlaps(axes):
    figure = axes.figure
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    return [(a, b) for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


def test_a_point_per_policy_and_lines_of_different_fleets(scaling):
    left, right, *_ = draw_comparison(scaling).axes
    assert {text.get_text() for text in left.texts} == {BOUND, *(row.policy for row in scaling.rows)}
    labels = [line.get_label() for line in right.get_lines()]
    assert labels == ["aladdin+aladdin", "toy_spread+toy_rate"]
    assert not overlaps(left)


def test_a_line_at_the_bound_where_it_is_near(scaling):
    cheapest = min(row["cost"].mean for row in scaling.rows)
    for share, is_drawn in ((0.9, True), (0.5, True), (0.1, False)):
        left, *_ = draw_comparison(replace(scaling, bounds=(share * cheapest,) * 2)).axes
        assert (BOUND in {text.get_text() for text in left.texts}) == is_drawn
        lines = [line for line in left.get_lines() if list(line.get_xdata()) == [share * cheapest] * 2]
        assert len(lines) == is_drawn
        assert not is_drawn or left.get_xlim()[0] < share * cheapest
        assert not overlaps(left)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_formats(scaling, tmp_path, suffix):
    path = tmp_path / f"picture.{suffix}"
    comparison_figure(scaling, path)
    assert path.stat().st_size > 5000


def crowded(scaling, count):
    """Many policies at nearly the same place."""
    rows = []
    for i in range(count):
        runs = [
            Run(dict.fromkeys(MEASURES, 0.0) | {"cost": 10 + 0.01 * (i % 3), "slo_attainment": 0.99 + 0.0001 * i})
            for _ in range(2)
        ]
        rows.append(make_row(Contender(f"some_placement_{i}+some_scaler", "x"), runs, None))
    return replace(scaling, rows=in_order(rows, 0.99))


def test_labels_do_not_overlap_in_a_crowd(scaling):
    left, *_ = draw_comparison(crowded(scaling, 24)).axes
    assert len(left.texts) == 24
    assert not overlaps(left)


@pytest.mark.parametrize("shares", [(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.5, 0.999999)])
def test_extreme_attainments(scaling, tmp_path, shares):
    rows = [
        make_row(Contender(f"p{i}", "x"), [Run(dict.fromkeys(MEASURES, 1.0) | {"slo_attainment": share})], None)
        for i, share in enumerate(shares)
    ]
    comparison_figure(replace(scaling, rows=in_order(rows, 0.99)), tmp_path / "p.png")


def test_a_search_without_an_answer(burst, tmp_path):
    entered = contenders(burst.with_workers((1,)), ["toy_first"])
    comparison_figure(compare_fewest(burst, entered, [0], jobs=1), tmp_path / "p.png")


def test_a_search(burst, tmp_path):
    entered = contenders(burst.with_workers((1,)), ["toy_spread", "toy_first"])
    found = compare_fewest(burst, entered, [0], target=0.9, jobs=1)
    figure = draw_comparison(found)
    assert {text.get_text() for text in figure.axes[0].texts} == {
        "toy_spread (6 GPUs)", "no fleet holds the target with toy_first", BOUND.replace("99", "90"),
    }  # fmt: skip
    comparison_figure(found, tmp_path / "p.png")
