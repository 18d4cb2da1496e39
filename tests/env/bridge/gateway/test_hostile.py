"""What clients and workers do by mistake or on purpose, and must not get away with."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from aladdin_env.bridge.gateway.asked import COMPLETIONS, read
from aladdin_env.bridge.gateway.proxy import Budget
from aladdin_env.bridge.gateway.stream import Stream, tokens_of
from aladdin_env.simulator.state import READY

from .backend import DONE, begun, chunk, status, streamed
from .scene import SETTINGS, Scene, run

KEYED = replace(SETTINGS, gateway=replace(SETTINGS.gateway, api_keys=("secret",), worker_key_env="THEIR_KEY"))


async def raw(url: str, sent: bytes, until: bytes = b"") -> bytes:
    """What comes back for these bytes, up to ``until`` or the end of the connection."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(sent)
    try:
        return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()


def test_workers_get_their_own_key_and_never_the_bridges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIR_KEY", "theirs")

    async def course(made: Scene) -> None:
        headers = {"Authorization": "Bearer secret"}
        for path in ("/v1/completions", "/v1/embeddings"):
            async with made.ask({"prompt": "x"}, path, headers=headers) as answer:
                assert answer.status == 200
        seen = [headers["authorization"] for backend in made.backends for _, headers, _ in backend.seen]
        assert seen == ["Bearer theirs"] * 2

    run(course, settings=KEYED)


@pytest.mark.parametrize("key", [b"Bearer \xff", b"Bearer secre", b"secret", b""])
def test_wrong_keys_of_any_bytes_get_401_on_open_paths_too(key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIR_KEY", "theirs")

    async def course(made: Scene) -> None:
        for path in (b"/v1/models", b"/health"):
            head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: " + key + b"\r\nContent-Length: 0\r\n\r\n"
            assert b" 401 " in await raw(made.bridge.url, head, b"\r\n")
        assert not any(backend.seen for backend in made.backends)

    run(course, settings=KEYED)


def test_a_request_that_no_worker_can_take_puts_none_out_of_service() -> None:
    async def course(made: Scene) -> None:
        for backend in made.backends:
            backend.answer = status(500)
        for _ in range(20):
            async with made.ask() as answer:
                assert answer.status == 500
        assert all(worker.status == READY for worker in made.bridge.pool.workers)

    run(course)


def test_a_worker_whose_500_another_one_does_not_give_is_put_out_of_service() -> None:
    async def course(made: Scene) -> None:
        made.backends[0].answer = status(500)
        for _ in range(40):
            async with made.ask() as answer:
                assert answer.status == 200
        assert made.bridge.pool.workers[0].status != READY

    run(course)


def test_the_budget_of_retries_forgets() -> None:
    now_s = 0.0
    budget = Budget(0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aladdin_env.bridge.gateway.proxy.time.monotonic", lambda: now_s)
        for now_s in range(1000):  # noqa: B007 (read by the clock)
            budget.note()
    assert len(budget._asked) <= 61


def test_an_error_event_ends_a_half_one_first() -> None:
    async def half(request: web.Request, body: bytes) -> web.StreamResponse:
        out = await begun(request)
        await out.write(chunk("a") + b'data: {"choices": [{')
        assert request.transport is not None
        await asyncio.sleep(0.05)
        request.transport.abort()
        return out

    async def course(made: Scene) -> None:
        made.backends[0].answer = half
        body = {"prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
        async with made.ask(body) as answer:
            events = (await answer.read()).split(b"\n\n")
        assert json.loads(events[-2].removeprefix(b"data: "))["error"]["code"] == "worker_failed"

    run(course, 1)


def test_each_api_gets_errors_in_its_own_form() -> None:
    async def stops(request: web.Request, body: bytes) -> web.StreamResponse:
        out = await begun(request)
        await out.write(b'event: ping\ndata: {"type": "ping"}\n\n')
        await out.write_eof()
        return out

    async def course(made: Scene) -> None:
        made.backends[0].answer = stops
        for path, field in (("/v1/messages", "error"), ("/v1/responses", "message")):
            async with made.ask({"input": "x", "stream": True}, path) as answer:
                name, data = (await answer.read()).split(b"\n\n")[-2].split(b"\n")
            told = json.loads(data.removeprefix(b"data: "))
            assert name == b"event: error" and told["type"] == "error" and told[field]

    run(course, 1)


def test_a_prompt_nested_without_end_is_no_prompt() -> None:
    assert read(COMPLETIONS, b'{"prompt": ' + b"[" * 500 + b"]" * 500 + b"}").text_bytes == 0


@pytest.mark.parametrize(
    "usage", [{"completion_tokens": "7"}, {"prompt_tokens": [1]}, {"completion_tokens": -1}, 7, []]
)
def test_odd_usage_and_odd_events_of_a_worker_are_passed_over(usage: Any) -> None:
    assert tokens_of(json.dumps({"usage": usage}).encode()) == (None, 0)
    stream = Stream(False)
    for event in ({"usage": usage}, {"type": [1]}, {"choices": [7]}, [1], 7):
        stream.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    stream.feed(DONE)
    assert stream.is_done and stream.tokens == 0


def test_a_body_that_is_not_what_its_encoding_says_is_the_clients_mistake() -> None:
    async def course(made: Scene) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        async with made.ask(b'{"prompt": "x"}', headers=headers) as answer:
            assert answer.status == 400 and (await answer.json())["error"]["code"] == "invalid_body"

    run(course)


@pytest.mark.parametrize(
    "path", ["/sleep", "//sleep", "/sleep/", "/x/../sleep", "/%73leep", "/reset_encoder_cache", "/v1/load_lora_adapter"]
)
def test_who_controls_workers_does_so_directly(path: str) -> None:
    async def course(made: Scene) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        assert (await raw(made.bridge.url, head, b"\r\n")).split()[1] in (b"400", b"403")
        assert not any(backend.seen for backend in made.backends)

    run(course)


def test_a_whole_address_for_a_path_is_no_path() -> None:
    async def course(made: Scene) -> None:
        head = b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\n\r\n"
        assert b" 400 " in await raw(made.bridge.url, head, b"\r\n")

    run(course)


def test_paths_that_are_not_placed_are_asked_elsewhere_too() -> None:
    async def dies(request: web.Request, body: bytes) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        raise asyncio.CancelledError

    async def course(made: Scene) -> None:
        made.backends[0].answer = dies
        for _ in range(4):
            async with made.ask({"input": "x"}, "/v1/embeddings") as answer:
                assert answer.status == 200

    run(course)


def test_a_passed_answer_that_breaks_off_does_not_look_whole() -> None:
    async def half(request: web.Request, body: bytes) -> web.StreamResponse:
        out = web.StreamResponse()
        await out.prepare(request)
        await out.write(b"x" * 1000)
        assert request.transport is not None
        await asyncio.sleep(0.05)
        request.transport.abort()
        return out

    async def course(made: Scene) -> None:
        made.backends[0].answer = half
        head = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
        parts = urlsplit(made.bridge.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head)
        came = b""
        try:
            while data := await reader.read(1 << 16):
                came += data
        except ConnectionResetError:  # a reset is as good a sign as an end without the last chunk
            pass
        writer.close()
        assert came.count(b"HTTP/1.1") <= 1 and not came.endswith(b"0\r\n\r\n")

    run(course, 1)


def test_pages_in_a_browser_cannot_make_admin_calls() -> None:
    async def course(made: Scene) -> None:
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            async with made.client.post(made.bridge.admin_url + "/mode", data="{}", headers=headers) as answer:
                assert answer.status == 403
        for body in ({"mode": "canary", "canary": True}, {"workers": [True, True]}):
            path = "/mode" if "mode" in body else "/scale"
            async with made.client.post(made.bridge.admin_url + path, json=body) as answer:
                assert answer.status == 400

    run(course)


def test_who_sends_half_a_head_or_half_a_body_is_not_waited_for() -> None:
    short = replace(SETTINGS.gateway, body_s=0.3, idler_s=0.4)

    async def course(made: Scene) -> None:
        async with asyncio.timeout(5.0):
            assert await raw(made.bridge.url, b"POST /v1/completions HTT") == b""
            head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            assert b" 408 " in await raw(made.bridge.url, head + b"Content-Length: 100\r\n\r\n{", b"\r\n")

    run(course, settings=replace(SETTINGS, gateway=short))


def test_who_does_not_read_loses_the_place() -> None:
    async def endless(request: web.Request, body: bytes) -> web.StreamResponse:
        out = await begun(request)
        while True:
            await out.write(chunk("x" * 50_000))

    async def course(made: Scene) -> None:
        made.backends[0].answer = endless
        parts = urlsplit(made.bridge.url)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1)
        body = b'{"prompt": "x", "stream": true}'
        head = (
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        writer.write(head % len(body) + body)
        async with asyncio.timeout(10.0):
            await made.backends[0].hung_up.wait()
        writer.close()

    run(course, 1, replace(SETTINGS, gateway=replace(SETTINGS.gateway, stall_s=0.5)))


def test_streams_go_on_while_another_policy_is_made() -> None:
    async def course(made: Scene) -> None:
        made.backends[0].answer = made.backends[1].answer = streamed
        change = asyncio.create_task(made.bridge.exchange("round_robin"))
        async with made.ask({"prompt": "x", "stream": True}) as answer:
            assert (await answer.read()).endswith(DONE)
        await change
        assert made.bridge.decider.policy.placement.name == "round_robin"

    run(course)
