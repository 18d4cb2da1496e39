"""The page's stream: what is in it, who is dropped, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aladdin_env.bridge.gateway.front import runner_of
from aladdin_env.bridge.watch import WatchOptions

from ..workers.pretend import soon
from .stage import Stage

QUICK = WatchOptions(every_s=0.05, most_pages=2)


@asynccontextmanager
async def listening(stage: Stage) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/events", stage.watch.pages()["/events"])
    runner = runner_of(app, 5.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/events"
    finally:
        stage.watch.close()
        await asyncio.wait_for(runner.cleanup(), 4.0)  # it does not wait for the streams


async def event(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    while not (line := await answer.content.readline()).startswith(b"data: "):
        assert line, "the stream has ended"
    return json.loads(line[6:])


def test_first_everything_then_news() -> None:
    async def story() -> None:
        stage = Stage(options=QUICK)
        stage.ready(0)
        stage.answer(stage.request("before"))
        async with listening(stage) as url, aiohttp.ClientSession() as session, session.get(url) as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            first = await event(answer)
            assert [decision["request_id"] for decision in first["decisions"]] == ["before"]
            assert first["workers"][0]["state"] == "ready" and len(first["series"]["arrived"]) == 90
            for i in range(3):
                stage.request(f"r{i}")
            news = await event(answer)
            assert [decision["request_id"] for decision in news["decisions"]] == ["r2", "r1", "r0"]  # in one event
            assert news["requests"]["arrived"] == news["decisions_noted"] == 4
            assert (await event(answer))["decisions"] == []
            assert stage.watch.feed.clients == 1
        await soon(lambda: stage.watch.feed.clients == 0)

    asyncio.run(story())


def test_it_costs_nothing_while_nobody_listens() -> None:
    async def story() -> None:
        stage = Stage(options=QUICK)
        async with listening(stage) as url, aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.get(url) as answer:
                    await event(answer)
                    assert stage.watch.feed._ticker is not None
                await soon(lambda: stage.watch.feed._ticker is None)

    asyncio.run(story())


def test_more_than_so_many_are_refused() -> None:
    async def story() -> None:
        stage = Stage(options=QUICK)
        async with listening(stage) as url, aiohttp.ClientSession() as session:
            async with session.get(url) as one, session.get(url) as two:
                await event(one)
                await event(two)
                async with session.get(url) as three:
                    assert (three.status, three.headers["Retry-After"]) == (503, "5")
            await soon(lambda: stage.watch.feed.clients == 0)
            async with session.get(url) as again:
                assert again.status == 200

    asyncio.run(story())


def test_closing_ends_the_streams_and_begins_no_more() -> None:
    async def story() -> None:
        stage = Stage(options=QUICK)
        async with listening(stage) as url, aiohttp.ClientSession() as session, session.get(url) as answer:
            await event(answer)
            stage.watch.close()
            async with asyncio.timeout(5.0):
                await answer.content.read()  # to its end
            async with session.get(url) as late:
                assert late.status == 503

    asyncio.run(story())


def test_who_does_not_read_is_dropped_and_others_go_on() -> None:
    async def story() -> None:
        stage = Stage(options=WatchOptions(every_s=0.05))
        stage.ready(*range(4), url="http://" + "x" * 200_000 + "{}")  # so that no buffer on the way holds much
        async with listening(stage) as url, aiohttp.ClientSession() as session:
            host, port = url.split("/")[2].split(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 10)
            writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readline()
            async with session.get(url, read_bufsize=1 << 24) as answer:
                await soon(lambda: stage.watch.feed.clients == 2)
                async for _ in answer.content.iter_any():
                    if stage.watch.feed.clients == 1:
                        break
                assert stage.watch.feed.clients == 1
                await answer.content.readany()
            writer.close()

    asyncio.run(asyncio.wait_for(story(), 60.0))


def test_a_fault_ends_the_streams_and_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        stage = Stage(options=QUICK)
        async with listening(stage) as url, aiohttp.ClientSession() as session:
            async with session.get(url) as answer:
                await event(answer)
                monkeypatch.setattr(stage.watch.status, "now", lambda: 1 / 0)
                async with asyncio.timeout(5.0):
                    await answer.content.read()
            assert "the page's stream failed" in caplog.text
            monkeypatch.undo()
            async with session.get(url) as answer:  # as the page does
                await event(answer)
                await event(answer)

    asyncio.run(story())
