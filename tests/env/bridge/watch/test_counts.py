"""What is counted of requests, decisions and heartbeats."""

from __future__ import annotations

import asyncio
import inspect
import re

import pytest

from aladdin_env.bridge import control, decider, dispatcher
from aladdin_env.bridge.dispatcher import Queueing, Shed
from aladdin_env.bridge.events import Beat, Watcher
from aladdin_env.bridge.watch import labels
from aladdin_env.bridge.watch.labels import PolicyNames
from aladdin_env.bridge.watch.tally import Tally

from .stage import Stage


def test_it_hears_all_that_a_watcher_hears() -> None:
    stage = Stage()
    heard = [name for name in vars(Watcher) if not name.startswith("_")]
    assert len(heard) >= 8
    assert all(callable(getattr(stage.watch, name)) for name in heard)
    assert isinstance(stage.watch, Watcher)  # what it does not want to hear


def test_a_finished_stream() -> None:
    stage = Stage()
    stage.ready(0)
    stage.answer(stage.request(prompt_tokens=70), ttft_s=0.25, tokens=11, pace_s=0.02)
    counts = stage.watch.counts
    assert (counts.arrivals, counts.outcomes[0]["finished"], counts.judged[0], counts.met[0]) == (1, 1, 1, 1)
    assert (counts.prompt_tokens, counts.output_tokens) == (70, 11)
    assert (counts.ttft[0].count, counts.ttft[0].sum) == (1, pytest.approx(0.25))
    assert (counts.atgt[0].count, counts.atgt[0].sum) == (1, pytest.approx(0.02))
    assert (counts.e2e[0].count, counts.e2e[0].sum) == (1, pytest.approx(0.45))
    assert not any(counts.missed[0].values())


@pytest.mark.parametrize(
    ("answer", "missed"),
    [({"ttft_s": 0.9}, ["ttft"]), ({"pace_s": 0.03}, ["atgt"]), ({"ttft_s": 0.9, "pace_s": 0.03}, ["ttft", "atgt"])],
)
def test_objectives_are_missed_by_kind(answer: dict[str, float], missed: list[str]) -> None:
    stage = Stage()
    stage.ready(0)
    stage.answer(stage.request(), **answer)
    stage.answer(stage.request(klass=1), **answer)  # the batch class has time
    counts = stage.watch.counts
    assert [kind for kind, count in counts.missed[0].items() if count] == missed
    assert (counts.met, counts.judged) == ([0, 1, 0, 0], [1, 1, 0, 0])
    assert sum(counts.missed[1].values()) == 0


def test_one_token_has_no_pace_and_a_whole_answer_no_first_token() -> None:
    stage = Stage()
    stage.ready(0)
    stage.answer(stage.request(), tokens=1)
    counts = stage.watch.counts
    assert (counts.ttft[0].count, counts.atgt[0].count) == (1, 0)
    ticket = stage.request(streams=False)
    stage.now_s += 3.0
    stage.dispatcher.came_whole(ticket, 40)
    assert (counts.ttft[0].count, counts.atgt[0].count, counts.e2e[0].count) == (1, 0, 2)
    assert (counts.output_tokens, counts.judged[0]) == (41, 2)


def test_other_ends() -> None:
    stage = Stage()
    stage.ready(0, 1)
    counts = stage.watch.counts
    stage.dispatcher.leave(stage.request("left"))
    assert (counts.outcomes[0]["left"], counts.judged[0]) == (1, 0)
    stage.dispatcher.fail(stage.request("failed"), "it broke, in words that no label may have")
    assert (counts.outcomes[0]["failed"], counts.missed[0]["unserved"]) == (1, 1)
    ticket = stage.request("retried")
    stage.dispatcher.take_back(ticket, "no connection")
    stage.dispatcher.place(ticket)
    stage.answer(ticket)
    assert (counts.retries, counts.outcomes[0]["finished"], counts.arrivals) == (1, 1, 3)


def test_who_is_shed_and_why() -> None:
    async def story() -> None:
        stage = Stage(queueing=Queueing(max_hold_s=0.0, max_held=0))
        ticket = stage.request()
        with pytest.raises(Shed):
            await stage.dispatcher.wait(ticket)
        counts = stage.watch.counts
        assert counts.shed["queue_full"] == counts.outcomes[0]["shed"] == counts.missed[0]["unserved"] == 1

    asyncio.run(story())


def test_who_is_turned_away_at_the_door() -> None:
    stage = Stage()
    watch, counts = stage.watch, stage.watch.counts
    watch.refused("too_many_requests", 10, 1, 2.0)
    watch.refused("too_long", 10**9, 0, 2.0)
    watch.refused("a reason that nobody foresaw", 10, 0, 2.0)
    assert (counts.arrivals, counts.outcomes[1]["shed"], counts.outcomes[0]["shed"]) == (3, 1, 2)
    assert (counts.shed["too_many_requests"], counts.shed["too_long"], counts.shed["other"]) == (1, 1, 1)
    assert counts.judged == [1, 1, 0, 0]  # a prompt that fits nowhere misses no objective


def test_decisions_and_who_made_them() -> None:
    stage = Stage()
    stage.request("held")  # nobody is there
    assert stage.watch.counts.decisions["no worker"] == [0, 1, 0]
    assert stage.watch.counts.placing.count == 0  # no policy was asked
    stage.ready(0)
    stage.request("placed")
    assert stage.watch.counts.decisions["least_request"] == [1, 0, 0]
    assert stage.watch.counts.placing.count == 1
    assert {"least_request", "round_robin", "aladdin"} <= set(stage.watch.counts.decisions)


def test_the_shadow_agrees_or_not() -> None:
    stage = Stage(mode="shadow")  # round robin acts, least request is asked
    stage.ready(0, 1)
    open_tickets = [stage.request() for _ in range(2)]
    assert (stage.watch.counts.agreed, stage.watch.counts.disagreed) == (2, 0)
    stage.answer(next(ticket for ticket in open_tickets if ticket.slot == 1))
    stage.request()  # round robin: 0; least request: 1
    assert (stage.watch.counts.agreed, stage.watch.counts.disagreed) == (2, 1)


def test_fallbacks_and_guard_rails() -> None:
    stage = Stage()
    for reason in ("deadline", "deadline", "what is this"):
        stage.watch.fell_back(reason)
    stage.watch.beat(Beat(1.0, "active", (2,), (9,), (4,), ("step", "budget", "new one")))
    counts = stage.watch.counts
    assert (counts.fallbacks["deadline"], counts.fallbacks["other"]) == (2, 1)
    assert (counts.beats, counts.rails["step"], counts.rails["budget"], counts.rails["other"]) == (1, 1, 1, 1)


def test_all_reasons_in_the_code_are_known() -> None:
    """Who adds a reason adds it to the labels, or it is counted as "other"."""
    sources = {module: inspect.getsource(module) for module in (control, decider, dispatcher)}
    fallbacks = {
        name
        for source in sources.values()
        for call in re.findall(r"fell_back\((.*)\)", source)
        for name in re.findall(r'"([^"]+)"', call)
    }
    assert fallbacks == set(labels.FALLBACKS)
    rails = set(re.findall(r'\("(\w+)", self\._', sources[control])) | {"pool failed"}
    assert rails == set(labels.RAILS)
    shed = set(re.findall(r'(?:Shed|_refused|_shed)\((?:\w+, )*"(\w+)"', sources[dispatcher]))
    assert shed and shed <= set(labels.SHED)


def test_names_of_policies_are_capped() -> None:
    served = ["mine"]
    names = PolicyNames(["a", "b"], lambda: served)
    assert [names.of(name) for name in ("a", "a+b", "no worker", "evil", "a+evil")] == [
        "a", "a+b", "no worker", "other", "other",
    ]  # fmt: skip
    assert names.of("mine") == "mine"
    served[:] = [f"v{i}" for i in range(100)]
    assert names.of("mine") == "mine"  # was served
    assert [names.of(name) for name in served].count("other") == 100 - 15


def test_buckets_are_at_most() -> None:
    tally = Tally((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        tally.observe(value)
    assert tally.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert (tally.count, tally.sum) == (5, 8.0)
