"""The last decisions: bounded, numbered, and no noise of those who are asked about again and again."""

from __future__ import annotations

from aladdin_env.bridge.watch.journal import Journal
from aladdin_env.policy import HOLD

from .stage import Stage


def test_who_is_held_is_noted_once() -> None:
    stage = Stage()
    journal = stage.watch.status._journal
    first = stage.request("first")
    for _ in range(5):
        assert not stage.dispatcher.place(first)
    stage.ready(0)
    stage.dispatcher.place(first)
    assert [(entry.request_id, entry.answer) for entry in journal.newest()] == [("first", 0), ("first", HOLD)]
    stage.answer(first)
    stage.off(0)
    stage.request("second")  # in the row of the first
    assert [entry.request_id for entry in journal.newest(after=2)] == ["second"]


def test_it_is_bounded_and_numbered() -> None:
    stage = Stage()
    stage.ready(0)
    for i in range(250):
        stage.answer(stage.request(f"r{i}"), tokens=1)
    newest = stage.watch.status._journal.newest()
    assert [entry.number for entry in newest] == list(range(250, 150, -1))
    assert newest[0].request_id == "r249"
    assert [entry.number for entry in stage.watch.status._journal.newest(after=247)] == [250, 249, 248]


def test_since_when_a_worker_is_what_it_is() -> None:
    journal = Journal(lambda: 0.0)
    journal.moved(3, 1, 10.0, 5.0)
    journal.moved(3, 1, 12.0, 3.0)  # still
    assert journal.moved_s[3] == (1, 10.0)
    journal.moved(3, 2, 15.0, 0.0)
    assert journal.moved_s[3] == (2, 15.0)
