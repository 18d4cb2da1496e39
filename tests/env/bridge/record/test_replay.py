"""A log of all events gives back the arrays, and the answers of every policy that was asked."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from aladdin_env.bridge.decider import ACTIVE, CANARY, SHADOW
from aladdin_env.bridge.record.log import read_logs
from aladdin_env.bridge.record.rebuild import Rebuilt
from aladdin_env.bridge.record.recorder import RecordSettings
from aladdin_env.bridge.record.replay import replay
from aladdin_env.errors import InputError
from tests.env.bridge.record.traffic import Bridge, Traffic

POLICIES = ["least_request", "round_robin", "power_of_two", "random", "aladdin", "most_headroom", "aladdin+aladdin"]


def recorded(path: Path, steps: int = 600, seed: int = 0, workers: int = 3, **how) -> Bridge:
    bridge = Bridge(path, **how)
    bridge.ready(workers)
    asyncio.run(Traffic(bridge, seed).run(steps))
    bridge.recorder.close()
    return bridge


@pytest.mark.parametrize("seed", range(4))
def test_the_arrays_are_rebuilt_bit_for_bit(tmp_path: Path, seed: int) -> None:
    bridge = recorded(tmp_path / "log.jsonl", 1500, seed, policy="aladdin")
    (log,) = read_logs([tmp_path / "log.jsonl"], events=True)
    kinds = {record.kind for record in log.records}
    assert {"arrive", "decide", "tokens", "return", "end", "worker", "look", "beat"} <= kinds
    rebuilt = Rebuilt(log)
    for record in log.records:
        rebuilt.apply(record)
    for name in ("workers", "requests", "cluster", "control", "lengths", "history", "slo", "laws"):
        before, after = (getattr(cluster.world, name) for cluster in (bridge.cluster, rebuilt.cluster))
        assert before.tobytes() == after.tobytes(), name


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
