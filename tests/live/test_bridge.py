"""The bridge before real vLLM: everybody is answered, with the workers' own tokens, and nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from aladdin_env.bridge.workers.static import StaticPool

from .traffic import OpenLoop, asked, bridged, model_of, output_tokens, settled, stream

pytestmark = pytest.mark.live
REQUESTS, RATE_RPS, LOOKED_AT = 1000, 20.0, 25


@pytest.mark.parametrize("workers", ["servers", "four_servers"])
def test_an_open_loop_of_streams_is_answered_as_the_workers_answer(
    workers: str, request: pytest.FixtureRequest
) -> None:
    urls: list[str] = request.getfixturevalue(workers)

    async def course() -> None:
        async with bridged(StaticPool(urls)) as (bridge, client):
            model = await model_of(client, bridge.url)
            load = OpenLoop(client, bridge.url, model, RATE_RPS)
            await load.run(REQUESTS)
            found = await load.ended()
            assert all(one.is_whole for one in found)
            for k in range(0, REQUESTS, REQUESTS // LOOKED_AT):
                assert found[k] == await stream(client, urls[k % len(urls)], asked(model, k))
            await settled(bridge)
            cluster = bridge.cluster.view.cluster
            assert (cluster["finished"], cluster["unserved"], cluster["retries"]) == (REQUESTS, 0, 0)
            assert cluster["finished_output_tokens"] == sum(map(output_tokens, range(REQUESTS)))
            assert all(worker.kv_capacity_tokens for worker in bridge.pool.workers)

    asyncio.run(asyncio.wait_for(course(), 400.0))


@pytest.mark.parametrize("tokens", [0, 2])
def test_hang_ups_in_prefill_and_decode_free_the_engine(servers: list[str], tokens: int) -> None:
    async def course() -> None:
        async with bridged(StaticPool(servers)) as (bridge, client):
            body = asked(await model_of(client, bridge.url), 1) | {"max_tokens": 1500}
            answer = await client.post(f"{bridge.url}/v1/completions", json=body)
            for _ in range(tokens):
                await answer.content.readuntil(b"\n\n")
            answer.close()
            await settled(bridge)
            assert bridge.cluster.view.cluster["finished"] == 0

    asyncio.run(asyncio.wait_for(course(), 120.0))


def test_a_hang_up_while_it_is_held_leaves_nothing(servers: list[str]) -> None:
    async def course() -> None:
        async with bridged(StaticPool(servers)) as (bridge, client):
            model = await model_of(client, bridge.url)
            for worker in bridge.pool.workers:
                worker.drain(True)
            task = asyncio.create_task(stream(client, bridge.url, asked(model, 1)))
            while not bridge.dispatcher.held:
                await asyncio.sleep(0.01)
            task.cancel()
            await settled(bridge)
            for worker in bridge.pool.workers:
                worker.drain(False)
            assert (await stream(client, bridge.url, asked(model, 2))).is_whole
            assert bridge.cluster.view.cluster["finished"] == 1

    asyncio.run(asyncio.wait_for(course(), 60.0))
