"""A worker that misbehaves as it is told to, that starts late and that stops."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import pytest

from aladdin_env.bridge.emulator import EmulatedServer, EmulatorSettings, Faults
from aladdin_env.errors import InputError
from aladdin_env.scenario import WorkerType
from tests.env.bridge.emulator.cases import PATIENCE_S, HandClock, serving, toy_kind, until, watch

BODY = {"prompt": [7] * 64, "max_tokens": 20, "ignore_eos": True}
FAST = 1e4


async def status_of(client: aiohttp.ClientSession, body: dict = BODY, path: str = "/v1/completions") -> int:
    async with client.post(path, json=body) as response:
        await response.read()
        return response.status


def test_errors_come_at_their_rate() -> None:
    async def main() -> None:
        async with serving(speed=FAST, faults=Faults(error_rate=0.5)) as (server, client):
            statuses = [await status_of(client) for _ in range(60)]
            assert set(statuses) == {200, 500}
            assert 15 <= statuses.count(500) <= 45
            server.faults = Faults()
            assert [await status_of(client) for _ in range(20)] == [200] * 20
            assert server.worker.measures.ended["length"] == statuses.count(200) + 20

    asyncio.run(main())


@pytest.mark.parametrize("streamed", [True, False])
def test_the_connection_dies_in_the_middle(streamed: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(speed=FAST, faults=Faults(die_after=3)) as (server, client):
            got = b""
            with pytest.raises(aiohttp.ClientError):
                async with client.post("/v1/completions", json={**BODY, "stream": streamed}) as response:
                    async for chunk in response.content.iter_any():
                        got += chunk
            assert got.count(b'"text"') <= 3
            assert (b'"text"' in got) == streamed
            assert b"[DONE]" not in got
            await until(lambda: server.worker.in_flight == 0)
            assert await status_of(client, {**BODY, "max_tokens": 2}) == 200, "short answers come through"

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert not caplog.records


def test_a_full_worker_says_when_to_come_again() -> None:
    async def main() -> None:
        clock = HandClock()
        async with serving(clock=clock, faults=Faults(max_queued=2)) as (server, client):
            two = [asyncio.create_task(status_of(client)) for _ in range(2)]
            await until(lambda: server.worker.in_flight == 2)
            async with client.post("/v1/completions", json=BODY) as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) >= 1
                assert (await response.json())["error"]["type"] == "ServiceUnavailableError"
            while clock.step():
                pass
            assert await asyncio.gather(*two) == [200, 200]
            third = asyncio.create_task(status_of(client))
            await until(lambda: server.worker.in_flight == 1)
            third.cancel()

    asyncio.run(main())


def test_a_worker_that_starts_is_not_healthy() -> None:
    async def main() -> None:
        clock = HandClock()
        async with serving(clock=clock, start_delay_s=30.0) as (server, client):
            ready = asyncio.create_task(server.ready())
            for path in ("/health", "/ping", "/v1/models"):
                async with client.get(path) as response:
                    assert response.status == 503, path
                    assert "Retry-After" in response.headers
            assert await status_of(client) == 503
            clock.turn_to(29.9)
            await asyncio.sleep(0)
            assert not ready.done()
            clock.turn_to(30.1)
            await asyncio.wait_for(ready, PATIENCE_S)
            async with client.get("/health") as response:
                assert response.status == 200

    asyncio.run(main())


def test_stopping_waits_for_those_under_way_and_takes_no_more() -> None:
    async def main() -> None:
        clock = HandClock()
        async with serving(clock=clock) as (server, client):
            answers = watch(server)
            for response in await asyncio.gather(*(client.get("/health") for _ in range(2))):  # two connections
                response.release()
            under_way = asyncio.create_task(status_of(client))
            await until(lambda: len(answers) == 1)
            stopping = asyncio.create_task(server.stop(PATIENCE_S))
            await asyncio.sleep(0)
            async with client.get("/health") as response:
                assert response.status == 503
            assert await status_of(client) == 503
            assert not stopping.done()
            while clock.step():
                pass
            assert await under_way == 200
            await stopping
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.get("/health")

    asyncio.run(main())


def test_stopping_at_once_breaks_off_what_is_under_way() -> None:
    async def main() -> None:
        async with serving(clock=HandClock()) as (server, client):
            async with client.post("/v1/completions", json={**BODY, "stream": True}) as response:
                await until(lambda: server.worker.in_flight == 1)
                await server.stop()
                with pytest.raises(aiohttp.ClientError):
                    await response.read()
            assert server.worker.measures.ended["abort"] == 1

    asyncio.run(main())


def test_a_port_that_is_taken_is_a_mistake() -> None:
    async def main() -> None:
        async with serving() as (server, _):
            other = EmulatedServer(EmulatorSettings(toy_kind()), port=server.port)
            with pytest.raises(InputError, match=rf"port: {server.port} is not valid; something listens there"):
                await other.start()
        elsewhere = EmulatedServer(EmulatorSettings(toy_kind()), host="192.0.2.1")
        with pytest.raises(InputError, match=r"host: '192\.0\.2\.1' is not valid; give an address of this machine"):
            await elsewhere.start()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"speed": 0.0}, "speed"),
        ({"output_tokens": 0.5}, "output_tokens"),
        ({"max_model_len": 10**9}, "max_model_len"),
        ({"start_delay_s": -1.0}, "start_delay_s"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_are_checked(settings: dict, field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}: "):
        EmulatorSettings(toy_kind(), **settings)


@pytest.mark.parametrize("faults", [{"error_rate": 1.5}, {"die_after": 0}, {"max_queued": 0}])
def test_faults_are_checked(faults: dict) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(faults))}: "):
        Faults(**faults)


def test_a_worker_of_a_pair_cannot_serve_alone() -> None:
    kind = WorkerType("p", toy_kind().profile, 1, 1, 1, scheduler="split", role="prefill")
    with pytest.raises(InputError, match="scheduler"):
        EmulatorSettings(kind)
