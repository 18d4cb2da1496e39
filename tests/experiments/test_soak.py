"""The judges of the soak: what is not whole and not honestly told is lost, and what leaks is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.bridge.document import with_results
from experiments.bridge.soak import plan, verdicts
from experiments.bridge.soak.__main__ import RESULTS
from experiments.bridge.soak.client import Ended
from experiments.bridge.soak.eyes import Sample
from experiments.bridge.soak.faults import Fault, held_against
from experiments.bridge.soak.judge import (
    COMPLETE,
    LEFT,
    LOST,
    REBUKED,
    REFUSED,
    TOLD,
    Asked,
    Judged,
    Seen,
    judge,
    judge_mistake,
)
from experiments.bridge.soak.mistakes import parsed
from experiments.bridge.soak.plan import Draws
from experiments.bridge.soak.report import DOCUMENT, summary
from experiments.bridge.soak.verdicts import MIB, Rest

ASKED = Asked("r-1", True, 3, False)
SSE = {"content-type": "text/event-stream", "x-request-id": "r-1"}
JSON = {"content-type": "application/json", "x-request-id": "r-1"}
DONE = b"data: [DONE]\n\n"
ERROR = b'{"error": {"message": "it broke", "type": "server_error", "param": null, "code": "worker_failed"}}'


def event(token: int, reason: str | None = None, identity: str = "cmpl-r-1") -> bytes:
    choice = {"index": 0, "text": "abcd", "token_ids": [token], "finish_reason": reason}
    return b"data: " + json.dumps({"id": identity, "choices": [choice]}).encode() + b"\n\n"


def usage(tokens: int) -> bytes:
    said = {"id": "cmpl-r-1", "choices": [], "usage": {"completion_tokens": tokens}}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


BODY = event(1) + event(2) + event(3, "length")


def outcome(body: bytes, asked: Asked = ASKED, **more: object) -> str:
    return judge(asked, replace(Seen(200, SSE, body), **more)).outcome


def test_a_whole_stream_is_complete() -> None:
    assert judge(ASKED, Seen(200, SSE, BODY + DONE)) == Judged(COMPLETE, tokens=3)
    counted = replace(ASKED, wants_usage=True)
    assert outcome(BODY + usage(3) + DONE, counted) == COMPLETE


@pytest.mark.parametrize(
    "body",
    [
        b"", BODY, event(1) + event(2), BODY + DONE[:-1], event(1) + event(3, "length") + DONE,
        BODY.replace(b"[1]", b"[1, 9]") + DONE, BODY + usage(3) + DONE, BODY + DONE + DONE,
        event(1) + event(2) + event(3) + DONE, event(1) + event(2, identity="cmpl-r-2") + event(3, "length") + DONE,
        event(1) + b"data: {}\n\n" + event(2) + event(3, "length") + DONE, event(1) + b'data: {"error": "no"}\n\n',
        event(1) + b"data: " + ERROR, DONE,
    ],
    ids=[
        "nothing", "no [DONE]", "cut", "half an event", "a token missing", "a token doubled", "usage nobody wanted",
        "two ends", "no finish reason", "another's event", "an empty event", "a strange error", "half an error",
        "only an end",
    ],
)  # fmt: skip
def test_any_other_stream_is_lost(body: bytes) -> None:
    assert outcome(body) == LOST


def test_usage_that_is_wrong_or_missing_is_lost() -> None:
    counted = replace(ASKED, wants_usage=True)
    assert outcome(BODY + DONE, counted) == LOST
    assert outcome(BODY + usage(2) + DONE, counted) == LOST


def test_what_breaks_off_is_lost_even_with_everything_there() -> None:
    assert outcome(BODY + DONE, fault="ClientPayloadError") == LOST
    assert outcome(b"", status=0, fault="no end within 90 s") == LOST
    assert outcome(BODY + DONE, headers={**SSE, "x-request-id": "r-2"}) == LOST
    assert outcome(BODY + DONE, headers=JSON) == LOST


def test_an_error_event_is_told() -> None:
    assert outcome(event(1) + b"data: " + ERROR + b"\n\n") == TOLD
    assert judge(ASKED, Seen(502, JSON, ERROR)).outcome == TOLD


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_says_when_to_come_again_and_why(status: int) -> None:
    refused = Seen(status, JSON | {"retry-after": "2"}, ERROR)
    assert judge(ASKED, refused).outcome == REFUSED
    assert judge(ASKED, replace(refused, headers=JSON)).outcome == LOST
    assert judge(ASKED, replace(refused, body=b"busy")).outcome == LOST


@pytest.mark.parametrize("status", [400, 404, 500, 504])
def test_no_other_status_is_a_refusal(status: int) -> None:
    assert judge(ASKED, Seen(status, JSON | {"retry-after": "2"}, ERROR)).outcome == LOST


def test_an_answer_in_one_piece() -> None:
    asked = replace(ASKED, streams=False)
    whole = json.dumps({"id": "cmpl-r-1", "usage": {"completion_tokens": 3}}).encode()
    assert judge(asked, Seen(200, JSON, whole)).outcome == COMPLETE
    for body in (whole[:-1], whole.replace(b"3", b"2"), whole.replace(b"r-1", b"r-2"), b"[]", b""):
        assert judge(asked, Seen(200, JSON, body)).outcome == LOST


def test_mistakes_are_rebuked() -> None:
    answered = parsed(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    for mistake in plan.MISTAKES:
        assert judge_mistake(mistake, answered).outcome == REBUKED
        assert judge_mistake(mistake, parsed(b"HTTP/1.1 200 OK\r\n\r\n{}")).outcome == LOST
        assert judge_mistake(mistake, parsed(b"HTTP/1.1 500 Oops\r\n\r\n" + ERROR)).outcome == LOST
        assert judge_mistake(mistake, Seen(0, {}, b"", "no end")).outcome == LOST
    closed = {mistake for mistake in plan.MISTAKES if judge_mistake(mistake, parsed(b"")).outcome == REBUKED}
    assert closed == {"no HTTP", "body cut short", "long headers"}
    assert judge_mistake("no HTTP", parsed(b"garbage")).outcome == LOST
    chunked = b"HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(ERROR), ERROR)
    assert judge_mistake("unknown path", parsed(chunked)).outcome == REFUSED
    assert judge_mistake("broken JSON", parsed(chunked)).outcome == LOST


def ended(judged: Judged, slot: int | None = 1, kind: str = plan.STREAM) -> Ended:
    return Ended(Draws(0).request(kind=kind), "r-1", judged, 10.0, 20.0, slot)


@pytest.mark.parametrize(
    ("fault", "is_excused"),
    [
        (Fault(15.0, plan.KILL, 1), True), (Fault(15.0, plan.TERMINATE, 1), True), (Fault(15.0, plan.STOP, 1), False),
        (Fault(15.0, plan.KILL, 0), False), (Fault(9.0, plan.KILL, 1), False), (Fault(21.0, plan.KILL, 1), False),
    ],
)  # fmt: skip
def test_only_the_end_of_its_worker_excuses_a_failure(fault: Fault, is_excused: bool) -> None:
    judged = held_against(ended(Judged(TOLD, "error event")), [fault]).judged
    assert judged.outcome == (TOLD if is_excused else LOST)
    assert held_against(ended(Judged(LOST, "cut")), [fault]).judged.outcome == LOST


def holds(found: list[verdicts.Verdict]) -> dict[str, bool]:
    return {verdict.name: verdict.holds for verdict in found}


def test_one_lost_request_fails_the_run() -> None:
    whole, lost = ended(Judged(COMPLETE)), ended(Judged(LOST, "cut"))
    faults = [Fault(1.0, kind, 0) for kind in plan.FAULTS]
    assert all(holds(verdicts.of_requests([whole], 1, faults)).values())
    assert not holds(verdicts.of_requests([whole] * 99 + [lost], 100, faults))["nothing lost"]
    assert not holds(verdicts.of_requests([whole], 1, faults[:2]))["workers disturbed"]
    assert not holds(verdicts.of_requests([whole], 2, faults))["all ended"]
    refused = ended(Judged(REFUSED))
    assert not holds(verdicts.of_requests([whole] * 8 + [refused] * 2, 10, faults))["served"]
    assert holds(verdicts.of_requests([whole] * 8 + [ended(Judged(TOLD)), ended(Judged(LEFT))], 10, faults))["served"]


def sample(at_s: float = 0.0, rss_mib: float = 300.0, fds: float = 30.0, tasks: float = 40.0) -> Sample:
    return Sample(at_s, rss_mib * MIB, fds, tasks, 0.0, 0.0, 0.0)


def climb(mib_per_min: float, minutes: float = 10.0) -> list[Sample]:
    noise = np.random.default_rng(0).normal(0.0, 0.5, 121)
    times = np.linspace(0.0, 60.0 * minutes, 121)
    return [sample(t, 300.0 + mib_per_min * t / 60.0 + n) for t, n in zip(times, noise, strict=True)]


def test_memory_that_grows_is_seen() -> None:
    assert all(holds(verdicts.of_memory(sample(), climb(0.5))).values())
    assert not holds(verdicts.of_memory(sample(), climb(3.0)))["memory flat"]
    assert not holds(verdicts.of_memory(sample(rss_mib=200.0), climb(0.0)))["memory bounded"]
    jump = [replace(one, rss_bytes=one.rss_bytes + (20 * MIB if i > 115 else 0)) for i, one in enumerate(climb(0.0))]
    assert abs(verdicts.rss_slope(jump)) < 0.5


STATUS = {
    "requests": {"in_flight": 0}, "queue": {"held": 0},
    "workers": [{"in_flight": 0, "state": "ready"}, {"in_flight": 0, "state": "ready"}],
}  # fmt: skip


def test_whatever_is_left_is_seen() -> None:
    before = Rest(sample(), STATUS, 0.0)
    assert all(holds(verdicts.of_rest(before, before, 2)).values()) and verdicts.settled(before, before, 2)
    for name, after in {
        "counters zero": Rest(sample(), STATUS | {"requests": {"in_flight": 1}}, 0.0),
        "workers idle": Rest(sample(), STATUS, 1.0),
        "workers back": Rest(sample(), STATUS | {"workers": STATUS["workers"][:1]}, 0.0),
        "no task leaked": Rest(sample(tasks=43.0), STATUS, 0.0),
        "no file leaked": Rest(sample(fds=33.0), STATUS, 0.0),
    }.items():
        found = holds(verdicts.of_rest(before, after, 2))
        assert [key for key, is_so in found.items() if not is_so] == [name]
        assert not verdicts.settled(after, before, 2)
    assert not holds(verdicts.of_rest(before, Rest(sample(), STATUS, None), 2))["workers idle"]


def test_how_it_ends_is_seen() -> None:
    assert all(holds(verdicts.of_stop(0, 3.0, [])).values())
    for found in (verdicts.of_stop(1, 3.0, []), verdicts.of_stop(None, 60.0, []), verdicts.of_stop(0, 3.0, [7])):
        assert not all(holds(found).values())


def test_a_mistake_of_the_bridge_is_seen() -> None:
    assert verdicts.of_words("worker 1: it was ended by SIGKILL").holds
    assert not verdicts.of_words("request 7 failed\nTraceback (most recent call last):").holds


def test_the_log_must_know_each_request_once(tmp_path: Path) -> None:
    line = {"kind": "request", "id": "r-1", "outcome": "finished"}
    for name, one in (("log.000001.jsonl", {"aladdin_log": 1}), ("log.jsonl", line)):
        (tmp_path / name).write_text(json.dumps(one) + "\n")
    lines, whole = verdicts.logged(tmp_path / "log.jsonl"), [ended(Judged(COMPLETE))]
    assert lines == [line]
    assert verdicts.of_log(lines, whole).holds
    for wrong in ([], lines * 2, [line | {"outcome": "left"}]):
        assert not verdicts.of_log(wrong, whole).holds


def test_the_same_seed_gives_the_same_plan() -> None:
    one, two, other = Draws(1), Draws(1), Draws(2)
    planned = one.requests(20.0, 60.0)
    assert planned == two.requests(20.0, 60.0) != other.requests(20.0, 60.0)
    assert len(planned) == pytest.approx(1200, rel=0.15)
    assert {one.kind for one in planned} == set(plan.SHARES)
    assert {one.mistake for one in planned if one.kind == plan.MALFORMED} == set(plan.MISTAKES)
    assert all(1 <= one.leaves_after < one.tokens for one in planned)
    assert 0 < plan.mean_work(planned) < np.mean([one.tokens for one in planned])


@pytest.mark.parametrize(("seconds", "each"), [(20.0, 1), (600.0, 8)])
def test_each_fault_comes_equally_often(seconds: float, each: int) -> None:
    faults = Draws(0).faults(seconds)
    assert {kind: sum(fault.kind == kind for fault in faults) for kind in plan.FAULTS} == dict.fromkeys(
        plan.FAULTS, each
    )
    assert all(0.0 < fault.at_s < 0.85 * seconds and fault.pause_s <= 6.0 for fault in faults)


def test_the_document_shows_the_results_that_are_kept() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    told = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    assert summary(told) in text
    assert with_results(text, "experiments.bridge.soak", summary(told)) == text
