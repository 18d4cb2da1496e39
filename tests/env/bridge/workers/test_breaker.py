"""The breaker: when it opens, how long it stays open, and what closes it."""

from __future__ import annotations

import asyncio

from aladdin_env.bridge.workers.breaker import CLOSED, HALF_OPEN, OPEN, Breaker
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.timing import Timing

from .pretend import PretendTime

SETTINGS = WatchSettings(failures=3, first_backoff_s=1.0, max_backoff_s=4.0)


def breaker(time: PretendTime) -> Breaker:
    return Breaker(SETTINGS, time.timing)


def test_it_opens_after_failures_in_a_row_and_only_then() -> None:
    one = breaker(PretendTime())
    assert not one.failure("request") and not one.failure("request")
    one.success("request")
    assert not one.failure("request") and not one.failure("request")
    assert one.state == CLOSED
    assert one.failure("request") and one.state == OPEN
    assert not one.failure("request")  # it is open already


def test_checks_that_succeed_do_not_hide_requests_that_fail() -> None:
    one = breaker(PretendTime())
    for _ in range(2):
        one.failure("request")
        one.success("check")
    assert one.failure("request")


def test_the_backoff_doubles_up_to_its_bound_and_has_jitter() -> None:
    time = PretendTime()
    one = breaker(time)
    seen = []
    for _ in range(4):
        one.open()
        seen.append(one.retry_s - time.now_s)
        one.half_open()
        assert one.state == HALF_OPEN
    assert seen == [1.0, 2.0, 4.0, 4.0]
    late = Breaker(SETTINGS, Timing(lambda: 0.0, asyncio.sleep, lambda low, high: high))
    late.open()
    assert 1.0 < late.retry_s <= 1.5


def test_after_an_admission_the_first_failed_request_opens_it_again_for_longer() -> None:
    time = PretendTime()
    one = breaker(time)
    one.open()
    one.close()
    assert one.failure("request")
    assert one.retry_s - time.now_s == 2.0


def test_a_request_that_succeeds_ends_the_trial() -> None:
    one = breaker(PretendTime())
    one.open()
    one.close()
    one.success("request")
    assert not one.failure("request")
    one.open()
    assert one.retry_s == 1.0  # as the first time


def test_staying_well_ends_the_trial_too() -> None:
    time = PretendTime()
    one = breaker(time)
    one.open()
    one.close()
    time.now_s = 3.0
    one.success("check")
    time.now_s = 5.0
    one.success("check")
    assert not one.failure("request")


def test_another_server_begins_with_a_clean_sheet() -> None:
    one = breaker(PretendTime())
    one.failure("request")
    one.open()
    one.reset()
    assert one.state == CLOSED
    assert not one.failure("request") and not one.failure("request")
