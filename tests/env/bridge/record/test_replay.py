"""A log of all events gives back the arrays, and the answers of every policy that was asked."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from aladdin_env.bridge.decider import ACTIVE, CANARY, SHADOW
from aladdin_env.bridge.dispatcher import Queueing
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.record.log import read_logs
from aladdin_env.bridge.record.rebuild import Rebuilt
from aladdin_env.bridge.record.recorder import RecordSettings
from aladdin_env.bridge.record.replay import replay
from aladdin_env.errors import InputError
from aladdin_env.latency import load_profile
from tests.env.bridge.record.traffic import Bridge, Traffic

POLICIES = ["least_request", "round_robin", "power_of_two", "random", "aladdin", "most_headroom", "aladdin+aladdin"]


def recorded(path: Path, steps: int = 600, seed: int = 0, workers: int = 3, **how) -> Bridge:
    bridge = Bridge(path, **how)
    bridge.ready(workers)
    asyncio.run(Traffic(bridge, seed).run(steps))
    bridge.recorder.close()
    return bridge


ARRAYS = ("workers", "requests", "cluster", "control", "lengths", "history", "slo", "laws")


def arrays(cluster: LiveCluster) -> dict[str, bytes]:
    return {name: getattr(cluster.world, name).tobytes() for name in ARRAYS}


@pytest.mark.parametrize("seed", range(4))
def test_the_arrays_are_rebuilt_bit_for_bit(tmp_path: Path, seed: int) -> None:
    bridge = Bridge(tmp_path / "log.jsonl", policy="aladdin")
    written = []
    bridge.recorder._file.write = lambda line, write=bridge.recorder._file.write: (written.append(line), write(line))
    seen: dict[int, dict[str, bytes]] = {}
    bridge.ready(3)

    def look() -> None:
        seen[sum(b'"kind":"request"' not in line for line in written)] = arrays(bridge.cluster)

    asyncio.run(Traffic(bridge, seed).run(1500, after_each=look))
    look()
    bridge.recorder.close()
    (log,) = read_logs([tmp_path / "log.jsonl"], events=True)
    kinds = {record.kind for record in log.records}
    assert {"arrive", "decide", "tokens", "return", "end", "worker", "look", "beat"} <= kinds
    rebuilt = Rebuilt(log)
    for number, record in enumerate(log.records, start=1):
        rebuilt.apply(record)
        if number in seen:
            found = arrays(rebuilt.cluster)
            assert [name for name in ARRAYS if found[name] != seen[number][name]] == [], record
    assert len(seen) > 500 and max(seen) == len(log.records)


@pytest.mark.parametrize("mode", [ACTIVE, CANARY, SHADOW])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_policy_answers_the_same(tmp_path: Path, policy: str, mode: str) -> None:
    recorded(tmp_path / "log.jsonl", policy=policy, baseline="round_robin", mode=mode)
    found = replay(tmp_path / "log.jsonl")
    assert found.placements.first is None and found.scalings.first is None and found.shadows.first is None
    assert found.is_same
    assert found.placements.asked > 100 and found.scalings.asked > 10
    assert (found.shadows.asked > 0) == (mode == SHADOW)


@pytest.mark.parametrize("policy", ["round_robin", "aladdin"])
def test_deadlines_that_passed_are_no_differences(tmp_path: Path, policy: str) -> None:
    """A policy that was too slow was asked, and remembers it, but somebody else's answer was used."""
    recorded(tmp_path / "log.jsonl", 900, policy=policy, mode=ACTIVE, decider_clock=random.Random(3))
    text = (tmp_path / "log.jsonl").read_text()
    assert '"reason":"deadline"' in text and '"reason":"slow"' in text
    assert replay(tmp_path / "log.jsonl").is_same


def test_held_and_shed_requests_are_asked_about_again(tmp_path: Path) -> None:
    """Few workers that come and go, so that most requests wait; some policies hold and reject by themselves."""
    for policy in ("aladdin", "aladdin_plus"):
        path = tmp_path / f"{policy}.jsonl"
        recorded(path, 1200, workers=1, policy=policy, mode=ACTIVE, queueing=Queueing(max_hold_s=0.0))
        (log,) = read_logs([path], events=True)
        assert (log.requests["outcome"] == "shed").any()
        assert replay(path).is_same


def test_where_no_worker_could_take_a_request_nobody_is_asked(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path / "log.jsonl", policy="round_robin", mode=ACTIVE)
    waiting = [bridge.enter() for _ in range(3)]
    assert not any(bridge.dispatcher.place(ticket) for ticket in waiting)
    bridge.ready(2)
    assert all(bridge.dispatcher.place(ticket) for ticket in waiting)
    bridge.recorder.close()
    found = replay(tmp_path / "log.jsonl")
    assert found.is_same and (found.nobody, found.placements.asked) == (3, 3)


def test_modes_policies_laws_and_objectives_may_change(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path / "log.jsonl", policy="aladdin", mode=SHADOW)
    bridge.ready(3)
    traffic = Traffic(bridge, 1)

    async def run() -> None:
        for change in (
            lambda: bridge.switch(mode=CANARY, canary=0.5),
            lambda: bridge.promise(1, 2.0, 0.2),
            lambda: bridge.switch(policy="round_robin"),
            lambda: bridge.learn(load_profile("llama-2-13b-a100-tp1")),
            lambda: bridge.switch(mode=ACTIVE),
            lambda: bridge.switch(policy="round_robin"),  # made anew: its turn begins again
            lambda: bridge.switch(policy="aladdin"),
        ):
            await traffic.run(150)
            change()
        await traffic.run(150)

    asyncio.run(run())
    bridge.recorder.close()
    (log,) = read_logs([tmp_path / "log.jsonl"], events=True)
    assert [record.fields["policy"] for record in log.records if record.kind == "switch"][-1] == "aladdin"
    assert replay(tmp_path / "log.jsonl").is_same


def test_a_heartbeat_counts_at_its_own_time(tmp_path: Path) -> None:
    """The arrays have it before the pool answers; meanwhile requests come and go."""
    bridge = Bridge(tmp_path / "log.jsonl", policy="least_request+aladdin", mode=ACTIVE)
    bridge.ready(2)
    for _ in range(20):
        bridge.serve(5)
        beat = bridge.proposal()
        bridge.clock.now_s += 0.01
        bridge.serve(5)  # before anybody hears of the heartbeat
        bridge.watchers.beat(beat)
        bridge.clock.now_s += 3.0
    bridge.recorder.close()
    found = replay(tmp_path / "log.jsonl")
    assert found.scalings.asked == 20 and found.is_same
    (log,) = read_logs([tmp_path / "log.jsonl"], events=True)
    rebuilt = Rebuilt(log)
    for record in log.records:
        rebuilt.apply(record)
    assert rebuilt.cluster.world.history.tobytes() == bridge.cluster.world.history.tobytes()


# --- differences ----------------------------------------------------------------------------------------------------


def altered(path: Path, kind: str, number: int, **fields: object) -> int:
    """Change the n-th record of a kind; gives its line."""
    lines = path.read_text().splitlines()
    at = [i for i, line in enumerate(lines) if f'"kind":"{kind}"' in line][number]
    lines[at] = json.dumps(json.loads(lines[at]) | fields)
    path.write_text("\n".join(lines) + "\n")
    return at + 1


def served_in_turn(path: Path) -> Bridge:
    bridge = Bridge(path, policy="aladdin", baseline="round_robin", mode=SHADOW)
    bridge.ready(3)
    for _ in range(12):
        bridge.serve(4)
        bridge.clock.now_s += 1.0
        bridge.beat()
    bridge.recorder.close()
    return bridge


@pytest.mark.parametrize("number", [0, 7])
def test_another_answer_is_found_and_told_with_what_was_seen(tmp_path: Path, number: int) -> None:
    path = tmp_path / "log.jsonl"
    served_in_turn(path)
    (log,) = read_logs([path], events=True)
    was = [record for record in log.records if record.kind == "decide"][number].fields["answer"]
    line = altered(path, "decide", number, answer=(was + 1) % 3)
    found = replay(path)
    assert not found.is_same
    assert (found.placements.asked, found.placements.agreed) == (12, 11)
    first = found.placements.first
    assert first is not None
    assert (first.recorded, first.answered, first.asked) == ((was + 1) % 3, was, "round_robin")
    assert first.place.endswith(f"log.jsonl line {line}") and first.what.startswith("request r")
    assert [worker["slot"] for worker in first.workers] == [0, 1, 2]
    assert all(worker["takes"] and worker["status"] == "ready" for worker in first.workers)


def test_another_shadow_answer_and_another_proposal_are_found(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    served_in_turn(path)
    altered(path, "decide", 3, shadow=2)
    altered(path, "beat", 5, proposed=[6])
    found = replay(path)
    assert found.placements.agreed == found.placements.asked == 12
    assert found.shadows.agreed == 11 and found.scalings.agreed == 11
    assert found.scalings.first is not None and found.scalings.first.what == "heartbeat"


def test_a_claim_that_no_worker_could_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    served_in_turn(path)
    line = altered(path, "decide", 11, answer=-1, by="no worker")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:line]))
    found = replay(path)
    assert found.nobody == 0 and found.placements.agreed == 11 and found.placements.first is not None


def test_another_policy_is_asked_what_it_would_have_done(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    served_in_turn(path)
    found = replay(path, "aladdin")
    assert found.policy == "aladdin" and found.shadows.asked == 0
    # It packs where round_robin spreads: idle workers, so always the first.
    assert (found.placements.asked, found.placements.agreed) == (12, 4)
    first = found.placements.first
    assert first is not None and (first.asked, first.recorded, first.answered) == ("aladdin", 1, 0)


# --- what cannot be replayed ----------------------------------------------------------------------------------------


def test_a_log_of_requests_alone_is_refused(tmp_path: Path) -> None:
    recorded(tmp_path / "log.jsonl", 50, settings=RecordSettings("requests"))
    with pytest.raises(InputError, match=r"level.*record with the level 'events'"):
        replay(tmp_path / "log.jsonl")


def test_a_log_without_its_beginning_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    recorded(path, 600, settings=RecordSettings("events", max_bytes=20_000, keep=2))
    with pytest.raises(InputError, match=r"begins with part \d+.*keep more parts"):
        replay(path)


def test_a_log_in_parts_is_replayed_as_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    recorded(path, 600, settings=RecordSettings("events", max_bytes=20_000, keep=99), policy="power_of_two")
    assert len(list(tmp_path.iterdir())) > 3
    assert replay(path).is_same


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("arrive", {"row": 5}, "would have row"),
        ("arrive", {"klass": 9}, "klass"),
        ("decide", {"row": 40}, "no request with this row"),
        ("decide", {"answer": 6}, "answer"),
        ("decide", {"answer": -3}, "answer"),
        ("tokens", {"row": 63}, "no request with this row"),
        ("tokens", {"count": 0}, "count"),
        ("end", {"outcome": "lost"}, "finished, failed, left, shed"),
        ("look", {"slot": 6}, "slot"),
        ("worker", {"status": 5}, "status"),
        ("look", {"kv_tokens": -4, "block_size": 16}, "kv_tokens"),
    ],
)
def test_what_does_not_follow_is_named_by_its_line(tmp_path: Path, kind: str, fields: dict, told: str) -> None:
    path = tmp_path / "log.jsonl"
    served_in_turn(path)
    line = altered(path, kind, 1, **fields)
    with pytest.raises(InputError, match=rf"log.jsonl line {line}\..*{told}"):
        replay(path)


@pytest.mark.parametrize("kind", ["arrive", "decide", "end"])
def test_a_line_that_is_missing_is_noticed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log.jsonl"
    served_in_turn(path)
    lines = path.read_text().splitlines()
    at = [i for i, line in enumerate(lines) if f'"kind":"{kind}"' in line][4]
    del lines[at]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="the log is damaged"):
        replay(path)


def test_a_policy_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    served_in_turn(path)
    with pytest.raises(InputError, match="least_request"):
        replay(path, "least_reqest")
