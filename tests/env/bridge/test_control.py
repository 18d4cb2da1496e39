"""Scaling: what policies want, and what the guard rails leave of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from aladdin_env.bridge.control import ControlLoop, Guards
from aladdin_env.bridge.decider import ACTIVE, CANARY, SHADOW
from aladdin_env.bridge.events import Beat
from aladdin_env.errors import OutsideFault
from aladdin_env.simulator.state import READY

from .live import Answers, Scene


class Pool:
    """Does at once what it is told."""

    can_scale = True

    def __init__(self, wanted: int) -> None:
        self.wanted: tuple[int, ...] = (wanted,)
        self.workers = [SimpleNamespace(status=READY, is_stale=False, scrape=object())]
        self.fault: Exception | None = None

    async def scale_to(self, wanted: Sequence[int]) -> None:
        if self.fault is not None:
            raise self.fault
        self.wanted = tuple(wanted)


def looped(
    wanted: object, *, have: int = 4, mode: str = ACTIVE, guards: Guards | None = None
) -> tuple[Scene, Pool, ControlLoop]:
    policy = Answers()
    policy.wanted = wanted
    scene = Scene(policy, workers=16, ready=have, mode=mode)
    pool = Pool(have)
    loop = ControlLoop(
        scene.cluster, scene.decider, pool, guards or Guards(cooldown_s=0.0), scene.heard, scene.dispatcher.offer,
        scene.clock,
    )  # fmt: skip
    return scene, pool, loop


def beaten(loop: ControlLoop) -> Beat:
    return asyncio.run(loop.beat())


def test_what_is_wanted_is_asked_of_the_pool() -> None:
    scene, pool, loop = looped([6])
    beat = beaten(loop)
    assert pool.wanted == (6,) and beat.wanted == (6,) and beat.rails == () and beat.have == (4,)
    assert scene.heard.of("beat") == [beat]
    assert scene.cluster.view.cluster["beats"] == 1


@pytest.mark.parametrize(
    ("wanted", "guards", "asked", "rails"),
    [
        (None, Guards(cooldown_s=0.0), 4, ()),
        ([40], Guards(step=16, cooldown_s=0.0), 16, ("step", "limits")),
        ([40], Guards(step=2, cooldown_s=0.0), 6, ("step",)),
        ([-3], Guards(step=10, cooldown_s=0.0), 0, ("limits",)),
        ([12], Guards(step=16, cooldown_s=0.0, gpu_budget=7), 7, ("budget",)),
    ],
)
def test_rails(wanted: object, guards: Guards, asked: int, rails: tuple[str, ...]) -> None:
    _, pool, loop = looped(wanted, guards=guards)
    assert beaten(loop).rails == rails and pool.wanted == (asked,)


def test_nothing_is_stopped_soon_after_a_change_nor_blindly() -> None:
    scene, pool, loop = looped([6], guards=Guards(cooldown_s=30.0))
    beaten(loop)
    scene.decider.policy.scaler.wanted = [2]  # type: ignore[attr-defined]
    scene.clock.now_s = 29.0
    assert beaten(loop).rails == ("cooldown",) and pool.wanted == (6,)
    scene.clock.now_s = 31.0
    pool.workers[0].is_stale = True
    assert beaten(loop).rails == ("stale",) and pool.wanted == (6,)
    pool.workers[0].scrape = None  # it shows none: then nothing is stale
    assert beaten(loop).wanted == (2,)


def test_canary_moves_by_one_and_shadow_not_at_all() -> None:
    _, pool, loop = looped([9], mode=CANARY)
    assert beaten(loop).rails == ("canary",) and pool.wanted == (5,)
    _, pool, loop = looped([9], mode=SHADOW)
    assert beaten(loop).proposed is None and pool.wanted == (4,)


@pytest.mark.parametrize("wanted", [RuntimeError("no idea"), [1, 2], ["many"]])
def test_a_scaler_that_fails_is_replaced(wanted: object) -> None:
    scene, pool, loop = looped(wanted)
    beaten(loop)
    assert scene.heard.of("fell back") == ["scaling failed"] and pool.wanted == (4,)


def test_a_pool_that_fails_is_asked_again() -> None:
    _, pool, loop = looped([6])
    pool.fault = OutsideFault("no such cluster")
    assert "pool failed" in beaten(loop).rails and pool.wanted == (4,)
    pool.fault = None
    beaten(loop)
    assert pool.wanted == (6,)


def test_heartbeats_keep_their_pace() -> None:
    scene, _, loop = looped(None)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        scene.clock.now_s += seconds + (5.0 if len(slept) == 2 else 0.1)  # the second one oversleeps by two heartbeats
        if len(slept) == 5:
            raise asyncio.CancelledError

    loop._sleep = sleep
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(loop.run())
    assert slept == pytest.approx([2.0, 1.9, 0.0, 1.9, 1.9], abs=0.11)
    assert scene.cluster.view.cluster["beats"] == 4


def test_no_worker_is_started_that_could_not_help() -> None:
    """Objectives that an empty worker misses: more of them would miss them, too."""
    scene, pool, loop = looped([9])
    scene.cluster.world.slo[:] = (1.0, 0.0001)
    assert beaten(loop).rails == ("infeasible",) and pool.wanted == (4,)
    scene.cluster.world.slo[:] = (0.0001, 1.0)
    assert beaten(loop).rails == ("infeasible",) and pool.wanted == (4,)
    scene.cluster.world.slo[:] = (1.0, 1.0)
    assert "infeasible" not in beaten(loop).rails and pool.wanted == (8,)
