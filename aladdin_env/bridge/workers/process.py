"""A server process of ours, under a supervisor."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aladdin_env.bridge.workers import supervisor
from aladdin_env.bridge.workers.timing import Timing
from aladdin_env.errors import OutsideFault

_LOG_BYTES = 8 << 20  # of each of the two files of a log
_TAIL_BYTES = 16384
_KILL_S = 15.0  # a killed process that is still there is stuck in the kernel
_log = logging.getLogger(__name__)


class ServerProcess:
    """One server and all processes that it starts; what they say is in ``log``.

    Attributes:
        ended: Set when none of them is left.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.ended = asyncio.Event()
        self._log = log
        self._process = process
        self._waiter = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], log: Path) -> ServerProcess:
        """Run ``command``.

        Raises:
            OutsideFault: This machine starts no more processes.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", supervisor.__file__, str(log), str(_LOG_BYTES)),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C on our terminal is for us to answer
            )
        except OSError as error:
            raise OutsideFault(f"no process can be started: {error.strerror}") from None
        return cls(process, log)

    @property
    def end(self) -> str:
        """How it ended, in a few words."""
        code = self._process.returncode
        if code is None:
            return "it runs"
        if code <= 128:
            return f"it ended with exit status {code}"
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(code - 128).name}"
        return f"it ended with exit status {code}"

    async def stop(self, grace_s: float, timing: Timing) -> None:
        """Ask all its processes to end, kill those that have not after ``grace_s``, and return when none is left.

        Raises:
            OutsideFault: It cannot be killed.
        """
        self._order(supervisor.TERMINATE)
        if not await timing.within(grace_s, self.ended):
            self._order(supervisor.KILL)
            if not await timing.within(_KILL_S, self.ended):
                raise OutsideFault(f"a server (log: {self._log}) cannot be killed: it hangs in the kernel")
        await self._waiter

    def last_words(self, lines: int = 30) -> str:
        """The end of its log."""
        with suppress(OSError), self._log.open("rb") as stream:
            stream.seek(max(0, self._log.stat().st_size - _TAIL_BYTES))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def _order(self, order: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        if not self.ended.is_set() and not stdin.is_closing():
            stdin.write(order)

    async def _wait(self) -> None:
        await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(OSError):  # an order that came too late
            await self._process.stdin.wait_closed()
        self.ended.set()
