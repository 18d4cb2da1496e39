"""The client's side of an answer: written as it comes, given up where the client does not read."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from aladdin_env.bridge.gateway.problems import Problem

_UNREAD_BYTES = 32 << 10  # with less no write waits: asyncio's and aiohttp's limits are 64 KiB


async def body_of(request: web.Request, within_s: float) -> bytes:
    """The body of a request.

    Raises:
        Problem: it took longer than ``within_s``.
    """
    if request.content.is_eof():  # it is here already, as nearly always
        return await request.read()
    try:
        async with asyncio.timeout(within_s):
            return await request.read()
    except TimeoutError:
        raise Problem(408, "body_too_slow", f"the body took more than {within_s:g} s") from None


class Client:
    """Whoever asked, once the head of the answer is sent. Where it is gone, or stalls, its request is cancelled.

    Args:
        request: What it asked.
        out: The answer.
        stall_s: Longest time in which it reads nothing.
    """

    def __init__(self, request: web.Request, out: web.StreamResponse, stall_s: float) -> None:
        self._transport = request.transport
        self._out = out
        self._stall_s = stall_s

    async def write(self, data: bytes) -> None:
        """Send more.

        Raises:
            asyncio.CancelledError: the client is gone, or does not read.
        """
        try:
            if self._transport is None or self._transport.get_write_buffer_size() + len(data) < _UNREAD_BYTES:
                await self._out.write(data)
                return
            async with asyncio.timeout(self._stall_s):
                await self._out.write(data)
        except TimeoutError:
            self.hang_up()
            raise asyncio.CancelledError from None
        except aiohttp.ClientConnectionResetError:
            raise asyncio.CancelledError from None

    async def end(self, data: bytes) -> web.StreamResponse:
        """Send the rest, if there is one, and the end of the answer."""
        if data:
            await self.write(data)
        try:
            async with asyncio.timeout(self._stall_s):
                await self._out.write_eof()
        except TimeoutError:
            self.hang_up()
            raise asyncio.CancelledError from None
        return self._out

    def hang_up(self) -> None:
        """Close the connection in the middle of an answer, so that nobody takes it for a whole one."""
        if self._transport is not None:
            self._transport.abort()
