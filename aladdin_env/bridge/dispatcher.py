"""Requests between the front and the workers: placed, held until a worker can take them, placed again, ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from aladdin_env.bridge.decider import Decider
from aladdin_env.bridge.events import Ticket, Watcher
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.errors import InputError
from aladdin_env.policy import HOLD, REJECT


class Shed(Exception):
    """A request is refused.

    Attributes:
        reason: For machines: ``too_many_requests``, ``queue_full``, ``queue_timeout``, ``rejected``, ``no_worker``,
            ``too_long`` or ``shutting_down``.
        retry_after_s: When to try again; None: never, it would be refused again.
    """

    def __init__(self, reason: str, retry_after_s: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Queueing:
    """How requests wait at the bridge.

    Attributes:
        max_hold_s: Longest wait of a request for a worker, seconds.
        max_held: Most requests that wait.
        retry_after_s: What a client that was refused is told, seconds.
    """

    max_hold_s: float = 30.0
    max_held: int = 1000
    retry_after_s: float = 2.0


class Dispatcher:
    """Places requests, and tells the cluster and whoever watches what becomes of them. For one event loop.

    Args:
        cluster: The arrays.
        decider: Who decides.
        watcher: Hears of everything.
        queueing: How requests wait.
        clock: Seconds since the bridge began.
        seed: Of the requests' coins.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        decider: Decider,
        watcher: Watcher,
        queueing: Queueing,
        clock: Callable[[], float],
        seed: int | None = None,
    ) -> None:
        self.cluster = cluster
        self.decider = decider
        self.queueing = queueing
        self.clock = clock
        self.closing = False
        self._watcher = watcher
        self._coins = random.Random(seed)
        self._held: dict[int, tuple[Ticket, asyncio.Future[int]]] = {}

    @property
    def held(self) -> int:
        """Requests that wait for a worker."""
        return len(self._held)

    def enter(self, request_id: str, prompt_tokens: int, klass: int, streams: bool) -> Ticket:
        """A request has arrived.

        Raises:
            Shed: it is refused at once.
        """
        now_s, coin = self.clock(), self._coins.random()
        if self.closing:
            raise self._refused("shutting_down", prompt_tokens, klass, now_s)
        if not self.cluster.has_room_for(prompt_tokens):
            raise self._refused("too_long", prompt_tokens, klass, now_s)
        try:
            row = self.cluster.enter(prompt_tokens, klass, coin, now_s)
        except InputError:
            raise self._refused("too_many_requests", prompt_tokens, klass, now_s) from None
        ticket = Ticket(request_id, row, klass, prompt_tokens, coin, streams, now_s)
        self._watcher.arrived(ticket)
        return ticket

    def place(self, ticket: Ticket) -> bool:
        """Decide where it goes: True where it has a slot now, False where it must :meth:`wait`.

        Raises:
            Shed: it is refused; it has ended.
        """
        answer = self._decide(ticket)
        if answer == REJECT:
            raise self._shed(ticket, "rejected", self.queueing.retry_after_s)
        return answer != HOLD

    async def wait(self, ticket: Ticket) -> None:
        """Wait until a worker takes it.

        Raises:
            Shed: nobody did in time, or too many wait; it has ended.
        """
        if len(self._held) >= self.queueing.max_held:
            raise self._shed(ticket, "queue_full", self.queueing.retry_after_s)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._held[ticket.row] = ticket, future
        left_s = self.queueing.max_hold_s - (self.clock() - ticket.arrived_s)
        try:
            answer = await asyncio.wait_for(future, max(0.0, left_s))
        except TimeoutError:
            reason = "queue_timeout" if self.cluster.accepts_any else "no_worker"
            raise self._shed(ticket, reason, self.queueing.retry_after_s) from None
        finally:
            self._held.pop(ticket.row, None)
        if answer == REJECT:
            raise self._shed(ticket, "rejected", self.queueing.retry_after_s)

    def offer(self) -> None:
        """Something has become free: those who wait are offered in the order of their arrival, up to the first HOLD."""
        for ticket, future in list(self._held.values()):
            if future.done():
                continue
            answer = self._decide(ticket)
            if answer == HOLD:
                return
            future.set_result(answer)

    def grew(self, ticket: Ticket, count: int) -> None:
        """So many more tokens have come back."""
        now_s = self.clock()
        if ticket.tokens == 0:
            ticket.first_s = now_s
        ticket.tokens += count
        self.cluster.token(ticket.row, now_s, count)
        self._watcher.grew(ticket, count, now_s)

    def came_whole(self, ticket: Ticket, tokens: int) -> None:
        """An answer that is no stream has come, of so many tokens, and is complete.

        When each was there nobody knows. It is judged by the time in which a stream would have been complete: TTFT,
        and ATGT for every further token.
        """
        now_s = self.clock()
        pace_s = float(self.cluster.view.slo[ticket.klass, 1])
        first_s = max(ticket.arrived_s, now_s - pace_s * (tokens - 1))
        ticket.first_s, ticket.tokens = first_s, tokens
        self.cluster.came_whole(ticket.row, first_s, now_s, tokens)
        self._watcher.grew(ticket, tokens, now_s)
        self._end(ticket, "finished", "")

    def finish(self, ticket: Ticket) -> None:
        """Its answer is complete."""
        if ticket.tokens == 0:  # a worker that counts nothing: an answer has one token at least
            self.grew(ticket, 1)
        self.cluster.finish(ticket.row, self.clock())
        self._end(ticket, "finished", "")

    def fail(self, ticket: Ticket, reason: str) -> None:
        """Its worker has failed, and it cannot be placed again."""
        self.cluster.lose(ticket.row, self.clock())
        self._end(ticket, "failed", reason)

    def take_back(self, ticket: Ticket, reason: str) -> None:
        """Its worker has failed before the first token: it looks for another one."""
        now_s = self.clock()
        self.cluster.take_back(ticket.row, now_s)
        ticket.retries += 1
        ticket.avoid.append(ticket.slot)
        self._watcher.returned(ticket, reason, now_s)
        ticket.slot = -1
        self.offer()

    def leave(self, ticket: Ticket) -> None:
        """Its client has hung up; nothing where it has ended already."""
        if ticket.outcome:
            return
        self.cluster.leave(ticket.row, self.clock())
        self._end(ticket, "left", "client hung up")

    def _decide(self, ticket: Ticket) -> int:
        now_s = self.clock()
        decision = self.decider.decide(ticket.row, ticket.coin, now_s, ticket.avoid)
        ticket.by, ticket.shadow, ticket.decision_s = decision.by, decision.shadow, decision.seconds
        self.cluster.carry_out(ticket.row, decision.answer)
        if decision.answer >= 0:
            ticket.slot, ticket.placed_s = decision.answer, now_s
        self._watcher.decided(ticket, decision.answer)
        return decision.answer

    def _refused(self, reason: str, prompt_tokens: int, klass: int, now_s: float) -> Shed:
        self._watcher.refused(reason, prompt_tokens, klass, now_s)
        return Shed(reason, None if reason == "too_long" else self.queueing.retry_after_s)

    def _shed(self, ticket: Ticket, reason: str, retry_after_s: float | None) -> Shed:
        self.cluster.reject(ticket.row, self.clock())
        self._end(ticket, "shed", reason)
        return Shed(reason, retry_after_s)

    def _end(self, ticket: Ticket, outcome: str, reason: str) -> None:
        ticket.outcome, ticket.reason, ticket.ended_s = outcome, reason, self.clock()
        self._watcher.ended(ticket)
        self.cluster.forget(ticket.row)
        if self._held:
            self.offer()
