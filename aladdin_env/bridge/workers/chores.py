"""Background tasks under names: each can be ended, and none can fail unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Hashable
from typing import Any

_log = logging.getLogger(__name__)


class Chores:
    """Tasks that run until they are done, dropped, or all is closed."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._dropped: set[asyncio.Task[None]] = set()

    def __contains__(self, name: Hashable) -> bool:
        return name in self._tasks

    def start(self, name: Hashable, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work``; one of that name must not be running."""
        if name in self._tasks:
            work.close()
            raise RuntimeError(f"{name} is running already")
        task = asyncio.create_task(work, name=str(name))
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))

    def drop(self, name: Hashable) -> None:
        """Cancel the task of that name, if there is one; it may take a while to end. One that drops itself goes on."""
        task = self._tasks.pop(name, None)
        if task is not None and not task.done():
            self._dropped.add(task)
            if task is not asyncio.current_task():
                task.cancel()

    async def close(self) -> None:
        """Cancel all, and return when they have ended."""
        for name in list(self._tasks):
            self.drop(name)
        await asyncio.gather(*self._dropped, return_exceptions=True)

    def _ended(self, name: Hashable, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        self._dropped.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s ended unexpectedly", task.get_name(), exc_info=task.exception())
