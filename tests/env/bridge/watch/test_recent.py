"""The last hour: windows, curves, and time in which nothing happens."""

from __future__ import annotations

import random

from aladdin_env.bridge.watch.recent import Judged, Recent


def test_windows_forget_and_say_nothing_of_nothing() -> None:
    recent = Recent()
    assert recent.within(60.0, 0.0).attainment is None
    recent.judged(0, True, 1.0)
    recent.judged(1, False, 2.0)
    assert recent.within(60.0, 3.0) == Judged(2, 1)
    assert recent.within(60.0, 3.0, klass=0).attainment == 1.0
    assert recent.within(60.0, 3.0, klass=1).attainment == 0.0
    assert recent.within(60.0, 64.0) == Judged(2, 1)  # the window, and the step that has begun
    assert recent.within(60.0, 66.0) == Judged(0, 0)
    assert recent.within(300.0, 66.0) == Judged(2, 1)
    assert recent.within(3600.0, 7300.0) == Judged(0, 0)
    assert recent.within(3600.0, 1e7) == Judged(0, 0)


def test_windows_agree_with_a_list_of_all_that_happened() -> None:
    rng, recent, happened, now_s = random.Random(4), Recent(), [], 0.0
    for _ in range(3000):
        now_s += rng.choice([0.01, 1.0, 7.0, 40.0])
        klass, met = rng.randrange(4), rng.random() < 0.8
        recent.judged(klass, met, now_s)
        happened.append((now_s, klass, met))
        for seconds in (60.0, 300.0, 3600.0):
            first = (now_s // 5 - seconds / 5) * 5
            inside = [met for at_s, k, met in happened[-2000:] if at_s >= first and k == klass]
            assert recent.within(seconds, now_s, klass) == Judged(len(inside), sum(inside))


def test_curves_end_with_the_last_span_that_is_over() -> None:
    recent = Recent()
    for second in range(25):
        recent.arrived(float(second))
    recent.judged(0, True, 12.0)  # the clock never goes back, and this is counted where it stands
    spans = recent.series(points=4, steps=2, now_s=29.0)
    assert [span and span[0] for span in spans] == [None, None, 10, 10]
    spans = recent.series(points=4, steps=2, now_s=30.0)
    assert [span and span[0] for span in spans] == [None, 10, 10, 5]
    assert spans[-1][1] == Judged(1, 1)
    assert [span[0] for span in recent.series(3, 2, now_s=5000.0)] == [0, 0, 0]
