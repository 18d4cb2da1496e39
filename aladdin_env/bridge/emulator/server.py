"""An emulated worker behind a port, in this process or as a program."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from collections.abc import Callable
from types import TracebackType

from aiohttp import web

from aladdin_env.bridge.emulator.clock import Clock, LoopClock, Timer
from aladdin_env.bridge.emulator.engine import Engine
from aladdin_env.bridge.emulator.front import Front
from aladdin_env.bridge.emulator.settings import EmulatorSettings, Faults
from aladdin_env.bridge.emulator.worker import Worker
from aladdin_env.errors import InputError

_KEEP_ALIVE_S = 5.0  # as vLLM's
_BACKLOG = 2048
_CLOSING_S = 0.05  # for handlers to see that they are cancelled


class EmulatedServer:
    """A worker that speaks HTTP: ``async with EmulatedServer(settings) as server: ... server.url``.

    Args:
        settings: What it is.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        clock: Where its time comes from; by default the real time from the start on.

    Attributes:
        worker: The worker behind the port, from the start on.
        port: The port it listens on.

    Raises:
        InputError: The port is taken, or the address is none of this machine (on entering).
    """

    def __init__(
        self, settings: EmulatorSettings, *, host: str = "127.0.0.1", port: int = 0, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self.port = port
        self.worker: Worker
        self._host = host
        self._clock = clock
        self._own_clock: LoopClock | None = None
        self._front: Front
        self._runner: web.AppRunner | None = None
        self._start: Timer | None = None
        self._ready = asyncio.Event()

    @property
    def url(self) -> str:
        """Address of the server, without a trailing slash."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def faults(self) -> Faults:
        """How it misbehaves; may be replaced while it runs."""
        return self._front.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._front.faults = faults

    async def __aenter__(self) -> EmulatedServer:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; :meth:`ready` follows after the start delay."""
        kind = self.settings.fast_kind
        await asyncio.to_thread(Engine.warm_up, kind)
        clock = self._clock
        if clock is None:
            clock = self._own_clock = LoopClock()
        self.worker = Worker(kind, clock, self.settings.model_name)
        self._front = Front(self.settings, self.worker)
        self._runner = web.AppRunner(
            self._front.application(), handler_cancellation=True, access_log=None, keepalive_timeout=_KEEP_ALIVE_S,
            shutdown_timeout=_CLOSING_S,
        )  # fmt: skip
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self.port, backlog=_BACKLOG).start()
        except OSError as error:
            await self.stop()
            raise _not_listening(self._host, self.port, error) from None
        self.port = int(self._runner.addresses[0][1])
        if self.settings.start_delay_s > 0:
            self._start = clock.call_at(clock.now_s() + self.settings.start_delay_s, self._become_ready)
        else:
            self._become_ready()

    async def ready(self) -> None:
        """Wait until it serves."""
        await self._ready.wait()

    async def stop(self, timeout_s: float = 0.0) -> None:
        """Take no more requests, let those under way end for at most ``timeout_s``, break off what is left."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        if self._start is not None:
            self._start.cancel()
        self._front.stopping = True
        for site in list(runner.sites):
            await site.stop()
        if timeout_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._front.quiet.wait(), timeout_s)
        await runner.cleanup()
        self.worker.close()
        if self._own_clock is not None:
            self._own_clock.close()

    def _become_ready(self) -> None:
        self._front.ready = True
        self._ready.set()


def _not_listening(host: str, port: int, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError("port", port, "something listens there already: give another, or 0 for any free one")
    if error.errno == errno.EACCES:
        return InputError("port", port, "you may not listen there: give 1024 or more")
    return InputError("host", host, f"give an address of this machine ({error.strerror or error})")


def run(
    settings: EmulatorSettings, host: str, port: int, *, shutdown_timeout_s: float, announce: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        settings: What it is.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        shutdown_timeout_s: How long requests under way may take to end.
        announce: Told the address once it serves.

    Raises:
        InputError: As :class:`EmulatedServer`.
        KeyboardInterrupt: It was Ctrl-C.
    """
    serving = _serve(EmulatedServer(settings, host=host, port=port), shutdown_timeout_s, announce)
    try:
        import uvloop
    except ImportError:  # not on Windows
        asyncio.run(serving)
    else:
        uvloop.run(serving)


async def _serve(server: EmulatedServer, shutdown_timeout_s: float, announce: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Future[signal.Signals] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels this task
            loop.add_signal_handler(number, _note, told, number)
    try:
        await server.start()
        ready = asyncio.ensure_future(server.ready())
        await asyncio.wait((ready, told), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            announce(server.url)
        number = await told
        for other in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(other)  # a second one ends the process at once
        await server.stop(shutdown_timeout_s)
    finally:
        await server.stop()
    if number == signal.SIGINT:
        raise KeyboardInterrupt


def _note(told: asyncio.Future[signal.Signals], number: signal.Signals) -> None:
    if not told.done():
        told.set_result(number)
