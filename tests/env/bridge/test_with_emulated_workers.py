"""The bridge before emulated workers: real HTTP, the laws' timing, faults."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp

from aladdin_env.bridge.emulator import EmulatedServer, EmulatorSettings
from aladdin_env.bridge.fleet import LiveFleet
from aladdin_env.bridge.server import Bridge, BridgeSettings, Listening
from aladdin_env.bridge.workers.static import StaticPool
from aladdin_env.scenario import SLO, WorkerType

KIND = WorkerType("toy", "llama-3.1-8b-h100-tp1", initial=1, minimum=1, maximum=1)
SETTINGS = BridgeSettings(
    policy="aladdin",
    fleet=LiveFleet("llama-3.1-8b-h100-tp1", SLO(5.0, 0.5)),
    listening=Listening(port=0),
    rows=256,
)


def asked(k: int) -> dict[str, object]:
    return {
        "model": "m",
        "prompt": [k + 1] * (20 + 7 * k),
        "max_tokens": 5 + k % 11,
        "ignore_eos": True,
        "stream": True,
    }


async def answered(client: aiohttp.ClientSession, url: str, k: int) -> tuple[int, str, str]:
    """Status, text, and how the stream ended: ``whole``, ``error`` or ``cut``."""
    async with client.post(f"{url}/v1/completions", json=asked(k)) as answer:
        assert answer.status == 200, await answer.text()
        text, end = "", "cut"
        async for line in answer.content:
            data = line.removeprefix(b"data: ").strip()
            if data == b"[DONE]":
                end = "whole"
            elif data:
                event = json.loads(data)
                end = "error" if "error" in event else end
                text += "".join(choice["text"] for choice in event.get("choices", []))
        return answer.status, text, end


async def settled(bridge: Bridge) -> None:
    view = bridge.cluster.view
    for _ in range(300):
        left = int(view.workers["members"].sum()) + int(view.cluster["in_flight"]) + bridge.dispatcher.held
        if left + sum(worker.in_flight for worker in bridge.pool.workers) == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("something of a request is left")


async def servers(stack: AsyncExitStack, count: int) -> list[EmulatedServer]:
    settings = EmulatorSettings(KIND, model="m", speed=50.0)
    return [await stack.enter_async_context(EmulatedServer(settings, port=0)) for _ in range(count)]


def test_all_are_answered_with_the_tokens_that_a_worker_gives() -> None:
    async def course() -> None:
        async with AsyncExitStack() as stack:
            workers = await servers(stack, 3)
            client = await stack.enter_async_context(aiohttp.ClientSession())
            bridge = await stack.enter_async_context(Bridge(StaticPool([one.url for one in workers]), SETTINGS))
            found = await asyncio.gather(*(answered(client, bridge.url, k) for k in range(60)))
            direct = [await answered(client, workers[0].url, k) for k in range(0, 60, 10)]
            assert all(status == 200 and end == "whole" for status, _, end in found)
            assert [text for _, text, _ in found[::10]] == [text for _, text, _ in direct]
            await settled(bridge)
            cluster = bridge.cluster.view.cluster
            assert cluster["finished"] == 60
            assert cluster["finished_output_tokens"] == sum(5 + k % 11 for k in range(60))
            assert all(worker.scrape is not None for worker in bridge.pool.workers)

    asyncio.run(asyncio.wait_for(course(), 60.0))


def test_a_worker_that_dies_loses_nobody_who_has_no_byte_yet() -> None:
    async def course() -> None:
        async with AsyncExitStack() as stack:
            workers = await servers(stack, 2)
            client = await stack.enter_async_context(aiohttp.ClientSession())
            slow = replace(SETTINGS, policy="round_robin")
            bridge = await stack.enter_async_context(Bridge(StaticPool([one.url for one in workers]), slow))
            workers[0].faults = replace(workers[0].faults, die_after=2)
            found = await asyncio.gather(*(answered(client, bridge.url, k) for k in range(30)))
            assert {status for status, _, _ in found} == {200}
            ends = [end for _, _, end in found]
            assert ends.count("whole") + ends.count("error") == 30 and ends.count("error") > 0
            await settled(bridge)
            await workers[0].stop(0.0)
            after = await asyncio.gather(*(answered(client, bridge.url, k) for k in range(30)))
            assert all(status == 200 and end == "whole" for status, _, end in after)
            await settled(bridge)

    asyncio.run(asyncio.wait_for(course(), 60.0))
