"""The emulated worker without its HTTP front: requests in, tokens out, each at its time on a clock."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from aladdin_env.bridge.emulator.clock import Clock, Timer
from aladdin_env.bridge.emulator.engine import Engine, Heard, Load, Times
from aladdin_env.bridge.emulator.measures import TOKEN_EDGES_S, Exposition, Measures
from aladdin_env.scenario import WorkerType


class Answer:
    """The tokens of one request, as they reach its client.

    Attributes:
        prompt_tokens: Length of the prompt.
        output_tokens: How many tokens it is to get.
        reason: Why it ends there: "stop" or "length".
        arrival_s: When it came, seconds on the worker's clock.
        row: What stands for it in the engine; None once that has made all its tokens.
        generated: Tokens that have reached the client.
        times: What happened when; None until the engine has made the last token.
    """

    def __init__(self, row: int, prompt_tokens: int, output_tokens: int, reason: str, arrival_s: float) -> None:
        self.row: int | None = row
        self.prompt_tokens, self.output_tokens = prompt_tokens, output_tokens
        self.reason = reason
        self.arrival_s = arrival_s
        self.generated = 0
        self.times: Times | None = None
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether all tokens have reached the client."""
        return self.generated >= self.output_tokens

    async def tokens(self, wanted: int) -> int:
        """Wait for ``wanted`` tokens, or the last one, and return how many there are. One may wait at a time."""
        if self.generated < wanted and not self.ended:
            self._wanted = wanted
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.generated

    def deliver(self, generated: int) -> None:
        """So many tokens have reached the client."""
        self.generated = generated
        if self._waiter is not None and (generated >= self._wanted or self.ended) and not self._waiter.done():
            self._waiter.set_result(None)


class _Delivery(NamedTuple):
    """A token on its way from the engine to its client."""

    time_s: float
    answer: Answer
    generated: int


class Worker:
    """One worker of the simulator on a clock.

    Args:
        kind: The worker: laws, scheduler, limits.
        clock: Where its time comes from.
        model: The name that its metrics carry.

    Attributes:
        measures: Its counts.
        metrics: The text of its metrics.
    """

    def __init__(self, kind: WorkerType, clock: Clock, model: str = "model") -> None:
        self.kind = kind
        self.measures = Measures()
        self._clock = clock
        self._overhead_s = kind.latency.overhead_s
        self._engine = Engine(kind, self._hear, TOKEN_EDGES_S)
        self._answers: dict[int, Answer] = {}
        self._under_way: deque[_Delivery] = deque()
        self._timer: Timer | None = None
        self._timer_s = math.inf
        self.metrics = Exposition(self.measures, self._engine, self.catch_up, model)

    def submit(
        self, prompt_tokens: int, output_tokens: int, reason: str = "length", blocks: Sequence[int] = ()
    ) -> Answer:
        """A request arrives now; arguments as :meth:`Engine.enter` and :class:`Answer`.

        Raises:
            Full: There is no room for one more.
        """
        now_s = self._clock.now_s()
        row = self._engine.enter(now_s, prompt_tokens, output_tokens, blocks)
        answer = Answer(row, prompt_tokens, output_tokens, reason, now_s)
        self._answers[row] = answer
        self._arm()
        return answer

    def drop(self, answer: Answer) -> None:
        """The client of ``answer`` is gone; nothing happens where the engine has made all its tokens."""
        if answer.row is None:
            return
        now_s = self.catch_up()
        if answer.row is not None:
            self._engine.leave(answer.row, now_s)
            del self._answers[answer.row]
            answer.row = None
            self.measures.ended["abort"] += 1

    def load(self) -> Load:
        """What the engine holds now."""
        self.catch_up()
        return self._engine.load()

    @property
    def in_flight(self) -> int:
        """Requests waiting or running."""
        return len(self._answers)

    def catch_up(self) -> float:
        """Let happen what should have happened by now, and return when that is."""
        now_s = self._clock.now_s()
        self._engine.advance(now_s)
        while self._under_way and self._under_way[0].time_s <= now_s:
            _, answer, generated = self._under_way.popleft()
            answer.deliver(generated)
        self._arm()
        return now_s

    def close(self) -> None:
        """Nothing happens any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _hear(self, heard: list[Heard]) -> None:
        for time_s, row, generated, ended in heard:
            answer = self._answers[row]
            seen_s = time_s + self._overhead_s
            self._under_way.append(_Delivery(seen_s, answer, generated))
            if generated == 1:
                self.measures.begun(answer.prompt_tokens, seen_s - answer.arrival_s)
            if ended:
                self._end(answer, row, generated)

    def _end(self, answer: Answer, row: int, generated: int) -> None:
        if generated < answer.output_tokens:  # the KV holds no more
            answer.output_tokens, answer.reason = generated, "length"
        answer.times = self._engine.times(row)
        answer.row = None
        del self._answers[row]
        self.measures.finished(answer.times, self._overhead_s, generated, answer.reason)

    def _arm(self) -> None:
        """Set the timer to the next instant at which a client gets a token or the engine begins a step."""
        next_s = self._engine.next_s
        if next_s > self._engine.now_s:  # the end of a step matters to nobody before its tokens are with the clients
            next_s += self._overhead_s
        if self._under_way:
            next_s = min(next_s, self._under_way[0].time_s)
        if next_s == self._timer_s:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_s = next_s
        if next_s < math.inf:
            self._timer = self._clock.call_at(next_s, self._wake)

    def _wake(self) -> None:
        self._timer, self._timer_s = None, math.inf
        self.catch_up()
