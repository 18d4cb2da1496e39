"""One request from its client to a worker and back: retried before its first byte, never after it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from aladdin_env.bridge.dispatcher import Dispatcher, Shed
from aladdin_env.bridge.events import Ticket
from aladdin_env.bridge.gateway.asked import Asked
from aladdin_env.bridge.gateway.headers import returned
from aladdin_env.bridge.gateway.lengths import PromptLengths
from aladdin_env.bridge.gateway.problems import PassedOn, Problem
from aladdin_env.bridge.gateway.settings import GatewaySettings
from aladdin_env.bridge.gateway.stream import Stream, tokens_of
from aladdin_env.bridge.gateway.upstream import Answer, Unanswered, Upstream
from aladdin_env.bridge.workers.worker import Lease, LiveWorker

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
#: An error of the worker that says it is full, not broken.
_FULL = frozenset({429, 503})
_BUDGET_WINDOW_S, _FREE_RETRIES = 60.0, 10
_AGAIN_S = 2.0


class Budget:
    """How many retries are allowed: a share of the requests of the last minute, so that a storm dies down."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._asked: deque[float] = deque()
        self._retried: deque[float] = deque()

    def note(self) -> None:
        """A request."""
        self._asked.append(time.monotonic())

    def take(self) -> bool:
        """Whether one more retry is allowed; it counts."""
        now = time.monotonic()
        for times in (self._asked, self._retried):
            while times and times[0] < now - _BUDGET_WINDOW_S:
                times.popleft()
        if len(self._retried) >= _FREE_RETRIES + self._share * len(self._asked):
            return False
        self._retried.append(now)
        return True


class Job(NamedTuple):
    """A request on its way.

    Attributes:
        path: With its query.
        headers: For the worker.
        asked: What its body says.
        ticket: Its place among the requests of the bridge.
    """

    path: str
    headers: list[tuple[str, str]]
    asked: Asked
    ticket: Ticket


class Broken(Exception):
    """A worker did not answer, or with a fault; the text is one line.

    Attributes:
        problem: What the client is told if nobody else can answer either.
    """

    def __init__(self, reason: str, problem: Problem | None = None) -> None:
        super().__init__(reason)
        self.problem = problem or Problem(503, "worker_failed", f"the worker did not answer ({reason})", _AGAIN_S)


class Proxy:
    """Sends requests to workers.

    Args:
        dispatcher: Places them.
        workers: By slot.
        upstream: Reaches them.
        lengths: Learns from the workers' counts of prompt tokens.
        settings: Of the front.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        workers: Mapping[int, LiveWorker],
        upstream: Upstream,
        lengths: PromptLengths,
        settings: GatewaySettings,
    ) -> None:
        self._dispatcher = dispatcher
        self._workers = workers
        self._upstream = upstream
        self._lengths = lengths
        self._settings = settings
        self._budget = Budget(settings.retry_budget)

    async def serve(self, request: web.Request, job: Job) -> web.StreamResponse:
        """Place the request, send it, and pass the answer on.

        Raises:
            Problem: what the client is to be told instead.
        """
        self._budget.note()
        ticket, tries = job.ticket, 0
        while True:
            if not self._dispatcher.place(ticket):
                await self._dispatcher.wait(ticket)
            worker = self._workers[ticket.slot]
            with worker.lease() as lease:
                try:
                    answer = await self._ask(worker, lease, job)
                except Broken as fault:
                    if tries < self._settings.retries and self._budget.take():
                        tries += 1
                        self._dispatcher.take_back(ticket, str(fault))
                        continue
                    self._dispatcher.fail(ticket, str(fault))
                    raise fault.problem from None
                with answer:
                    return await self._pass_on(request, job, lease, answer)

    async def _ask(self, worker: LiveWorker, lease: Lease, job: Job) -> Answer:
        """The worker's answer, once there is something of it to be passed on.

        A stream's head says nothing yet: vLLM sends it before it has looked at the prompt. Until the first bytes of the
        body the client has seen nothing, and another worker can be asked.

        Raises:
            Broken: there is none, or one that says that somebody else should be asked.
        """
        try:
            answer = await self._upstream.send("POST", worker.url, job.path, job.headers, job.asked.body)
        except Unanswered as error:
            raise self._gone(error, lease) from None
        if answer.status in _RETRIED:
            with answer:
                raise await self._refusal(answer, lease)
        try:
            await answer.arrived()
        except BaseException as error:  # of the client, too
            answer.close()
            if isinstance(error, Unanswered):
                raise self._gone(error, lease) from None
            raise
        lease.report_success()
        return answer

    def _gone(self, error: Unanswered, lease: Lease) -> Broken:
        lease.report_failure(_told(error))
        return Broken(_told(error))

    async def _refusal(self, answer: Answer, lease: Lease) -> Broken:
        """An answer with a status that another worker may not give."""
        reason = f"HTTP {answer.status}"
        if answer.status in _FULL or answer.status == 408:
            lease.report_success()
        else:
            lease.report_failure(reason)
        try:
            body = await answer.read()
        except Unanswered:
            return Broken(reason)
        return Broken(reason, PassedOn(answer.status, body, answer.headers))

    async def _pass_on(self, request: web.Request, job: Job, lease: Lease, answer: Answer) -> web.StreamResponse:
        headers = returned(answer.headers, job.ticket.id)
        if self._settings.show_worker:
            headers["X-Aladdin-Worker"] = str(job.ticket.slot)
            headers["X-Aladdin-Policy"] = job.ticket.by
        if answer.is_stream:
            return await self._stream(request, job, lease, answer, headers)
        body = await answer.read()
        if answer.status < 400:
            prompt_tokens, tokens = tokens_of(body)
            self._finish(job, prompt_tokens, tokens)
        else:
            self._dispatcher.fail(job.ticket, f"HTTP {answer.status}")
        return web.Response(status=answer.status, body=body, headers=headers)

    async def _stream(
        self, request: web.Request, job: Job, lease: Lease, answer: Answer, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        out = web.StreamResponse(status=answer.status, headers=headers)
        await out.prepare(request)
        stream, ticket = Stream(job.asked.hides_usage), job.ticket
        try:
            while data := await answer.some():
                before = stream.tokens
                shown = stream.feed(data)
                if stream.tokens > before:
                    self._dispatcher.grew(ticket, stream.tokens - before)
                if shown:
                    await out.write(shown)
            rest = stream.close()
        except aiohttp.ClientConnectionResetError:  # the client's side
            raise asyncio.CancelledError from None
        except Unanswered as error:
            return await self._broken_off(out, ticket, lease, _told(error))
        if not stream.is_done:
            reason = "the stream ended before the answer was complete" if stream.error is None else "the worker failed"
            return await self._broken_off(out, ticket, lease, reason, stream.error is not None)
        self._finish(job, stream.prompt_tokens, 0)
        if rest:
            await out.write(rest)
        await out.write_eof()
        return out

    async def _broken_off(
        self, out: web.StreamResponse, ticket: Ticket, lease: Lease, reason: str, is_told: bool = False
    ) -> web.StreamResponse:
        """The answer ends in the middle: an event says so, unless the worker's own did, and the stream is closed."""
        self._failed(ticket, lease, reason)
        if not is_told:
            await out.write(Problem(502, "worker_failed", f"the worker broke off its answer ({reason})").event())
        await out.write_eof()
        return out

    def _failed(self, ticket: Ticket, lease: Lease, reason: str) -> None:
        lease.report_failure(reason)
        self._dispatcher.fail(ticket, reason)

    def _finish(self, job: Job, prompt_tokens: int | None, tokens: int) -> None:
        job.ticket.counted_tokens = prompt_tokens or 0
        if prompt_tokens is not None:
            self._lengths.learn(job.asked, prompt_tokens)
        if tokens > 0 and job.ticket.tokens == 0:
            self._dispatcher.came_whole(job.ticket, tokens)
        else:
            self._dispatcher.finish(job.ticket)


def shed(refused: Shed, held_s: float) -> Problem:
    """What a client is told whose request was refused."""
    messages = {
        "too_many_requests": (429, "the bridge follows no more requests at a time"),
        "queue_full": (429, "too many requests wait for a worker"),
        "queue_timeout": (503, f"no worker could take the request within {held_s:g} s"),
        "no_worker": (503, f"no worker has been ready for {held_s:g} s"),
        "rejected": (429, "the policy refused the request: its objectives cannot be met now"),
        "too_long": (400, "the prompt fits into no worker"),
        "shutting_down": (503, "the bridge is shutting down"),
    }
    status, message = messages[refused.reason]
    return Problem(status, refused.reason, message, refused.retry_after_s)


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
