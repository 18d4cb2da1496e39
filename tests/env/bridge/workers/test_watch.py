"""Who keeps looking at workers: how often, what takes one out of service, and what brings it back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from aladdin_env.bridge.workers.client import Unreachable
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.watch import Watch
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.simulator.state import DRAINING, FAILED, READY, STARTING

from .pretend import PretendTime, settle

SETTINGS = WatchSettings(health_s=5.0, failures=3, first_backoff_s=1.0, max_backoff_s=8.0)
URL = "http://gpu1:8000"


class PretendClient:
    """Answers at once; a status of 0 is no answer."""

    api_key_env = None

    def __init__(self) -> None:
        self.status = {"/health": 200, "/v1/models": 200, "/metrics": 200}
        self.model = "m"
        self.asked: Counter[str] = Counter()
        self.hold = asyncio.Event()  # answers wait for it
        self.hold.set()

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def get(self, address: str, within_s: float) -> tuple[int, str]:
        path = address.removeprefix(URL)
        self.asked[path] += 1
        await self.hold.wait()
        if not self.status[path]:
            raise Unreachable(f"no answer from {address}")
        models = json.dumps({"data": [{"id": self.model, "max_model_len": 100}]})
        return self.status[path], models if path == "/v1/models" else "vllm:num_requests_running 1\n"


class Scene:
    def __init__(self) -> None:
        self.time = PretendTime()
        self.client = PretendClient()
        self.worker = LiveWorker(0, SETTINGS, self.time.timing)
        self.worker.house(URL)
        self.worker.move(STARTING)
        self.watch = Watch([self.worker], SETTINGS, self.time.timing, self.client)

    async def __aenter__(self) -> Scene:
        await self.watch.open()
        await self.watch.admission.admit(self.worker)
        self.watch.watch(self.worker)
        self.client.asked.clear()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.watch.close()


def run(story) -> None:
    async def told() -> None:
        async with Scene() as scene:
            await story(scene)

    asyncio.run(told())


def test_metrics_are_read_once_a_second_and_health_every_five() -> None:
    async def story(scene: Scene) -> None:
        await scene.time.advance(20.5)
        assert scene.client.asked == {"/metrics": 20, "/health": 4}
        assert scene.worker.metrics_age_s == pytest.approx(0.5)

    run(story)


def test_metrics_that_cannot_be_read_grow_old_and_keep_their_last_value() -> None:
    async def story(scene: Scene) -> None:
        scene.client.status["/metrics"] = 0
        await scene.time.advance(4.0)
        assert not scene.worker.is_stale
        scene.client.status["/metrics"] = 404
        await scene.time.advance(4.0)
        assert scene.worker.is_stale and scene.worker.metrics_age_s == 8.0
        assert scene.worker.scrape is not None and scene.worker.scrape.running == 1.0
        assert scene.worker.status == READY

    run(story)


@pytest.mark.parametrize("status", [0, 503])
def test_checks_that_fail_take_it_out_and_one_that_succeeds_brings_it_back(status: int) -> None:
    async def story(scene: Scene) -> None:
        scene.client.status["/health"] = status
        await scene.time.advance(5.0)
        assert scene.worker.status == READY
        await scene.time.advance(1.0)
        assert scene.worker.status == READY
        await scene.time.advance(1.0)  # a failed check is repeated sooner
        assert scene.worker.status == FAILED and "/health" in scene.worker.reason
        scene.client.status["/health"] = 200
        await scene.time.advance(0.9)
        assert scene.worker.status == FAILED
        await scene.time.advance(0.1)
        assert scene.worker.status == READY and scene.worker.reason == ""

    run(story)


def test_a_failed_one_is_asked_once_per_backoff_which_grows() -> None:
    async def story(scene: Scene) -> None:
        scene.client.status["/health"] = 0
        scene.worker.fail("the front says so")
        seen = []
        for _ in range(16):
            before = scene.client.asked["/health"]
            await scene.time.advance(1.0)
            seen.append(scene.client.asked["/health"] - before)
        assert seen == [1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]  # after 1, 2, 4, 8 seconds
        assert scene.client.asked["/metrics"] == 0

    run(story)


def test_what_the_front_reports_is_acted_on_at_once() -> None:
    async def story(scene: Scene) -> None:
        await scene.time.advance(0.5)  # in the middle of the pause between two checks
        for _ in range(3):
            with scene.worker.lease() as lease:
                lease.report_failure("connection refused")
        assert scene.worker.status == FAILED
        await scene.time.advance(1.0)
        assert scene.worker.status == READY

    run(story)


def test_a_worker_that_comes_back_as_another_model_among_others_stays_out() -> None:
    async def story(scene: Scene) -> None:
        other = LiveWorker(1, SETTINGS, scene.time.timing)
        other.house("http://gpu2:8000")
        other.admit(scene.worker.identity)
        scene.watch.admission._workers = [scene.worker, other]
        scene.client.model = "n"
        scene.worker.fail("restarted")
        await scene.time.advance(2.0)
        assert scene.worker.status == FAILED
        assert "'n'" in scene.worker.reason and "http://gpu2:8000 serves 'm'" in scene.worker.reason
        other.move(FAILED)  # alone it may serve what it likes
        await scene.time.advance(2.0)
        assert scene.worker.status == READY and scene.worker.model == "n"

    run(story)


def test_draining_waits_for_the_last_request_or_the_deadline() -> None:
    async def story(scene: Scene) -> None:
        lease = scene.worker.lease().__enter__()
        drained = asyncio.create_task(scene.watch.drain([scene.worker], 10.0))
        await scene.time.advance(9.0)
        assert scene.worker.status == DRAINING and not drained.done()
        lease.__exit__()
        await settle()
        assert drained.done()
        scene.worker.lease().__enter__()
        drained = asyncio.create_task(scene.watch.drain([scene.worker], 10.0))
        await scene.time.advance(9.0)
        assert not drained.done()
        await scene.time.advance(1.0)
        assert drained.done() and scene.worker.in_flight == 1

    run(story)


def test_a_check_on_its_way_does_not_end_the_draining() -> None:
    async def story(scene: Scene) -> None:
        scene.worker.fail("x")
        scene.client.hold.clear()
        await scene.time.advance(1.0)
        await scene.watch.drain([scene.worker], 10.0)
        scene.client.hold.set()
        await scene.time.advance(0.0)
        assert scene.worker.status == DRAINING
        await scene.time.advance(4.0)
        assert scene.client.asked["/metrics"] > 0  # its metrics still tell how it empties
        scene.worker.resume()
        assert scene.worker.status == READY

    run(story)


def test_who_is_forgotten_is_not_asked() -> None:
    async def story(scene: Scene) -> None:
        scene.watch.forget(scene.worker)
        await scene.time.advance(30.0)
        assert not scene.client.asked

    run(story)
