"""Clients that hang up on the HTTP front: forgotten at once in every phase, and the metrics show it."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.env.bridge.emulator.cases import HandClock, serving, toy_kind, until

PROMPT = [7] * 64


async def scraped(client: aiohttp.ClientSession) -> dict[str, float]:
    """Plain values of the metrics, and the aborted requests."""
    async with client.get("/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    values = {
        sample.name: sample.value for family in families for sample in family.samples if "le" not in sample.labels
    }
    aborted = [s.value for f in families for s in f.samples if s.labels.get("finished_reason") == "abort"]
    return {name.removeprefix("vllm:"): value for name, value in values.items()} | {"aborted": sum(aborted)}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("phase", "time_s"), [("prefill", 0.05), ("decode", 0.3), ("queue", 0.3)])
def test_place_and_memory_are_free_at_once(streamed: bool, phase: str, time_s: float) -> None:
    async def main() -> None:
        clock = HandClock()
        async with serving(toy_kind(max_num_seqs=1), clock) as (server, client):
            body = {"prompt": PROMPT, "max_tokens": 50, "ignore_eos": True, "stream": streamed}
            asked = [asyncio.create_task(send(client, body)) for _ in range(2 if phase == "queue" else 1)]
            await until(lambda: server.worker.in_flight == len(asked))
            clock.turn_to(time_s)
            before = await scraped(client)
            asked[-1].cancel()
            await until(lambda: server.worker.in_flight == len(asked) - 1)
            after = await scraped(client)
            if phase == "queue":
                assert (before["num_requests_running"], before["num_requests_waiting"]) == (1, 1)
                assert (after["num_requests_running"], after["num_requests_waiting"]) == (1, 0)
                assert after["kv_cache_usage_perc"] == before["kv_cache_usage_perc"] > 0
                while clock.step():
                    pass
                assert await asked[0] == 200, "the other one goes on"
            else:
                assert (before["num_requests_running"], before["num_requests_waiting"]) == (1, 0)
                assert before["kv_cache_usage_perc"] > 0
                assert (after["num_requests_running"], after["kv_cache_usage_perc"]) == (0, 0)
            assert (before["aborted"], after["aborted"]) == (0, 1)
            await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(main())


async def send(client: aiohttp.ClientSession, body: dict) -> int:
    async with client.post("/v1/completions", json=body) as response:
        await response.read()
        return response.status


def test_a_client_that_goes_with_its_last_token_is_no_abort() -> None:
    async def main() -> None:
        clock = HandClock()
        async with serving(toy_kind(overhead_s=1.0), clock) as (server, client):
            asked = asyncio.create_task(send(client, {"prompt": PROMPT, "max_tokens": 1}))
            await until(lambda: server.worker.in_flight == 1)
            clock.turn_to(0.2)
            server.worker.catch_up()  # the engine has made the token; it is on its way
            assert server.worker.in_flight == 0
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            seen = await scraped(client)
            assert seen["aborted"] == 0
            assert seen["generation_tokens_total"] == 1

    asyncio.run(main())
