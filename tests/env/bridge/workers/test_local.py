"""The pool of local processes: real processes of a small server that looks like vLLM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from aladdin_env.bridge.workers.local import LocalPool, LocalSettings
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.restarts import RestartSettings
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.errors import InputError
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY, STARTING

from .pretend import soon

SCRIPT = Path(__file__).with_name("fake_worker.py")
WATCH = WatchSettings(health_s=0.1, health_timeout_s=0.5, first_backoff_s=0.05, max_backoff_s=0.2)
Story = Callable[[LocalPool], Awaitable[None]]


def command(options: str = "") -> str:
    return f"{sys.executable} {SCRIPT} --port {{port}} {options}"


def pool_of(folder: Path, limits: Limits, text: str = command(), initial: int | None = None, **local) -> LocalPool:
    given = {
        "gpus": [],
        "logs": folder / "logs",
        "ready_poll_s": 0.05,
        "grace_s": 10.0,
        "drain_s": 30.0,
        "restarts": RestartSettings(first_s=0.05, longest_s=0.2),
        **local,
    }
    return LocalPool(text, limits, initial=initial, local=LocalSettings(**given), settings=WATCH)


def while_there(flag: Path) -> str:
    """A command whose workers load as long as ``flag`` is there."""
    return f"sh -c 'while [ -e {flag} ]; do sleep 0.02; done; exec {command()}'"


def tell(pool: LocalPool, story: Story) -> None:
    async def whole() -> None:
        await pool.start()
        try:
            await story(pool)
        finally:
            await pool.stop(0.0)
        assert [worker.status for worker in pool.workers] == [OFF] * len(pool.workers)

    asyncio.run(whole())


def states(pool: LocalPool) -> list[int]:
    return [worker.status for worker in pool.workers]


async def all_ready(pool: LocalPool, count: int) -> None:
    await soon(lambda: states(pool).count(READY) == count)


async def ask(worker: LiveWorker, path: str) -> dict[str, str]:
    async with aiohttp.ClientSession() as session, session.get(worker.url + path) as response:
        return await response.json()


async def be(worker: LiveWorker, **wish: object) -> None:
    with suppress(aiohttp.ClientError, TimeoutError):  # one that is told to crash does not answer
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(worker.url + "/be", json=wish):
            pass


def test_workers_start_serve_and_stop(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        assert (pool.can_scale, pool.wanted, pool.cold_start_s) == (True, (2,), 60.0)
        assert states(pool) == [OFF] * 3 or STARTING in states(pool)
        await all_ready(pool, 2)
        first, second = pool.workers[:2]
        assert states(pool) == [READY, READY, OFF]
        assert first.url != second.url and first.model == "m" and first.kv_capacity_tokens == 1600
        assert 0.0 < pool.cold_start_s < 60.0
        assert (await ask(first, "/environment"))["OWN"] == "1"
        assert "loading weights" in (tmp_path / "logs" / "worker-1.log").read_text()

    tell(pool_of(tmp_path, Limits(2, 3), environment={"OWN": "1"}), story)


def test_a_starting_worker_tells_when_it_will_be_ready(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        (worker,) = pool.workers
        await soon(lambda: worker.status == STARTING)
        assert worker.ready_s == pytest.approx(worker.since_s + 42.0, abs=1.0)

    tell(pool_of(tmp_path, Limits(1, 1), command("--slow 60"), cold_start_s=42.0), story)


def test_each_worker_has_gpus_of_its_own(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 2)
        told = [await ask(worker, "/environment") for worker in pool.workers]
        assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in told) == ["0,1", "2,3"]
        assert [one["argv"][3] for one in told] == [one["CUDA_VISIBLE_DEVICES"] for one in told]

    gpus = {"gpus": ["0", "1", "2", "3"], "gpus_per_worker": 2}
    tell(pool_of(tmp_path, Limits(2, 2), command("--gpu {gpu}"), **gpus), story)


def test_one_gpu_each_where_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"max: 3 .*there are 2 GPUs, 1 for each"):
        pool_of(tmp_path, Limits(1, 3), gpus=["0", "1"])
    pool_of(tmp_path, Limits(1, 3), gpus=["0", "1"], gpus_per_worker=0)


def test_scaling_up_and_down_takes_the_idle_ones(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)
        await pool.scale_to([9])  # more than the limits allow
        assert pool.wanted == (3,)
        await all_ready(pool, 3)
        busy, idle, busier = pool.workers
        leases = [busy.lease().__enter__(), busier.lease().__enter__(), busier.lease().__enter__()]
        await pool.scale_to([2])
        assert states(pool) == [READY, DRAINING, READY]
        await soon(lambda: idle.status == OFF)
        assert idle.url == ""
        await pool.scale_to([1])
        assert states(pool) == [DRAINING, OFF, READY]
        await asyncio.sleep(0.1)
        assert busy.status == DRAINING  # not before its request has ended
        leases[0].__exit__()
        await soon(lambda: busy.status == OFF)
        await pool.scale_to([0])
        assert (pool.wanted, states(pool)) == ((1,), [OFF, OFF, READY])
        for lease in leases[1:]:
            lease.__exit__()

    tell(pool_of(tmp_path, Limits(1, 3)), story)


def test_wishes_in_quick_succession_are_not_added_up(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        for wanted in (1, 3, 2, 3, 1):
            await pool.scale_to([wanted])
        assert states(pool).count(STARTING) == 3
        await soon(lambda: sorted(states(pool)) == [OFF, OFF, READY])

    tell(pool_of(tmp_path, Limits(0, 3)), story)


def test_a_draining_worker_is_taken_back(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 2)
        first, second = pool.workers
        pids = [(await ask(worker, "/environment"))["pid"] for worker in pool.workers]
        with first.lease(), second.lease():
            await pool.scale_to([0])
            assert states(pool) == [DRAINING, DRAINING]
            await pool.scale_to([2])
            assert states(pool) == [READY, READY]
        await asyncio.sleep(0.1)
        assert states(pool) == [READY, READY]
        assert pids == [(await ask(worker, "/environment"))["pid"] for worker in pool.workers]
        with first.lease():
            await pool.scale_to([0])  # once more, and now for good
            await soon(lambda: second.status == OFF)
        await soon(lambda: first.status == OFF)

    tell(pool_of(tmp_path, Limits(0, 2), initial=2), story)


def test_a_loading_worker_is_never_stopped_and_does_not_count_as_one_that_serves(tmp_path: Path) -> None:
    flag = tmp_path / "slow"

    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)
        new = pool.workers[1]
        flag.touch()  # from here on workers load until it is gone
        await pool.scale_to([2])
        await soon(lambda: new.status == STARTING)
        await pool.scale_to([1])
        await asyncio.sleep(0.1)
        assert states(pool) == [READY, STARTING]
        flag.unlink()
        await soon(lambda: states(pool).count(READY) == 1 and OFF in states(pool))

    tell(pool_of(tmp_path, Limits(1, 2), while_there(flag)), story)


def test_a_worker_that_fails_when_it_is_not_wanted_any_more_is_not_started_again(tmp_path: Path) -> None:
    flag = tmp_path / "slow"
    flag.touch()

    async def story(pool: LocalPool) -> None:
        (worker,) = pool.workers
        await soon(lambda: worker.url)
        await pool.scale_to([0])
        assert worker.status == STARTING
        flag.unlink()
        await soon(lambda: worker.status == OFF)
        await asyncio.sleep(0.1)
        assert worker.status == OFF

    failing = f"sh -c 'while [ -e {flag} ]; do sleep 0.02; done; exit {{port}}'"
    tell(pool_of(tmp_path, Limits(0, 1), failing, initial=1), story)


def test_a_drain_has_a_deadline(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)
        (worker,) = pool.workers
        with worker.lease():
            await pool.scale_to([0])
            await soon(lambda: worker.status == OFF)
            await pool.scale_to([1])
            await asyncio.sleep(0.05)
            assert (worker.status, worker.url) == (STARTING, "")  # its last request has not noticed yet
        await all_ready(pool, 1)

    tell(pool_of(tmp_path, Limits(0, 1), initial=1, drain_s=0.1), story)


def test_who_ignores_term_is_killed(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)

    tell(pool_of(tmp_path, Limits(1, 1), command("--ignore-term --child"), grace_s=0.2), story)
    (child,) = [
        line.split()[1] for line in (tmp_path / "logs/worker-0.log").read_text().splitlines() if "child" in line
    ]
    assert not Path(f"/proc/{child}").exists()


def test_a_crash_is_seen_at_once_and_the_worker_comes_back(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)
        (worker,) = pool.workers
        heard: list[int] = []
        worker.subscribe(lambda one: heard.append(one.status) if one.status not in (*heard[-1:], READY) else None)
        url = worker.url
        await be(worker, exit=7)
        await soon(lambda: STARTING in heard and worker.status == READY)
        assert heard == [FAILED, STARTING]
        assert worker.url != url

    tell(pool_of(tmp_path, Limits(1, 1)), story)


def test_a_crash_says_how_and_shows_the_last_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(pool: LocalPool) -> None:
        (worker,) = pool.workers
        await soon(lambda: worker.status == FAILED)
        assert worker.reason == (
            "it did not start: it ended with exit status 3; its last words: ValueError: no such model"
        )
        assert worker.url == "" and worker.ready_s > worker.since_s

    with caplog.at_level(logging.ERROR):
        tell(pool_of(tmp_path, Limits(1, 1), command("--refuse")), story)
    (line, *_) = [record.getMessage() for record in caplog.records]
    assert line.endswith("loading weights\nValueError: no such model")


def test_crashes_are_restarted_a_bounded_number_of_times(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        (worker,) = pool.workers
        began: list[float] = []
        worker.subscribe(lambda one: began.append(one.since_s) if one.status == STARTING else None)
        await soon(lambda: len(began) == 3 and worker.status == FAILED)
        assert worker.ready_s - worker.since_s > 100.0  # the next one when the window has passed
        await pool.scale_to([0])
        await soon(lambda: worker.status == OFF)

    restarts = RestartSettings(first_s=0.01, longest_s=0.02, most=2, window_s=1000.0)
    tell(pool_of(tmp_path, Limits(0, 1), command("--refuse"), initial=1, restarts=restarts), story)


def test_a_worker_that_never_gets_ready_has_failed(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        (worker,) = pool.workers
        await soon(lambda: worker.status == FAILED)
        assert "not ready after 0.3 s (no answer from http://127.0.0.1:" in worker.reason

    tell(pool_of(tmp_path, Limits(1, 1), command("--slow 60"), start_timeout_s=0.3), story)


def test_a_worker_that_hangs_is_ended_and_started_again(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)
        (worker,) = pool.workers
        pid = (await ask(worker, "/environment"))["pid"]
        heard: list[str] = []
        worker.subscribe(lambda one: heard.append(one.reason) if one.status == FAILED and not one.url else None)
        await be(worker, stop=True)
        for _ in range(3):
            with worker.lease() as lease:
                lease.report_failure("no answer")
        await soon(lambda: heard and worker.status == READY)
        assert (await ask(worker, "/environment"))["pid"] != pid
        assert heard[0].startswith("it was out of service for 0.1 s (")
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), signal.SIGCONT)

    tell(pool_of(tmp_path, Limits(1, 1), hang_s=0.1, grace_s=0.1), story)


def test_a_worker_that_is_sick_for_a_moment_is_not_restarted(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)
        (worker,) = pool.workers
        url = worker.url
        await be(worker, health=503)
        await soon(lambda: worker.status == FAILED)
        await be(worker, health=200)
        await soon(lambda: worker.status == READY)
        assert worker.url == url

    tell(pool_of(tmp_path, Limits(1, 1)), story)


def test_a_worker_that_crashes_while_it_drains_is_not_restarted(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)
        (worker,) = pool.workers
        with worker.lease():
            await pool.scale_to([0])
            await be(worker, exit=1)
            await soon(lambda: worker.status == OFF)
        await pool.scale_to([1])
        await all_ready(pool, 1)

    tell(pool_of(tmp_path, Limits(0, 1), initial=1), story)


def test_another_model_than_the_others_is_a_failed_start(tmp_path: Path) -> None:
    name = tmp_path / "name"
    name.write_text("llama")

    async def story(pool: LocalPool) -> None:
        await all_ready(pool, 1)
        name.write_text("qwen")
        await pool.scale_to([2])
        second = pool.workers[1]
        await soon(lambda: second.status == FAILED)
        assert "it serves 'qwen' and" in second.reason and "serves 'llama'" in second.reason

    tell(pool_of(tmp_path, Limits(1, 2), f"sh -c 'exec {command()} --model $(cat {name})'"), story)


def test_stopping_ends_loading_workers_and_waits_for_busy_ones(tmp_path: Path) -> None:
    flag = tmp_path / "slow"

    async def story() -> None:
        pool = pool_of(tmp_path, Limits(1, 2), while_there(flag))
        await pool.start()
        await all_ready(pool, 1)
        flag.touch()
        await pool.scale_to([2])
        busy, loading = pool.workers
        await soon(lambda: loading.status == STARTING)
        with busy.lease():
            stopping = asyncio.create_task(pool.stop(60.0))
            await soon(lambda: loading.status == OFF)
            assert busy.status == DRAINING and not stopping.done()
        await stopping
        assert states(pool) == [OFF, OFF]

    asyncio.run(story())


def test_it_runs_on_uvloop(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop", reason="not for this system")

    async def story() -> None:
        pool = pool_of(tmp_path, Limits(1, 1), command("--ignore-term"), grace_s=0.1)
        await pool.start()
        await all_ready(pool, 1)
        await be(pool.workers[0], exit=1)
        await soon(lambda: pool.workers[0].status != READY)
        await all_ready(pool, 1)
        await pool.stop(0.0)

    uvloop.run(story())


def test_stopping_is_possible_in_any_state(tmp_path: Path) -> None:
    async def story() -> None:
        await pool_of(tmp_path, Limits(1, 1)).stop(0.0)
        pool = pool_of(tmp_path, Limits(1, 1))
        await pool.start()
        await pool.stop(0.0)
        await pool.stop(0.0)
        assert states(pool) == [OFF]

    asyncio.run(story())


def test_an_address_that_is_not_of_this_machine(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"host: '192\.0\.2\.1' .*give an address of this machine"):
        pool_of(tmp_path, Limits(1, 1), host="192.0.2.1")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pool = pool_of(tmp_path, Limits(1, 1), logs=tmp_path / "file" / "logs")
    with pytest.raises(InputError, match=r"logs: .*give a folder that can be written"):
        asyncio.run(pool.start())


@pytest.mark.parametrize(("minimum", "maximum"), [(-1, 2), (3, 2), (0, 0)])
def test_limits_are_checked(minimum: int, maximum: int) -> None:
    with pytest.raises(InputError):
        Limits(minimum, maximum)
    with pytest.raises(InputError, match="one type"):
        Limits(0, 2).clip([1, 1])
