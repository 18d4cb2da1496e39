"""A router that does all that is asked passes every case; each fault fails those that are about it, and no other."""

import asyncio

import pytest

from aladdin_env.bridge.conformance import CASES, FAIL, SKIP, Bounds, Case, Outcome, Suite

from .routers import routing

BOUNDS = Bounds(answer_s=4.0, notice_s=2.0, slow_s=0.3, recovery_s=5.0, body_bytes=3_000_000)
AT_ONCE = 4

FAULTS = {
    "buffers": {
        "streams_unbuffered",
        "reads_no_faster_than_the_client",
        "hang_up_in_stream",
        "hang_up_in_silence",
        "death_is_told",
    },
    "leaks": {"hang_ups_leak_nothing"},
    "retries late": {"no_retry_after_the_first_byte"},
    "hides deaths": {"death_is_no_clean_end", "death_is_told", "death_in_a_whole_answer"},
    "drops headers": {
        "request_id_kept",
        "request_id_created",
        "trace_kept",
        "authorization_forwarded",
        "other_headers_pass",
    },
    "works on": {"hang_up_in_prefill", "hang_up_in_silence"},  # while tokens come, a failed write tells it
    "never retries": {"retry_after_503", "retry_after_death", "retry_when_refused"},
    "retries mistakes": {"client_errors_pass"},
    "labels all": {"metrics_stay_small"},
    "sticks to prefixes": {"hot_prompt_is_shared"},
    "tries the dead": {"dead_backend_avoided", "dead_backend_used_again"},
}
ONLY_STARTED = {"authorization_not_logged", "shutdown_drains"}


async def outcomes_of(fault: str) -> dict[str, Outcome]:
    """Every case on a router of its own, so that none suffers from what another has left."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def outcome(case: Case) -> Outcome:
        async with turns, Suite(bounds=BOUNDS) as suite, routing(suite.urls, fault) as url:
            await suite.use(url, 10.0)
            (found,) = await suite.run([case])
            return found

    found = await asyncio.gather(*map(outcome, CASES))
    return {outcome.case.name: outcome for outcome in found}


def test_the_good_router_passes() -> None:
    found = asyncio.run(outcomes_of(""))
    skipped = {name for name, outcome in found.items() if outcome.verdict == SKIP}
    assert skipped == ONLY_STARTED | {"hang_up_in_the_queue"}
    assert {name: outcome.reason for name, outcome in found.items() if outcome.verdict == FAIL} == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_cases(fault: str) -> None:
    found = asyncio.run(outcomes_of(fault))
    failed = {name: outcome.reason for name, outcome in found.items() if outcome.verdict == FAIL}
    assert set(failed) == FAULTS[fault], failed
    assert all(failed.values())


def test_names_are_unique_and_told() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.what.endswith(".") and case.why for case in CASES)
    assert CASES[-1].name == "shutdown_drains"  # it ends the router
