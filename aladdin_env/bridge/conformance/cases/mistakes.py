"""What clients send by mistake, or to do harm."""

from __future__ import annotations

from aladdin_env.bridge.conformance.case import NoAnswer, case, check
from aladdin_env.bridge.conformance.trial import Trial

_HUGE_HEADER_BYTES = 1 << 20


async def _still_serves(trial: Trial) -> None:
    answer = await trial.ask(trial.chat())
    check(answer.status == 200, f"afterwards a client gets {answer.status}")


@case("a client's mistake is no fault of the server's")
async def malformed_json_refused(trial: Trial) -> None:
    """A body that is no JSON, no object or not UTF-8 gets 4xx, and the next request is served."""
    whole = trial.chat()
    for body in (whole[:-1], b"[]", b'"text"', b"\xff\xfe{}", b"", whole.replace(b"what", b"\xff\xfe")):
        answer = await trial.ask(body)
        check(400 <= answer.status < 500, f"{body[:20]!r} gets {answer.status}")
    await _still_serves(trial)


@case("a client's mistake is no fault of the server's")
async def wrong_content_type_survived(trial: Trial) -> None:
    """JSON that is sent as text is served or gets 4xx, and the next request is served."""
    answer = await trial.ask(trial.chat(), headers={"Content-Type": "text/plain"})
    check(200 <= answer.status < 500, f"it answers {answer.status}")
    await _still_serves(trial)


@case("memory that strangers can fill")
async def huge_header_refused(trial: Trial) -> None:
    """A header of 1 MB is refused with 431 or 400, or by closing the connection; the next request is served."""
    try:
        answer = await trial.ask(trial.chat(), headers={"X-Huge": "x" * _HUGE_HEADER_BYTES})
        check(answer.status in (400, 413, 431), f"it answers {answer.status}")
    except NoAnswer:
        pass
    check(not trial.exchanges, "it reaches a backend")
    await _still_serves(trial)
