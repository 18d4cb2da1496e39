"""The bridge over real HTTP: what clients and workers see of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aladdin_env.bridge.gateway.settings import GatewaySettings
from aladdin_env.bridge.server import Bridge, Listening
from aladdin_env.bridge.workers.static import StaticPool
from aladdin_env.errors import InputError
from aladdin_env.simulator.state import FAILED

from .backend import DONE, Backend, begun, broken_off, chunk, only_begun, status, streamed
from .scene import SETTINGS, Scene, run


def test_whole_answers_and_headers_pass() -> None:
    async def course(made: Scene) -> None:
        headers = {"X-Request-Id": "mine", "traceparent": "00-ab-cd-01", "Authorization": "Bearer k"}
        headers |= {"Connection": "x-hop", "X-Hop": "1"}
        async with made.ask(headers=headers) as answer:
            assert answer.status == 200 and answer.headers["X-Request-Id"] == "mine"
            assert answer.headers["X-From"] == "worker" and (await answer.json())["usage"]["completion_tokens"] == 3
        ((path, seen, body),) = [seen for backend in made.backends for seen in backend.seen]
        assert path == "/v1/completions" and json.loads(body) == {"prompt": "hello"}
        assert (seen["x-request-id"], seen["traceparent"], seen["authorization"]) == ("mine", "00-ab-cd-01", "Bearer k")
        assert "x-hop" not in seen
        async with made.ask() as answer:
            assert len(answer.headers["X-Request-Id"]) == 32
        assert made.bridge.cluster.view.cluster["finished"] == 2

    run(course)


@pytest.mark.parametrize("wants_usage", [False, True])
def test_streams_pass_as_they_are(wants_usage: bool) -> None:
    async def course(made: Scene) -> None:
        for backend in made.backends:
            backend.answer = streamed
        body: dict[str, Any] = {"prompt": [1, 2, 3], "stream": True}
        if wants_usage:
            body["stream_options"] = {"include_usage": True}
        async with made.ask(body) as answer:
            data = await answer.read()
        assert answer.content_type == "text/event-stream" and data.endswith(DONE)
        assert data.startswith(chunk("a") + chunk("b") + chunk("c")) and (b'"usage"' in data) == wants_usage
        cluster = made.bridge.cluster.view.cluster
        assert (cluster["finished"], cluster["finished_output_tokens"]) == (1, 3)
        assert cluster["arrived_prompt_tokens"] == 3

    run(course)


def test_a_chunk_is_passed_on_before_the_next_one_is_there() -> None:
    async def course(made: Scene) -> None:
        go_on = asyncio.Event()

        async def slow(request: web.Request, body: bytes) -> web.StreamResponse:
            out = await begun(request)
            await out.write(chunk("a"))
            await go_on.wait()
            await out.write(DONE)
            await out.write_eof()
            return out

        made.backends[0].answer = slow
        async with made.ask({"prompt": "x", "stream": True}) as answer:
            assert await answer.content.readuntil(b"\n\n") == chunk("a")
            go_on.set()
            assert await answer.read() == DONE

    run(course, workers=1)


@pytest.mark.parametrize("code", [500, 502, 503, 429])
def test_another_worker_is_asked_before_the_first_byte(code: int) -> None:
    async def course(made: Scene) -> None:
        made.backends[0].answer = status(code)
        for _ in range(2):
            async with made.ask() as answer:
                assert answer.status == 200
        assert made.bridge.cluster.view.cluster["retries"] >= 1

    run(course)


def test_a_stream_of_which_only_the_head_came_is_asked_for_elsewhere() -> None:
    async def course(made: Scene) -> None:
        made.backends[0].answer = only_begun
        made.backends[1].answer = streamed
        for _ in range(2):  # one of them goes to the first
            async with made.ask({"prompt": "x", "stream": True}) as answer:
                assert answer.status == 200 and (await answer.read()).endswith(DONE)
        assert made.backends[0].seen and len(made.backends[1].seen) == 2

    run(course)


def test_the_first_token_may_take_longer_than_any_later_one() -> None:
    async def slow_start(request: web.Request, body: bytes) -> web.StreamResponse:
        out = await begun(request)  # as vLLM does, whose head comes before the prefill
        await asyncio.sleep(0.6)
        await out.write(chunk("a") + DONE)
        await out.write_eof()
        return out

    async def course(made: Scene) -> None:
        made.backends[0].answer = slow_start
        async with made.ask({"prompt": "x", "stream": True}) as answer:
            assert (await answer.read()).endswith(DONE)

    run(course, 1, replace(SETTINGS, gateway=replace(SETTINGS.gateway, first_byte_s=5.0, idle_s=0.2)))


def test_a_workers_own_error_is_passed_on_when_nobody_else_can() -> None:
    async def course(made: Scene) -> None:
        made.backends[0].answer = status(503, **{"Retry-After": "7"})
        async with made.ask() as answer:
            assert answer.status == 503 and answer.headers["Retry-After"] == "7"
            assert (await answer.json())["error"]["message"] == "mine"
        assert len(made.backends[0].seen) == 3  # two retries
        made.backends[0].answer = status(400)
        async with made.ask() as answer:
            assert answer.status == 400
        assert len(made.backends[0].seen) == 4

    run(course, workers=1)


def test_a_dead_worker_is_left_alone_and_nobody_notices() -> None:
    async def course(made: Scene) -> None:
        await made.backends[0].__aexit__()
        for _ in range(12):
            async with made.ask() as answer:
                assert answer.status == 200
        assert made.bridge.pool.workers[0].status == FAILED
        assert made.bridge.cluster.view.workers["status"][0] == FAILED

    run(course)


@pytest.mark.parametrize("streams", [True, False])
def test_an_answer_that_is_broken_off_ends_with_an_error(streams: bool) -> None:
    async def course(made: Scene) -> None:
        for backend in made.backends:
            backend.answer = broken_off
        async with made.ask({"prompt": "x", "stream": streams}) as answer:
            data = await answer.read()
        assert data.startswith(chunk("a")) and DONE not in data
        last = json.loads(data.rsplit(b"data: ", 1)[1])
        assert last["error"]["code"] == "worker_failed" and last["error"]["type"] == "server_error"
        assert sum(len(backend.seen) for backend in made.backends) == 1  # never asked again after the first byte
        assert made.bridge.cluster.view.cluster["failed"] == 1

    run(course)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_hang_up_reaches_the_worker(phase: str) -> None:
    async def course(made: Scene) -> None:
        async def endless(request: web.Request, body: bytes) -> web.StreamResponse:
            if phase == "prefill":
                await asyncio.sleep(60)
            out = await begun(request)
            while True:
                await out.write(chunk("a"))
                await asyncio.sleep(0.01)

        backend = made.backends[0]
        backend.answer = endless
        task = asyncio.create_task(made.ask({"prompt": "x", "stream": True}).__aenter__())
        await backend.reached.wait()
        if phase == "decode":
            answer = await task
            await answer.content.readany()
            answer.close()
        else:
            task.cancel()
        await asyncio.wait_for(backend.hung_up.wait(), 5.0)
        await made.settled()

    run(course, workers=1)


def test_who_waits_and_hangs_up_is_gone() -> None:
    async def course(made: Scene) -> None:
        worker = made.bridge.pool.workers[0]
        worker.fail("away")
        task = asyncio.create_task(made.ask().__aenter__())
        while made.bridge.dispatcher.held == 0:
            await asyncio.sleep(0.01)
        task.cancel()
        await made.settled()
        async with made.ask() as answer:
            assert answer.status == 503 and answer.headers["Retry-After"] == "2"
            assert (await answer.json())["error"]["code"] == "no_worker"
        assert made.backends[0].seen == []

    run(course, workers=1)


@pytest.mark.parametrize(
    ("body", "headers", "code", "reason"),
    [
        (b"{", {"Content-Type": "application/json"}, 400, "invalid_json"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"prompt": "' + b"x" * 200_000 + b'"}', {"Content-Type": "application/json"}, 413, "body_too_large"),
    ],
)
def test_bad_requests_are_told_so(body: bytes, headers: dict[str, str], code: int, reason: str) -> None:
    async def course(made: Scene) -> None:
        async with made.ask(body, headers=headers) as answer:
            assert answer.status == code and (await answer.json())["error"]["code"] == reason
        async with made.ask() as answer:
            assert answer.status == 200

    run(course, settings=replace(SETTINGS, gateway=GatewaySettings(max_body_bytes=100_000)))


def test_keys_are_asked_for_and_not_passed_on() -> None:
    async def course(made: Scene) -> None:
        for key in (None, "Bearer wrong", "Bearer sesame", "sesame"):
            async with made.ask(headers={"Authorization": key} if key else {}) as answer:
                assert answer.status == (200 if key == "Bearer sesame" else 401)
        ((_, headers, _),) = made.backends[0].seen
        assert "authorization" not in headers
        assert "sesame" not in repr(made.bridge.settings)

    run(course, workers=1, settings=replace(SETTINGS, gateway=GatewaySettings(api_keys=("sesame", "two"))))


def test_other_paths_pass_and_dangerous_ones_do_not() -> None:
    async def course(made: Scene) -> None:
        made.backends[0].answer = status(200)
        url = made.bridge.url
        async with made.client.post(f"{url}/tokenize?a=1", data=b"\x00\x01") as answer:
            assert answer.status == 200
        assert made.backends[0].seen[-1][0] == "/tokenize?a=1" and made.backends[0].seen[-1][2] == b"\x00\x01"
        async with made.client.get(f"{url}/v1/models") as answer:
            assert [model["id"] for model in (await answer.json())["data"]] == ["m"]
        async with made.client.post(f"{url}/sleep") as answer:
            assert answer.status == 403

    run(course, workers=1)


def test_objectives_in_headers_are_those_that_are_judged_by() -> None:
    async def course(made: Scene) -> None:
        headers = {"x-llm-d-slo-ttft-ms": "0.11", "x-llm-d-slo-tpot-ms": "0.11"}  # the tightest that counts
        async with made.ask(headers=headers) as answer:
            assert answer.status == 200
        async with made.ask() as answer:
            assert answer.status == 200
        cluster = made.bridge.cluster.view.cluster
        assert (cluster["finished"], cluster["slo_met"], cluster["ttft_missed"]) == (2, 1, 1)

    run(course)


def test_admin_calls_change_who_decides() -> None:
    async def course(made: Scene) -> None:
        async def call(path: str, **body: object) -> tuple[int, dict[str, Any]]:
            async with made.client.post(made.bridge.admin_url + path, json=body) as answer:
                return answer.status, await answer.json()

        assert (await call("/mode", mode="canary", canary=0.5))[1]["canary"] == 0.5
        assert (await call("/policy", policy="round_robin"))[1]["policy"] == "round_robin"
        code, told = await call("/policy", policy="raund_robin")
        assert code == 400 and "round_robin" in told["error"]["message"]
        assert (await call("/mode", mode="bold"))[0] == 400
        assert (await call("/scale", workers=[9]))[0] == 400
        async with made.client.get(made.bridge.admin_url + "/../etc/passwd") as answer:
            assert answer.status == 404
        async with made.client.get(made.bridge.admin_url + "/state") as answer:
            assert (await answer.json())["mode"] == "canary"
        async with made.client.post(made.bridge.url + "/mode", json={"mode": "shadow"}):
            assert made.bridge.decider.mode == "canary"  # clients cannot

    run(course)


def test_a_worker_that_is_drained_gets_no_new_requests_until_that_is_undone() -> None:
    async def course(made: Scene) -> None:
        async def drain(**body: object) -> tuple[int, dict[str, Any]]:
            async with made.client.post(made.bridge.admin_url + "/drain", json=body) as answer:
                return answer.status, await answer.json()

        assert (await drain(worker=0))[1]["drained"] == [0]
        for _ in range(4):
            async with made.ask() as answer:
                assert answer.status == 200
        assert [len(backend.seen) for backend in made.backends] == [0, 4]
        assert (await drain(worker=0, undo=True))[1]["drained"] == []
        for _ in range(4):
            async with made.ask() as answer:
                assert answer.status == 200
        assert made.backends[0].seen
        assert (await drain(worker=2))[0] == (await drain(worker=0, undo=1))[0] == (await drain())[0] == 400

    run(course)


def test_with_keys_what_tells_of_workers_is_for_operators_only() -> None:
    keyed = replace(SETTINGS, gateway=replace(SETTINGS.gateway, api_keys=("secret",)))

    async def course(made: Scene) -> None:
        async def status(url: str) -> int:
            async with made.client.get(url) as answer:
                return answer.status

        for page in ("/status", "/ui"):
            assert await status(made.bridge.url + page) == 401
            assert await status(made.bridge.admin_url + page) == 200
        assert await status(made.bridge.url + "/metrics") == 200

    run(course, settings=keyed)


def test_a_shutdown_finishes_what_is_there() -> None:
    async def whole() -> None:
        go_on = asyncio.Event()

        async def slow(request: web.Request, body: bytes) -> web.StreamResponse:
            out = await begun(request)
            await out.write(chunk("a"))
            await go_on.wait()
            await out.write(chunk("b") + DONE)
            await out.write_eof()
            return out

        async with Backend() as backend, aiohttp.ClientSession() as client:
            backend.answer = slow
            bridge = await Bridge(StaticPool([backend.url]), SETTINGS).__aenter__()
            answer = await client.post(f"{bridge.url}/v1/completions", json={"prompt": "x", "stream": True})
            await answer.content.readuntil(b"\n\n")
            closing = asyncio.create_task(bridge.__aexit__())
            await asyncio.sleep(0.05)
            go_on.set()
            assert (await answer.read()).endswith(DONE)
            await closing
            with pytest.raises(aiohttp.ClientError):
                await client.get(f"{bridge.url}/health")

    asyncio.run(whole())


def test_a_port_in_use_and_wrong_certificates_are_told(tmp_path: Any) -> None:
    async def whole() -> None:
        async with Backend() as backend:
            port = int(backend.url.rsplit(":", 1)[1])
            with pytest.raises(InputError, match=r"port: .* is not valid; it cannot be listened on"):
                await Bridge(StaticPool([backend.url]), replace(SETTINGS, listening=Listening(port=port))).__aenter__()
            (tmp_path / "cert.pem").write_text("none")
            tls = Listening(port=0, certificate=tmp_path / "cert.pem")
            with pytest.raises(InputError, match=r"--tls-cert.*give a certificate and its key"):
                await Bridge(StaticPool([backend.url]), replace(SETTINGS, listening=tls)).__aenter__()

    asyncio.run(whole())
