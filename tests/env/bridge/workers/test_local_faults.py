"""The pool of local processes: workers that crash, hang, or never start."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from aladdin_env.bridge.workers.local import LocalPool
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.restarts import RestartSettings
from aladdin_env.simulator.state import FAILED, OFF, READY, STARTING

from .local_pools import all_ready, ask, be, command, pool_of, tell
from .pretend import soon


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
