"""The metrics of an emulated worker: vLLM's names, types and labels, and the numbers of what has happened."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from aladdin_calibration.server import Client
from aladdin_calibration.server.metrics import scrape
from aladdin_env.bridge.emulator import EmulatedServer, EmulatorSettings
from tests.env.bridge.emulator.cases import HandClock, serving, toy_kind, until

TYPES = {
    "num_requests_running": "gauge",
    "num_requests_waiting": "gauge",
    "kv_cache_usage_perc": "gauge",
    "cache_config_info": "gauge",
    "num_preemptions": "counter",
    "prompt_tokens": "counter",
    "generation_tokens": "counter",
    "prefix_cache_queries": "counter",
    "prefix_cache_hits": "counter",
    "request_success": "counter",
    "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram",
    "request_time_per_output_token_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram",
    "request_queue_time_seconds": "histogram",
    "request_inference_time_seconds": "histogram",
    "request_prefill_time_seconds": "histogram",
    "request_decode_time_seconds": "histogram",
}


async def families_of(client: aiohttp.ClientSession) -> dict[str, Metric]:
    async with client.get("/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        return {f.name.removeprefix("vllm:"): f for f in text_string_to_metric_families(await response.text())}


def value(families: dict[str, Metric], name: str, suffix: str = "", **labels: str) -> float:
    (found,) = (
        sample.value
        for sample in families[name].samples
        if sample.name == f"vllm:{name}{suffix}" and labels.items() <= sample.labels.items()
    )
    return found


async def complete(client: aiohttp.ClientSession, **body: object) -> None:
    async with client.post("/v1/completions", json={"ignore_eos": True, **body}) as response:
        assert response.status == 200
        await response.read()


def test_names_types_and_labels() -> None:
    async def main() -> None:
        async with serving(toy_kind(kv_tokens=1600), model="a/b") as (_, client):
            families = await families_of(client)
        assert {name: family.type for name, family in families.items()} == TYPES
        for name, family in families.items():
            for sample in family.samples:
                assert sample.labels["engine"] == "0"
                assert name == "cache_config_info" or sample.labels["model_name"] == "a/b"
        (cache,) = families["cache_config_info"].samples
        assert cache.labels["block_size"] == "16"
        assert cache.labels["num_gpu_blocks"] == "101", "with the null block"
        assert cache.labels["enable_prefix_caching"] == "False"
        reasons = {sample.labels["finished_reason"] for sample in families["request_success"].samples}
        assert {"stop", "length", "abort"} <= reasons

    asyncio.run(main())


def test_they_count_what_has_happened() -> None:
    async def main() -> None:
        clock = HandClock()
        kind = toy_kind(max_num_seqs=1, prefill_s=0.5, decode_s=0.25, kv_tokens=1600)
        async with serving(kind, clock) as (server, client):
            asked = [asyncio.create_task(complete(client, prompt=[1] * 32, max_tokens=3)) for _ in range(2)]
            await until(lambda: server.worker.in_flight == 2)
            clock.turn_to(0.6)
            half = await families_of(client)
            assert value(half, "num_requests_running") == 1
            assert value(half, "num_requests_waiting") == 1
            assert value(half, "kv_cache_usage_perc") == 2 / 100
            assert value(half, "prompt_tokens", "_total") == 32
            assert value(half, "generation_tokens", "_total") == 1
            while clock.step():
                pass
            await asyncio.gather(*asked)
            end = await families_of(client)
        assert [value(end, f"num_requests_{name}") for name in ("running", "waiting")] == [0, 0]
        assert value(end, "kv_cache_usage_perc") == 0
        assert value(end, "prompt_tokens", "_total") == 64
        assert value(end, "generation_tokens", "_total") == 6
        assert value(end, "request_success", "_total", finished_reason="length") == 2
        sums = {name: value(end, name, "_sum") for name, kind in TYPES.items() if kind == "histogram"}
        assert sums == pytest.approx(
            {
                "time_to_first_token_seconds": 0.5 + 1.5,
                "inter_token_latency_seconds": 4 * 0.25,
                "request_time_per_output_token_seconds": 2 * 0.25,
                "e2e_request_latency_seconds": 1.0 + 2.0,
                "request_queue_time_seconds": 0.0 + 1.0,
                "request_inference_time_seconds": 2 * 1.0,
                "request_prefill_time_seconds": 2 * 0.5,
                "request_decode_time_seconds": 2 * 0.5,
            }
        )
        assert value(end, "inter_token_latency_seconds", "_count") == 4
        assert value(end, "inter_token_latency_seconds", "_bucket", le="0.2") == 0
        assert value(end, "inter_token_latency_seconds", "_bucket", le="0.3") == 4
        assert value(end, "time_to_first_token_seconds", "_bucket", le="0.5") == 1, "an edge belongs to its bucket"
        assert value(end, "time_to_first_token_seconds", "_bucket", le="+Inf") == 2

    asyncio.run(main())


def test_preemptions_are_counted() -> None:
    async def main() -> None:
        kind = toy_kind(kv_tokens=128)
        async with serving(kind, speed=1e3) as (_, client):
            await asyncio.gather(*(complete(client, prompt=[i] * 32, max_tokens=64) for i in range(3)))
            families = await families_of(client)
        assert value(families, "num_preemptions", "_total") > 0
        assert value(families, "generation_tokens", "_total") == 192
        assert value(families, "time_to_first_token_seconds", "_count") == 3

    asyncio.run(main())


@pytest.mark.parametrize("kept", [True, False])
def test_prefixes_are_found_where_they_are_kept(kept: bool) -> None:
    async def main() -> None:
        async with serving(toy_kind(prefix_cache=kept), speed=1e3) as (_, client):
            for last in (8, 9):
                await complete(client, prompt=[7] * 60 + [last], max_tokens=2)
            families = await families_of(client)
        assert value(families, "prefix_cache_queries", "_total") == (122 if kept else 0)
        assert value(families, "prefix_cache_hits", "_total") == (48 if kept else 0), "whole blocks of 16"
        assert families["cache_config_info"].samples[0].labels["enable_prefix_caching"] == str(kept)

    asyncio.run(main())


def test_the_measuring_client_understands_all_of_it() -> None:
    async def main() -> None:
        kind = toy_kind(kv_tokens=1600)
        settings = EmulatorSettings(kind, speed=1e3, per_request_metrics=True)
        async with EmulatedServer(settings) as server, Client(server.url) as client:
            (entry,) = await client.models()
            record = await client.complete([5] * 20, max_tokens=9)
            seen = await scrape(client)
        assert entry["max_model_len"] == 1600
        assert record.error is None
        assert (record.prompt_tokens, record.output_tokens) == (20, 9)
        assert len(record.token_s) == 9
        assert record.server is not None
        assert record.server.first_token_s == pytest.approx(0.1e-3)
        assert record.server.token_s == pytest.approx(0.02e-3)
        assert seen is not None
        assert (seen.busy, seen.begun, seen.finished, seen.prefills) == (0, 1, 1, 1)
        assert seen.cache["block_size"] == "16"

    asyncio.run(main())
