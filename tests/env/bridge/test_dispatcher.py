"""Requests between front and workers: placed, held, lost, left; and nothing of them remains."""

from __future__ import annotations

import asyncio

import pytest

from aladdin_env.bridge.dispatcher import Queueing, Shed
from aladdin_env.policy import HOLD, REJECT
from aladdin_env.simulator.state import DRAINING, READY

from .live import Answers, Scene


def test_a_request_goes_through_and_is_judged() -> None:
    scene = Scene()
    ticket = scene.sent()
    scene.clock.now_s = 0.4
    scene.dispatcher.grew(ticket, 1)
    scene.clock.now_s = 0.6
    scene.dispatcher.grew(ticket, 9)
    scene.dispatcher.finish(ticket)
    assert (ticket.first_s, ticket.ended_s, ticket.tokens, ticket.outcome) == (0.4, 0.6, 10, "finished")
    cluster = scene.cluster.view.cluster
    assert (cluster["finished"], cluster["slo_met"], cluster["finished_output_tokens"]) == (1, 1, 10)
    late = scene.sent("b")
    scene.clock.now_s = 60.0
    scene.dispatcher.grew(late, 1)
    scene.dispatcher.finish(late)
    assert (cluster["finished"], cluster["slo_met"], cluster["ttft_missed"]) == (2, 1, 1)
    assert scene.is_empty()
    assert scene.heard.of("ended") == ["finished", "finished"]


def test_an_answer_that_is_no_stream_is_judged_by_when_a_stream_would_have_been_complete() -> None:
    scene = Scene()
    ttft_s, atgt_s = scene.cluster.view.slo[0].tolist()
    in_time, late = scene.sent(), scene.sent("b")
    scene.clock.now_s = ttft_s + 9 * atgt_s
    scene.dispatcher.came_whole(in_time, 10)
    scene.clock.now_s += 0.01
    scene.dispatcher.came_whole(late, 10)
    assert scene.cluster.view.cluster["slo_met"] == 1
    assert scene.is_empty()


def test_who_must_wait_is_placed_in_order_as_soon_as_something_is_free() -> None:
    async def course() -> None:
        answers = Answers(HOLD)
        scene = Scene(answers)
        first, second = scene.enter("a"), scene.enter("b")
        assert not scene.dispatcher.place(first) and not scene.dispatcher.place(second)
        waiting = [asyncio.create_task(scene.dispatcher.wait(one)) for one in (first, second)]
        await asyncio.sleep(0)
        assert scene.dispatcher.held == 2 and scene.cluster.view.cluster["held"] == 2
        third = scene.enter("c")
        assert not scene.dispatcher.place(third)
        with pytest.raises(Shed, match="queue_full"):
            await scene.dispatcher.wait(third)
        free = iter([1, HOLD])
        answers.answer = lambda view: next(free)
        scene.dispatcher.offer()
        await asyncio.wait_for(waiting[0], 1.0)
        assert first.slot == 1 and second.slot == -1 and not waiting[1].done()
        answers.answer = 0
        scene.dispatcher.finish(first)  # whose end is an offer
        await asyncio.wait_for(waiting[1], 1.0)
        assert second.slot == 0
        scene.dispatcher.finish(second)
        assert scene.is_empty()

    asyncio.run(course())


def test_who_waits_too_long_or_is_refused_or_hangs_up_is_gone() -> None:
    async def course() -> None:
        answers = Answers(HOLD)
        scene = Scene(answers, queueing=Queueing(max_hold_s=0.01, max_held=9))
        slow = scene.enter()
        assert not scene.dispatcher.place(slow)
        with pytest.raises(Shed, match="queue_timeout"):
            await scene.dispatcher.wait(slow)
        left = scene.enter("b")
        assert not scene.dispatcher.place(left)
        task = asyncio.create_task(scene.dispatcher.wait(left))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        scene.dispatcher.leave(left)
        scene.dispatcher.leave(left)
        answers.answer = REJECT
        with pytest.raises(Shed, match="rejected") as caught:
            scene.dispatcher.place(scene.enter("c"))
        assert caught.value.retry_after_s == scene.dispatcher.queueing.retry_after_s
        assert scene.is_empty() and scene.dispatcher.held == 0
        assert scene.heard.of("ended") == ["shed", "left", "shed"]
        assert scene.cluster.view.cluster["rejected"] == 2

    asyncio.run(course())


@pytest.mark.parametrize("tokens", [0, 3])
def test_hang_ups_free_the_worker_in_every_phase(tokens: int) -> None:
    scene = Scene()
    ticket = scene.sent()
    if tokens:
        scene.dispatcher.grew(ticket, tokens)
    scene.dispatcher.leave(ticket)
    assert ticket.outcome == "left" and scene.is_empty()
    assert scene.cluster.view.cluster["unserved"] == 0  # its client's own wish


def test_a_request_that_its_worker_lost_goes_to_another_one() -> None:
    scene = Scene()
    ticket = scene.sent()
    lost = ticket.slot
    scene.dispatcher.take_back(ticket, "connection refused")
    assert scene.dispatcher.place(ticket) and ticket.slot == 1 - lost
    scene.dispatcher.take_back(ticket, "HTTP 500")
    assert scene.dispatcher.place(ticket) and ticket.slot in (0, 1)  # nobody is left who has not failed it
    assert ticket.retries == 2 and scene.cluster.view.cluster["retries"] == 2
    scene.dispatcher.fail(ticket, "broken off")
    assert ticket.outcome == "failed" and scene.is_empty()
    assert scene.cluster.view.cluster["failed"] == 1


def test_without_a_worker_requests_are_held_and_told_so() -> None:
    async def course() -> None:
        scene = Scene(workers=1, ready=0, queueing=Queueing(max_hold_s=0.01))
        ticket = scene.enter()
        assert not scene.dispatcher.place(ticket) and ticket.by == "no worker"
        with pytest.raises(Shed, match="no_worker"):
            await scene.dispatcher.wait(ticket)
        other = scene.enter("b")
        scene.cluster.set_worker(0, READY, 0.0)
        assert scene.dispatcher.place(other) and other.slot == 0
        scene.cluster.set_worker(0, DRAINING, 0.0)
        assert not scene.dispatcher.place(scene.enter("c"))
        scene.dispatcher.finish(other)

    asyncio.run(course())


def test_too_many_and_too_long_requests_are_refused_at_once() -> None:
    scene = Scene(rows=2)
    room = int(scene.cluster.view.workers["kv_capacity_tokens"].max())
    with pytest.raises(Shed, match="too_long") as caught:
        scene.enter(tokens=room + 1)
    assert caught.value.retry_after_s is None
    tickets = [scene.sent("a"), scene.sent("b")]
    with pytest.raises(Shed, match="too_many_requests"):
        scene.enter("c")
    for ticket in tickets:
        scene.dispatcher.leave(ticket)
    assert scene.sent("d").slot >= 0
    scene.dispatcher.closing = True
    with pytest.raises(Shed, match="shutting_down"):
        scene.enter("e")
