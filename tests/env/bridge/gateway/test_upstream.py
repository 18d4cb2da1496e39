"""The client for workers, in front of a server that says, byte for byte, what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aladdin_env.bridge.gateway.settings import GatewaySettings
from aladdin_env.bridge.gateway.upstream import Answer, Unanswered, Upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Runs one script per connection.

    Attributes:
        heads: Of the requests that it has read, in bytes.
        connections: How many there have been.
        closed: Set once a client has closed one.
    """

    def __init__(self, script: Script) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.closed = asyncio.Event()
        self.url = ""
        self._script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._script(reader, writer)
        except (ConnectionResetError, asyncio.IncompleteReadError):
            self.closed.set()
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Read one with its body."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        return await reader.readexactly(int(length[0].split(b":")[1])) if length else b""


@asynccontextmanager
async def scripted(
    answers: bytes | Script, *, closes: bool = False, **settings: Any
) -> AsyncIterator[tuple[Server, Upstream]]:
    """A server with these bytes as its answer to every request, or with a script of its own, and the client."""

    async def usual(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.request(reader)
            writer.write(answers if isinstance(answers, bytes) else b"")
            await writer.drain()
            if closes:
                return

    server = Server(usual if isinstance(answers, bytes) else answers)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    upstream = Upstream(GatewaySettings(**settings))
    await upstream.open()
    try:
        yield server, upstream
    finally:
        await upstream.close()
        listener.close()


async def post(server: Server, upstream: Upstream, body: bytes = b"{}") -> Answer:
    return await upstream.send("POST", server.url, "/v1/x?a=%2F", [("X-One", "1")], body)


async def asked(answer: bytes, *, closes: bool = False) -> tuple[int, bytes, str]:
    """Status, body and content type of an answer in these bytes."""
    async with scripted(answer, closes=closes) as (server, upstream):
        with await post(server, upstream) as got:
            return got.status, await got.read(), got.content_type


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "closes", "expected"),
    [
        (OK, False, (200, b"ok", "")),
        (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Late: 1\r\n\r\n", False, (200, b"abcde", "text/event-stream")),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True, (200, b"until the end", "")),
        (b"HTTP/1.0 404 No\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n", True, (404, b"", "")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, (204, b"", "")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, False, (200, b"ok", "")),
    ],
)
def test_every_way_of_ending_an_answer(answer: bytes, closes: bool, expected: tuple[int, bytes, str]) -> None:
    assert asyncio.run(asked(answer, closes=closes)) == expected


def test_what_is_sent_is_what_was_given() -> None:
    async def main() -> bytes:
        async with scripted(OK) as (server, upstream):
            with await post(server, upstream, b"{}") as answer:
                await answer.read()
            return server.heads[0].replace(server.url[7:].encode(), b"HOST")

    expected = b"POST /v1/x?a=%2F HTTP/1.1\r\nHost: HOST\r\nX-One: 1\r\nContent-Length: 2\r\n\r\n"
    assert asyncio.run(main()) == expected


def test_a_line_break_in_a_header_is_not_sent() -> None:
    async def main() -> None:
        async with scripted(OK) as (server, upstream):
            await upstream.send("GET", server.url, "/", [("X-One", "1\r\nX-Two: 2")], None)

    with pytest.raises(ValueError, match="line break"):
        asyncio.run(main())


def test_the_headers_come_as_they_are_trailers_do_not() -> None:
    async def main() -> list[tuple[str, str]]:
        answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nX-Empty:\r\nX-Utf: \xc3\xa4\r\n"
        answer += b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Late: 1\r\n\r\n"
        async with scripted(answer) as (server, upstream):
            with await post(server, upstream) as got:
                await got.read()
                return got.headers

    assert asyncio.run(main()) == [
        ("Set-Cookie", "a"), ("set-cookie", "b"), ("X-Empty", ""), ("X-Utf", "ä"), ("Transfer-Encoding", "chunked"),
    ]  # fmt: skip


def test_a_connection_is_kept_for_the_next_request() -> None:
    async def main() -> int:
        async with scripted(OK) as (server, upstream):
            for _ in range(5):
                with await post(server, upstream) as answer:
                    await answer.read()
            return server.connections

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        OK + b"more than was asked for",
        OK + OK,
    ],
)
def test_a_connection_that_cannot_be_trusted_is_not_kept(answer: bytes) -> None:
    async def main() -> int:
        async with scripted(answer) as (server, upstream):
            for _ in range(3):
                with await post(server, upstream) as got:
                    assert await got.read() == b"ok"
            return server.connections

    assert asyncio.run(main()) == 3


def test_head_has_no_body_whatever_it_says() -> None:
    async def main() -> tuple[int, bytes]:
        async with scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n") as (server, upstream):
            with await upstream.send("HEAD", server.url, "/", [], None) as got:
                return got.status, await got.read()

    assert asyncio.run(main()) == (200, b"")


def test_a_kept_connection_that_the_worker_has_closed_is_replaced() -> None:
    """The worker closes exactly when the second request arrives: what a client cannot know in time."""

    async def main() -> tuple[int, int]:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.request(reader)
            writer.write(OK)
            await reader.readexactly(1)  # of the next one

        async with scripted(script) as (server, upstream):
            for _ in range(3):
                with await post(server, upstream) as got:
                    assert await got.read() == b"ok"
            return server.connections, len(server.heads)

    assert asyncio.run(main()) == (3, 3)


def test_a_new_connection_that_is_closed_is_not_tried_again() -> None:
    async def main() -> int:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.request(reader)

        async with scripted(script) as (server, upstream):
            with pytest.raises(Unanswered, match="closed the connection"):
                await post(server, upstream)
            return server.connections

    assert asyncio.run(main()) == 1


@pytest.mark.parametrize(
    ("answer", "closes", "says"),
    [
        (b"SSH-2.0-OpenSSH\r\n", False, "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, False, "a head of more than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", True, "closed the connection"),
        (CHUNKED + b"5\r\nab", True, "closed the connection"),
        (CHUNKED + b"zz\r\nab", False, "no HTTP answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", True, "no HTTP answer"),
        (b"", False, "nothing came for 0.2 s"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", False, "nothing came for 0.3 s"),
    ],
)
def test_an_answer_that_is_none(answer: bytes, closes: bool, says: str) -> None:
    async def main() -> int:
        limits = {"first_byte_s": 0.2, "idle_s": 0.3}
        async with scripted(answer, closes=closes, **limits) as (server, upstream):
            with pytest.raises(Unanswered, match=says), await post(server, upstream) as got:
                await got.read()
            return upstream.connections

    assert asyncio.run(main()) == 0


def test_what_came_before_a_break_is_passed_on_first() -> None:
    async def main() -> list[bytes]:
        got = []
        async with scripted(CHUNKED + b"5\r\nfirst\r\n", closes=True) as (server, upstream):
            with await post(server, upstream) as answer, pytest.raises(Unanswered):
                while data := await answer.some():
                    got.append(data)
        return got

    assert asyncio.run(main()) == [b"first"]


def test_whoever_gives_up_closes_the_connection_so_that_the_worker_notices() -> None:
    async def main() -> int:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.request(reader)
            await reader.readexactly(1)

        async with scripted(script) as (server, upstream):
            task = asyncio.create_task(post(server, upstream))
            while not server.heads:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait_for(server.closed.wait(), 5.0)
            return upstream.connections

    assert asyncio.run(main()) == 0


def test_a_slow_reader_holds_the_worker_back_and_is_not_taken_for_its_silence() -> None:
    size = 8 << 20

    async def main() -> tuple[int, int]:
        sent = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await server.request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size >> 16):
                writer.write(b"x" * (1 << 16))
                await writer.drain()
                sent += 1 << 16

        async with scripted(script, idle_s=0.2) as (server, upstream):
            with await upstream.send("GET", server.url, "/", [], None, whole=False) as answer:
                await asyncio.sleep(1.0)  # nobody reads: five times as long as a worker may be silent
                held_back_at, got = sent, 0
                while data := await answer.some():
                    got += len(data)
            return held_back_at, got

    held_back_at, got = asyncio.run(main())
    assert held_back_at < size
    assert got == size


def test_connections_that_nobody_uses_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aladdin_env.bridge.gateway.upstream.pool._KEEP_S", 0.1)

    async def main() -> list[int]:
        async with scripted(OK) as (server, upstream):
            answers = await asyncio.gather(*(post(server, upstream) for _ in range(10)))
            for answer in answers:
                with answer:
                    await answer.read()
            counts = [upstream.connections]
            await asyncio.wait_for(server.closed.wait(), 5.0)
            await asyncio.sleep(0.6)
            return [*counts, upstream.connections]

    assert asyncio.run(main()) == [10, 0]


def test_nobody_there() -> None:
    async def main() -> None:
        upstream = Upstream(GatewaySettings())
        await upstream.open()
        try:
            await upstream.send("GET", "http://127.0.0.1:1", "/", [], None)
        finally:
            await upstream.close()

    with pytest.raises(Unanswered, match=r"(?i)connect"):
        asyncio.run(main())


def test_tls_where_there_is_none_is_told_in_one_line() -> None:
    async def main() -> None:
        async with scripted(OK) as (server, upstream):
            await upstream.send("GET", server.url.replace("http:", "https:"), "/", [], None)

    with pytest.raises(Unanswered) as caught:
        asyncio.run(main())
    assert "\n" not in str(caught.value)
