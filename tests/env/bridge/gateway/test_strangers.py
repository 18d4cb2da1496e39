"""Who breaks the rules of HTTP gets 400, and nothing of what he sent is in the log."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit

import pytest

from .scene import scene

KEY = b"Bearer sk-my-secret"


async def sent(data: bytes) -> bytes:
    async with scene(1) as stage:
        where = urlsplit(stage.bridge.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 5.0)
        writer.close()
        return answer


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + KEY + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: " + KEY + b"\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + KEY + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + KEY + b"\r\n\r\n",
        KEY + b"\r\n\r\n",
    ],
    ids=["too long", "a zero byte", "no header", "no length", "no HTTP"],
)
def test_nothing_of_it_is_logged(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert asyncio.run(sent(data)).split(b" ")[1] == b"400"
    told = [record for record in caplog.records if record.getMessage().startswith("Error handling request")]
    assert told and all(record.levelno <= logging.INFO for record in told)
    assert "secret" not in caplog.text and "Traceback" not in caplog.text


def test_our_own_mistakes_are_logged_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    from aladdin_env.bridge.gateway.strangers import CONNECTION_LOG

    try:
        raise RuntimeError("ours")
    except RuntimeError:
        CONNECTION_LOG.exception("Error handling request from %s", "x")
    assert caplog.records[0].levelno == logging.ERROR and "RuntimeError: ours" in caplog.text
