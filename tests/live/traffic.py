"""Clients of a bridge before real vLLM: streams whose every token is looked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from aladdin_env.bridge.fleet import LiveFleet
from aladdin_env.bridge.server import Bridge, BridgeSettings, Listening
from aladdin_env.bridge.workers.pool import WorkerPool
from aladdin_env.scenario import SLO

SETTINGS = BridgeSettings(
    policy="aladdin", fleet=LiveFleet(slo=SLO(30.0, 2.0), max_num_seqs=16), listening=Listening(port=0, admin_port=0)
)


def output_tokens(k: int) -> int:
    """Of the ``k``-th request."""
    return 4 + k % 24


def asked(model: str, k: int) -> dict[str, Any]:
    """The ``k``-th request: its own prompt, greedy."""
    prompt = np.random.default_rng(k).integers(3, 1000, 20 + k % 60).tolist()
    body = {"model": model, "prompt": prompt, "max_tokens": output_tokens(k), "temperature": 0.0}
    return body | {"ignore_eos": True, "stream": True, "return_token_ids": True}


@dataclass(frozen=True)
class Streamed:
    """How a stream went: its tokens, and whether it ended whole, with an error event, or with neither."""

    tokens: tuple[int, ...]
    is_whole: bool
    error: str


async def stream(client: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Streamed:
    """Ask, and read to the end; the answer must begin well."""
    found: list[int] = []
    is_whole, error = False, ""
    async with client.post(f"{url}/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            data = line.removeprefix(b"data: ").strip()
            is_whole = is_whole or data == b"[DONE]"
            if data and data != b"[DONE]":
                event = json.loads(data)
                error = str(event["error"]["code"]) if "error" in event else error
                for choice in event.get("choices", ()):
                    found += choice.get("token_ids") or []
    return Streamed(tuple(found), is_whole and len(found) == body["max_tokens"], error)


class OpenLoop:
    """Requests at a rate, whatever becomes of those before.

    Args:
        client: Who asks.
        url: Whom.
        model: For which model.
        rate_rps: Requests per second.
    """

    def __init__(self, client: aiohttp.ClientSession, url: str, model: str, rate_rps: float) -> None:
        self._client, self._url, self._model, self._rate_rps = client, url, model, rate_rps
        self.tasks: list[asyncio.Task[Streamed]] = []

    async def run(self, count: int) -> None:
        """So many more; returns when the last one is under way."""
        for _ in range(count):
            body = asked(self._model, len(self.tasks))
            self.tasks.append(asyncio.create_task(stream(self._client, self._url, body)))
            await asyncio.sleep(1.0 / self._rate_rps)

    async def ended(self) -> Sequence[Streamed]:
        """All, when the last has ended."""
        return await asyncio.gather(*self.tasks)


@asynccontextmanager
async def bridged(
    pool: WorkerPool, settings: BridgeSettings = SETTINGS
) -> AsyncIterator[tuple[Bridge, aiohttp.ClientSession]]:
    """A bridge in front of these workers, and a client with as many connections as it wants."""
    connector = aiohttp.TCPConnector(limit=0)
    async with Bridge(pool, settings) as bridge, aiohttp.ClientSession(connector=connector) as client:
        yield bridge, client


async def model_of(client: aiohttp.ClientSession, url: str) -> str:
    """The model that is served there."""
    async with client.get(f"{url}/v1/models") as answer:
        return str((await answer.json())["data"][0]["id"])


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
