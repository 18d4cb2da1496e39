"""Which trials end early."""

import pytest

from aladdin_agents.scale_out.halving import Stopping

RULE = Stopping(grace=100, reduction=3)


def rows(*scores, every=50):
    """Validations at 0, 50, 100, ... decisions."""
    return [{"steps": float(i * every), "score": score} for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("own", "others", "ends"),
    [
        ((), [], False),
        ((0.1, 0.1), [(0.9, 0.9, 0.9)], False),  # within the grace period
        ((0.1, 0.1, 0.1), [], False),  # the first one at a rung goes on
        ((0.1, 0.1, 0.1), [(0.9, 0.9)], False),  # the other one is not there yet
        ((0.1, 0.1, 0.1), [(0.9, 0.9, 0.9)], True),
        ((0.9, 0.1, 0.1), [(0.8, 0.8, 0.8)], False),  # the best until the rung counts
        ((0.5, 0.5, 0.5), [(0.9, 0.9, 0.9), (0.1, 0.1, 0.1), (0.1, 0.1, 0.1)], False),  # second of four: two go on
        ((0.5, 0.5, 0.5), [(0.9, 0.9, 0.9), (0.8, 0.1, 0.1), (0.1, 0.1, 0.1)], True),
        ((0.5, 0.5, 0.5), [(0.5, 0.5, 0.5)], False),  # as good
        ((0.1, 0.1, 0.1, 0.1), [(0.9, 0.9, 0.9)], False),  # between two rungs
        ((0.1,) * 7, [(0.1,) * 6 + (0.9,)], True),  # the rung at 300
        ((0.1,) * 7, [(0.1,) * 7 + (0.9,)], False),  # the other one was better only later
    ],
)
def test_who_ends(own, others, ends):
    assert RULE.ends(rows(*own), [rows(*scores) for scores in others]) is ends


def test_validations_need_not_fall_on_the_rungs():
    assert RULE.ends(rows(0.1, 0.1, every=140), [rows(0.9, 0.9, every=110)])
    assert not RULE.ends(rows(0.1, 0.1, 0.1, every=140), [rows(0.9, 0.9, 0.9, every=110)])  # 280: still the first one
    assert RULE.ends(rows(0.1, 0.1, every=400), [rows(0.9, 0.9, every=350)])  # both rungs at once: the last counts
