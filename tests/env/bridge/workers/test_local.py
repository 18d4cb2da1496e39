"""The pool of local processes: how workers come and go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aladdin_env.bridge.workers.local import LocalPool
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.errors import InputError
from aladdin_env.simulator.state import DRAINING, OFF, READY, STARTING

from .local_pools import all_ready, ask, be, command, pool_of, states, tell, while_there
from .pretend import soon


def test_workers_start_serve_and_stop(tmp_path: Path) -> None:
    async def story(pool: LocalPool) -> None:
        assert (pool.can_scale, pool.wanted, pool.cold_start_s) == (True, (2,), 60.0)
        assert states(pool) == [STARTING, STARTING, OFF]
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
    with pytest.raises(InputError, match=r"local: '\{gpu\}' .*there are none"):
        pool_of(tmp_path, Limits(1, 3), command("--gpu {gpu}"), gpus=[])


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
