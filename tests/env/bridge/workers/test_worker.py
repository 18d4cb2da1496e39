"""A slot: what it counts, what it tells, and whose failures count against it."""

from __future__ import annotations

import asyncio
import math

import pytest

from aladdin_env.bridge.workers.breaker import CLOSED, OPEN
from aladdin_env.bridge.workers.scrape import Scrape
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.worker import Identity, LiveWorker
from aladdin_env.errors import InputError
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY, STARTING

from .pretend import PretendTime

WHO = Identity("m", ("m", "adapter"), 4096)
URL = "http://gpu1:8000"


def ready(time: PretendTime | None = None, **settings: float) -> LiveWorker:
    worker = LiveWorker(0, WatchSettings(**settings), (time or PretendTime()).timing)
    worker.house(URL)
    worker.move(STARTING)
    worker.admit(WHO)
    return worker


def fail(worker: LiveWorker, times: int = 3) -> None:
    for _ in range(times):
        with worker.lease() as lease:
            lease.report_failure("no connection")


def test_the_front_hears_of_every_change() -> None:
    worker = LiveWorker(2)
    heard: list[tuple[int, str | None, float | None]] = []
    worker.subscribe(lambda one: heard.append((one.status, one.model, one.scrape and one.scrape.running)))
    worker.house(URL)
    worker.move(STARTING)
    worker.admit(WHO)
    worker.look(Scrape(running=5.0))
    worker.move(OFF)
    assert heard == [(STARTING, None, None), (READY, "m", None), (READY, "m", 5.0), (OFF, "m", 5.0)]


def test_a_lease_counts_however_the_request_ends() -> None:
    async def cancelled(worker: LiveWorker) -> None:
        with worker.lease():
            await asyncio.Event().wait()

    async def run() -> None:
        worker = ready()
        tasks = [asyncio.create_task(cancelled(worker)) for _ in range(3)]
        await asyncio.sleep(0)
        assert worker.in_flight == 3 and not worker.emptied.is_set()
        for task in tasks[:2]:
            task.cancel()
        await asyncio.gather(*tasks[:2], return_exceptions=True)
        assert worker.in_flight == 1 and not worker.emptied.is_set()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert worker.in_flight == 0 and worker.emptied.is_set()

    asyncio.run(run())


def test_failures_in_a_row_take_it_out_of_service() -> None:
    worker = ready()
    fail(worker, 2)
    with worker.lease() as lease:
        lease.report_success()
    fail(worker, 2)
    assert worker.status == READY
    fail(worker, 1)
    assert (worker.status, worker.reason, worker.breaker.state) == (FAILED, "no connection", OPEN)
    assert worker.broken.is_set() and worker.ready_s == worker.breaker.retry_s


def test_old_requests_tell_nothing_of_a_worker_that_came_back() -> None:
    worker = ready()
    old = [worker.lease().__enter__() for _ in range(4)]
    fail(worker)
    worker.admit(WHO)  # from here on the first failure would count
    for lease in old:
        lease.report_failure("timeout")
        lease.__exit__()
    assert worker.status == READY and worker.in_flight == 0


def test_nor_of_another_server_in_the_slot() -> None:
    worker = ready()
    old = worker.lease()
    worker.house("http://gpu1:8001")
    worker.admit(WHO)
    for _ in range(5):
        old.report_failure("broken")
    assert worker.status == READY


def test_a_draining_worker_stays_so_whatever_happens_to_it() -> None:
    worker = ready()
    worker.move(DRAINING)
    fail(worker)
    assert worker.status == DRAINING and worker.breaker.state == OPEN
    worker.resume()
    assert worker.status == FAILED
    worker.move(DRAINING)
    worker.admit(WHO)
    assert worker.status == DRAINING and worker.breaker.state == CLOSED
    worker.resume()
    assert worker.status == READY


def test_the_age_of_metrics_is_always_known() -> None:
    time = PretendTime()
    worker = ready(time, stale_s=5.0)
    assert worker.metrics_age_s == math.inf and worker.is_stale and worker.kv_capacity_tokens is None
    worker.look(Scrape(cache={"block_size": "16", "num_gpu_blocks": "11"}))
    time.now_s += 5.0
    assert worker.metrics_age_s == 5.0 and not worker.is_stale
    assert (worker.block_size, worker.kv_capacity_tokens) == (16, 160)
    time.now_s += 0.1
    assert worker.is_stale
    worker.house("")
    assert worker.metrics_age_s == math.inf and worker.block_size is None and worker.model is None


def test_a_slot_is_occupied_as_long_as_anything_of_a_server_is_there() -> None:
    worker = LiveWorker(0)
    assert not worker.occupied
    worker.move(STARTING)
    assert worker.occupied
    lease = worker.lease().__enter__()
    worker.move(OFF)
    assert worker.occupied
    lease.__exit__()
    assert not worker.occupied


def test_time_of_a_status() -> None:
    time = PretendTime()
    worker = ready(time)
    time.now_s = 7.0
    worker.fail("a")
    time.now_s = 9.0
    worker.fail("b")
    assert (worker.since_s, worker.reason) == (7.0, "b")


@pytest.mark.parametrize("wrong", [{"scrape_s": 0.5}, {"failures": 0}, {"max_backoff_s": 0.1}, {"stale_s": 0.0}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        WatchSettings(**wrong)
