"""Fixed addresses: who is let in, who is refused and why, who is out of service and comes back."""

from __future__ import annotations

import asyncio
import socket

import pytest

from aladdin_env.bridge.workers.address import worker_url
from aladdin_env.bridge.workers.client import WorkerClient
from aladdin_env.bridge.workers.settings import WatchSettings
from aladdin_env.bridge.workers.static import StaticPool
from aladdin_env.errors import InputError
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY

from .fake_worker import FakeWorker
from .pretend import soon

QUICK = WatchSettings(health_s=0.05, first_backoff_s=0.02, max_backoff_s=0.1)


def start(*servers: FakeWorker, **options) -> StaticPool:
    """A pool over these servers that has been started and stopped."""

    async def once() -> StaticPool:
        for server in servers:
            await server.listen(0)
        pool = StaticPool([server.url for server in servers], settings=QUICK, **options)
        try:
            await pool.start()
            await pool.stop(0.0)
        finally:
            for server in servers:
                await server.close()
        return pool

    return asyncio.run(once())


def test_what_is_known_of_admitted_workers() -> None:
    async def story() -> None:
        async with FakeWorker() as one, FakeWorker(max_model_len=2048, metrics=404) as two:
            pool = StaticPool([one.url + "/v1/", two.url], settings=QUICK)
            assert [worker.status for worker in pool.workers] == [OFF, OFF]
            await pool.start()
            first, second = pool.workers
            assert [worker.slot for worker in pool.workers] == [0, 1]
            assert (first.status, first.url, first.model, first.max_model_len) == (READY, one.url, "m", 4096)
            assert first.identity.models == ("adapter", "m")
            assert (first.scrape.running, first.scrape.kv_usage, first.kv_capacity_tokens) == (3.0, 0.25, 1600)
            assert (second.status, second.max_model_len, second.scrape) == (READY, 2048, None)
            assert second.is_stale and not first.is_stale
            await pool.stop(0.0)
            assert [worker.status for worker in pool.workers] == [OFF, OFF]

    asyncio.run(story())


def test_it_cannot_scale_but_notes_what_is_wanted() -> None:
    async def story() -> None:
        pool = StaticPool(["http://a", "http://b"])
        assert (pool.can_scale, pool.wanted, pool.cold_start_s) == (False, (2,), None)
        assert (pool.limits.minimum, pool.limits.maximum) == (2, 2)
        await pool.scale_to([5])
        assert pool.wanted == (5,)

    asyncio.run(story())


def test_a_dead_worker_is_failed_and_comes_back() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
        async with FakeWorker() as alive:
            pool = StaticPool([alive.url, f"http://127.0.0.1:{port}"], settings=QUICK)
            await pool.start()
            first, second = pool.workers
            assert (first.status, second.status) == (READY, FAILED)
            assert f"127.0.0.1:{port}/health" in second.reason
            late = FakeWorker()
            await late.listen(port)
            await soon(lambda: second.status == READY)
            assert second.model == "m" and second.scrape is not None
            await late.close()
            await soon(lambda: second.status == FAILED)
            await late.listen(port)
            await soon(lambda: second.status == READY)
            await pool.stop(0.0)
            await late.close()

    asyncio.run(story())


def test_two_models_are_refused_and_both_are_named() -> None:
    one, two = FakeWorker(model="llama"), FakeWorker(model="qwen")
    with pytest.raises(InputError) as refused:
        start(one, two)
    assert f"worker: '{two.url}'" in str(refused.value)
    assert f"it serves 'qwen' and {one.url} serves 'llama'" in str(refused.value)


def test_a_wanted_model_is_looked_for() -> None:
    assert start(FakeWorker(model="llama"), model="llama").workers[0].model == "llama"
    assert start(FakeWorker(model="llama"), model="adapter").workers[0].model == "llama"
    with pytest.raises(InputError, match=r"model: 'gpt' .* serves adapter, llama"):
        start(FakeWorker(model="llama"), model="gpt")


@pytest.mark.parametrize("body", ["<html>", "[]", '{"models": []}', '{"data": [1]}', '{"data": [{"name": "m"}]}'])
def test_what_is_no_openai_server_is_refused(body: str) -> None:
    server = FakeWorker(body=body)
    with pytest.raises(InputError, match=r"give the address of an OpenAI-compatible server .*answers 200") as refused:
        start(server)
    assert server.url in str(refused.value)


def test_a_server_without_a_list_of_models_is_refused() -> None:
    with pytest.raises(InputError, match=r"OpenAI-compatible server .*answers 404"):
        start(FakeWorker(models=404, body="nothing here"))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"health": 503}, "/health answers 503"),
        ({"models": 503}, "/v1/models answers 503"),
        ({"body": '{"data": []}'}, "serves no model yet"),
    ],
)
def test_who_is_not_ready_is_no_mistake_of_the_user(behaviour: dict[str, object], reason: str) -> None:
    async def story() -> None:
        async with FakeWorker(**behaviour) as server:
            pool = StaticPool([server.url], settings=QUICK)
            await pool.start()
            (worker,) = pool.workers
            assert worker.status == FAILED and reason in worker.reason
            server.behaviour.__init__()
            await soon(lambda: worker.status == READY)
            await pool.stop(0.0)

    asyncio.run(story())


def test_a_key_is_sent_and_a_wrong_one_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "s3cret")
    assert start(FakeWorker(api_key="s3cret"), api_key_env="TEST_KEY").workers[0].model == "m"
    monkeypatch.setenv("TEST_KEY", "wr0ng")
    with pytest.raises(InputError, match=r"api_key_env: 'TEST_KEY' .*answers 401") as refused:
        start(FakeWorker(api_key="s3cret"), api_key_env="TEST_KEY")
    assert "wr0ng" not in str(refused.value)
    with pytest.raises(InputError, match=r"api_key_env: None .*answers 401"):
        start(FakeWorker(api_key="s3cret"))
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(InputError, match="set this environment variable"):
        WorkerClient("TEST_KEY")


def test_stopping_waits_for_requests_in_flight() -> None:
    async def story() -> None:
        async with FakeWorker() as server:
            pool = StaticPool([server.url], settings=QUICK)
            await pool.start()
            (worker,) = pool.workers
            with worker.lease():
                stopping = asyncio.create_task(pool.stop(60.0))
                await soon(lambda: worker.status == DRAINING)
                await asyncio.sleep(0.05)
                assert not stopping.done()
            await stopping
            assert worker.status == OFF

    asyncio.run(story())


@pytest.mark.parametrize("wrong", ["gpu1:8000", "http://", "http://h:x", "ftp://h", "http://h/?q=1", "http://h:0", ""])
def test_an_address_is_checked(wrong: str) -> None:
    with pytest.raises(InputError, match="http://worker:8000"):
        StaticPool([wrong])


def test_addresses_with_a_password_or_twice_or_none() -> None:
    with pytest.raises(InputError, match="without user and password") as named:
        worker_url("http://me:s3cret@host")
    assert "s3cret" not in str(named.value)
    with pytest.raises(InputError, match=r"'http://h:1' .*give each worker once"):
        StaticPool(["http://h:1/v1", "http://h:1"])
    with pytest.raises(InputError, match="at least one address"):
        StaticPool([])


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aladdin_env.bridge.workers.client._MOST_BYTES", 10_000)

    async def story() -> None:
        async with FakeWorker(body="x" * 20_000) as server:
            pool = StaticPool([server.url], settings=QUICK)
            await pool.start()
            assert "longer than 10000 bytes" in pool.workers[0].reason
            await pool.stop(0.0)

    asyncio.run(story())
