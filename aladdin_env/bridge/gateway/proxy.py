"""One request from its client to a worker and back: retried before its first byte, never after it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web
from multidict import CIMultiDict

from aladdin_env.bridge.dispatcher import Dispatcher, Shed
from aladdin_env.bridge.events import Ticket
from aladdin_env.bridge.gateway.asked import Asked
from aladdin_env.bridge.gateway.client import Client
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
_PLAIN = 500
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
        now = time.monotonic()
        self._forget(now)
        self._asked.append(now)

    def take(self) -> bool:
        """Whether one more retry is allowed; it counts."""
        now = time.monotonic()
        self._forget(now)
        if len(self._retried) >= _FREE_RETRIES + self._share * len(self._asked):
            return False
        self._retried.append(now)
        return True

    def _forget(self, now: float) -> None:
        for times in (self._asked, self._retried):
            while times and times[0] < now - _BUDGET_WINDOW_S:
                times.popleft()


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
        is_suspicion: Whether the request itself may be the reason.
    """

    def __init__(self, reason: str, problem: Problem | None = None, *, is_suspicion: bool = False) -> None:
        super().__init__(reason)
        self.is_suspicion = is_suspicion
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
        ticket, suspects = job.ticket, list[Lease]()
        while True:
            if not self._dispatcher.place(ticket):
                await self._dispatcher.wait(ticket)
            worker = self._workers[ticket.slot]
            with worker.lease() as lease:
                try:
                    answer = await self._ask(worker, lease, job)
                except Broken as fault:
                    if fault.is_suspicion:
                        suspects.append(lease)
                    if ticket.retries < self._settings.retries and self._budget.take():
                        self._dispatcher.take_back(ticket, str(fault))
                        continue
                    self._dispatcher.fail(ticket, str(fault))
                    raise fault.problem from None
                for suspect in suspects:
                    suspect.report_failure("HTTP 500, where another worker answered")
                with answer:
                    return await self._pass_on(request, job, lease, answer)

    async def _ask(self, worker: LiveWorker, lease: Lease, job: Job) -> Answer:
        """The worker's answer, once there is something of it to be passed on.

        Raises:
            Broken: there is none, or one that says that somebody else should be asked.
        """
        try:
            answer = await self._upstream.send("POST", worker.url, job.path, job.headers, job.asked.body)
        except Unanswered as error:
            lease.report_failure(_told(error))
            raise Broken(_told(error)) from None
        if answer.status not in _RETRIED:
            lease.report_success()
            return answer
        with answer:
            raise await self._refusal(answer, lease)

    async def _refusal(self, answer: Answer, lease: Lease) -> Broken:
        """An answer with a status that another worker may not give.

        A plain 500 may be the request's fault as well as the worker's: which one, the next worker's answer shows. So no
        client can put workers out of service by a request that none of them can take.
        """
        reason = f"HTTP {answer.status}"
        if answer.status in _FULL or answer.status == 408:
            lease.report_success()
        elif answer.status != _PLAIN:
            lease.report_failure(reason)
        passed_on = PassedOn(answer.status, await answer.read(), answer.headers)
        return Broken(reason, passed_on, is_suspicion=answer.status == _PLAIN)

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
        client = Client(request, out, self._settings.stall_s)
        stream, ticket = Stream(job.asked.hides_usage), job.ticket
        try:
            while data := await answer.some():
                before = stream.tokens
                shown = stream.feed(data)
                if stream.tokens > before:
                    self._dispatcher.grew(ticket, stream.tokens - before)
                if shown:
                    await client.write(shown)
        except Unanswered as error:
            self._failed(ticket, lease, _told(error))
            problem = Problem(502, "worker_failed", f"the worker broke off its answer ({_told(error)})")
            return await client.end(stream.gap + problem.event(job.path))
        if stream.error is not None and not stream.is_done:  # the worker's own event has told the client
            self._failed(ticket, lease, "the worker failed")
            return await client.end(stream.close())
        rest = stream.close()
        if not stream.is_done:
            self._failed(ticket, lease, "an incomplete answer")
            problem = Problem(502, "worker_failed", "the stream ended before the answer was complete")
            return await client.end(stream.gap + problem.event(job.path))
        self._finish(job, stream.prompt_tokens, 0)
        return await client.end(rest)

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
