"""The bridge before real vLLM: everybody is answered, with the workers' own tokens, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest

from aladdin_env.bridge.fleet import LiveFleet
from aladdin_env.bridge.server import Bridge, BridgeSettings, Listening
from aladdin_env.bridge.workers.static import StaticPool
from aladdin_env.scenario import SLO

pytestmark = pytest.mark.live
REQUESTS, RATE = 120, 12.0
SETTINGS = BridgeSettings(
    policy="aladdin", fleet=LiveFleet(slo=SLO(30.0, 2.0), max_num_seqs=16), listening=Listening(port=0)
)


def asked(model: str, k: int) -> dict[str, Any]:
    prompt = np.random.default_rng(k).integers(3, 1000, 20 + k % 60).tolist()
    body = {"model": model, "prompt": prompt, "max_tokens": 4 + k % 24, "temperature": 0.0}
    return body | {"ignore_eos": True, "stream": True, "return_token_ids": True}


async def tokens_of(client: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> list[int]:
    """The token ids of an answer, which must be whole."""
    found: list[int] = []
    ended = False
    async with client.post(f"{url}/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            data = line.removeprefix(b"data: ").strip()
            ended = ended or data == b"[DONE]"
            if data and data != b"[DONE]":
                event = json.loads(data)
                assert "error" not in event, event
                for choice in event["choices"]:
                    found += choice.get("token_ids") or []
    assert ended and len(found) == body["max_tokens"]
    return found


@asynccontextmanager
async def bridged(urls: list[str]) -> AsyncIterator[tuple[Bridge, aiohttp.ClientSession, str]]:
    async with Bridge(StaticPool(urls), SETTINGS) as bridge, aiohttp.ClientSession() as client:
        async with client.get(f"{bridge.url}/v1/models") as answer:
            model = (await answer.json())["data"][0]["id"]
        yield bridge, client, model


async def settled(bridge: Bridge) -> None:
    """Nothing of any request is left: here, and by the workers' own word."""
    view = bridge.cluster.view
    for _ in range(600):
        left = int(view.workers["members"].sum()) + int(view.cluster["in_flight"]) + bridge.dispatcher.held
        left += sum(worker.in_flight for worker in bridge.pool.workers)
        busy = sum(worker.scrape.busy for worker in bridge.pool.workers if worker.scrape)
        if left + busy == 0:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("something of a request is left")


def test_an_open_loop_of_streams_is_answered_as_the_workers_answer(servers: list[str]) -> None:
    async def course() -> None:
        async with bridged(servers) as (bridge, client, model):
            tasks = []
            for k in range(REQUESTS):
                tasks.append(asyncio.create_task(tokens_of(client, bridge.url, asked(model, k))))
                await asyncio.sleep(1.0 / RATE)
            found = await asyncio.gather(*tasks)
            for k in range(0, REQUESTS, 10):
                assert found[k] == await tokens_of(client, servers[0], asked(model, k))
            await settled(bridge)
            cluster = bridge.cluster.view.cluster
            assert (cluster["finished"], cluster["unserved"], cluster["retries"]) == (REQUESTS, 0, 0)
            assert cluster["finished_output_tokens"] == sum(4 + k % 24 for k in range(REQUESTS))
            assert all(worker.kv_capacity_tokens for worker in bridge.pool.workers)

    asyncio.run(asyncio.wait_for(course(), 300.0))


@pytest.mark.parametrize("tokens", [0, 2])
def test_hang_ups_free_the_engine(servers: list[str], tokens: int) -> None:
    async def course() -> None:
        async with bridged(servers) as (bridge, client, model):
            body = asked(model, 1) | {"max_tokens": 1500}
            answer = await client.post(f"{bridge.url}/v1/completions", json=body)
            for _ in range(tokens):
                await answer.content.readuntil(b"\n\n")
            answer.close()
            await settled(bridge)
            assert bridge.cluster.view.cluster["finished"] == 0

    asyncio.run(asyncio.wait_for(course(), 120.0))
