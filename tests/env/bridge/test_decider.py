"""Who decides, who steps in, and what is counted."""

from __future__ import annotations

import pytest

from aladdin_env.bridge.decider import ACTIVE, CANARY, SHADOW
from aladdin_env.errors import InputError
from aladdin_env.policy import HOLD, make_policy

from .live import Answers, Scene


def test_active_the_policy_decides() -> None:
    scene = Scene(Answers(1))
    ticket = scene.sent()
    assert (ticket.slot, ticket.by, ticket.shadow) == (1, "answers", None)


def test_shadow_the_baseline_decides_and_the_policy_is_asked() -> None:
    scene = Scene(Answers(1), mode=SHADOW)
    tickets = [scene.sent(str(k)) for k in range(4)]
    assert [ticket.slot for ticket in tickets] == [0, 1, 0, 1]
    assert all(ticket.by == "round_robin" and ticket.shadow == 1 for ticket in tickets)
    scene.decider.policy.placement.answer = RuntimeError("no idea")  # type: ignore[attr-defined]
    assert scene.sent("e").shadow is None and scene.heard.of("fell back") == ["exception"]


def test_canary_a_share_of_the_requests_is_the_policys() -> None:
    scene = Scene(Answers(1), mode=CANARY, rows=600)
    by = [scene.sent(str(k)).by for k in range(400)]
    assert 0.15 < by.count("answers") / len(by) < 0.35
    scene.decider.set_mode(ACTIVE)
    assert scene.sent("x").by == "answers"
    with pytest.raises(InputError, match="mode: 'bold' is not valid; choose one of shadow, canary, active"):
        scene.decider.set_mode("bold")
    with pytest.raises(InputError, match="canary: 2 is not valid"):
        scene.decider.set_mode(CANARY, 2)


@pytest.mark.parametrize(
    ("answer", "reason"), [(ValueError("broken"), "exception"), (7, "bad answer"), ("x", "bad answer")]
)
def test_a_policy_that_fails_is_replaced_by_aladdin(answer: object, reason: str) -> None:
    scene = Scene(Answers(answer))
    ticket = scene.sent()
    assert ticket.by == "aladdin" and ticket.slot in (0, 1)
    assert scene.heard.of("fell back") == [reason]


def test_a_policy_that_is_too_slow_is_left_out_for_a_while() -> None:
    def slow(view: object) -> int:
        scene.clock.now_s += 0.003
        return 1

    scene = Scene(Answers(slow))
    assert {scene.sent(str(k)).by for k in range(5)} == {"aladdin"}
    assert scene.heard.of("fell back") == ["deadline"] * 3 + ["slow"] * 2
    scene.clock.now_s += 11.0
    scene.decider.policy.placement.answer = 1  # type: ignore[attr-defined]
    assert scene.sent("again").by == "answers"


def test_a_policy_in_shadow_that_is_too_slow_is_not_asked_for_a_while() -> None:
    asked = 0

    def slow(view: object) -> int:
        nonlocal asked
        asked += 1
        scene.clock.now_s += 0.003
        return 1

    scene = Scene(Answers(slow), mode=SHADOW)
    assert [scene.sent(str(k)).shadow for k in range(5)] == [1, 1, 1, None, None]
    assert asked == 3 and scene.heard.of("fell back") == []


def test_policies_are_exchanged_while_requests_run() -> None:
    scene = Scene("round_robin")
    assert [scene.sent(str(k)).slot for k in range(3)] == [0, 1, 0]
    scene.decider.exchange(make_policy("least_request", scene.scenario))
    assert scene.sent("x").slot == 1
    scene.decider.exchange(make_policy("round_robin", scene.scenario))
    assert [scene.sent(f"y{k}").slot for k in range(2)] == [0, 1]


def test_answers_of_nobody_are_held() -> None:
    scene = Scene(Answers(RuntimeError()))
    scene.decider.fallbacks = ()
    ticket = scene.enter()
    assert not scene.dispatcher.place(ticket) and ticket.by == "nobody"
    assert scene.heard.of("decided") == [HOLD]
