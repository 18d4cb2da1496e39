"""Clients: patient ones, slow ones, those that hang up."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from experiments.bridge.soak import plan
from experiments.bridge.soak.judge import LEFT, Asked, Judged, Seen, judge
from experiments.bridge.soak.mistakes import make_mistake
from experiments.bridge.soak.plan import Planned

MODEL = "soak"
#: Longest time from a request to the end of its answer: 30 s held, 200 tokens, a reader's pauses, a stopped worker.
LIMIT_S = 90.0
_SLOW_READ_BYTES = 2048
_SLOW_PAUSE_S, _SLOW_PAUSES = 0.3, 30
_READ_BYTES = 1 << 16
_WORDS = ("sea", "lamp", "cave", "ring", "sand", "gold", "moon", "king")


@dataclass(frozen=True)
class Ended:
    """A request that has ended.

    Attributes:
        planned: What was asked.
        id: Under which id.
        judged: What came of it.
        began_s: When it was sent, by the monotonic clock.
        ended_s: When it ended.
        slot: The worker that answered, where the answer tells.
    """

    planned: Planned
    id: str
    judged: Judged
    began_s: float
    ended_s: float
    slot: int | None


class Client:
    """Sends requests to a bridge.

    Args:
        url: Its address.
        session: Carries them.
        name: Begins the ids of all requests.
    """

    def __init__(self, url: str, session: aiohttp.ClientSession, name: str) -> None:
        self._url = url
        self._session = session
        self._name = name

    async def send(self, planned: Planned) -> Ended:
        """Send one, see what comes, judge it."""
        identity, began_s = f"{self._name}-{planned.number}", time.monotonic()
        if planned.kind == plan.MALFORMED:
            judged = await make_mistake(self._url, planned.mistake, identity)
            return Ended(planned, identity, judged, began_s, time.monotonic(), None)
        answer = _Answer(planned)
        asked = Asked(identity, planned.kind != plan.WHOLE, planned.tokens, planned.wants_usage)
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._ask(planned, asked, answer)
        except TimeoutError:
            answer.fault = f"no end within {LIMIT_S:g} s"
        except (aiohttp.ClientError, OSError) as error:
            answer.fault = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        judged = Judged(LEFT, tokens=answer.events) if answer.has_left else judge(asked, answer.seen())
        return Ended(planned, identity, judged, began_s, time.monotonic(), answer.slot)

    async def _ask(self, planned: Planned, asked: Asked, answer: _Answer) -> None:
        path = "/v1/chat/completions" if planned.chat else "/v1/completions"
        post = self._session.post(
            self._url + path, json=_body(planned, asked), headers={"X-Request-Id": asked.id},
            read_bufsize=_SLOW_READ_BYTES if planned.kind == plan.SLOW else _READ_BYTES,
        )  # fmt: skip
        patience_s = planned.patience_s if planned.kind == plan.LEAVES_EARLY else None
        try:
            response = await asyncio.wait_for(post, patience_s)
        except TimeoutError:
            if patience_s is None:
                raise
            answer.has_left = True  # the request's task was cancelled: its connection is closed
            return
        try:
            answer.begin(response)
            if planned.kind == plan.LEAVES_EARLY and response.status == 200:
                answer.has_left = True
            else:
                await _read(response, planned, answer)
        finally:
            response.close()  # keeps the connection where the answer has come to its end


class _Answer:
    """What has come so far."""

    def __init__(self, planned: Planned) -> None:
        self.has_left = False
        self.fault = ""
        self.slot: int | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    @property
    def events(self) -> int:
        return self._body.count(b"\n\n")

    def begin(self, response: aiohttp.ClientResponse) -> None:
        self._status = response.status
        self._headers = {name.lower(): value for name, value in response.headers.items()}
        with suppress(KeyError, ValueError):
            self.slot = int(self._headers["x-aladdin-worker"])

    def add(self, data: bytes) -> None:
        self._body += data

    def seen(self) -> Seen:
        return Seen(self._status, self._headers, bytes(self._body), self.fault)


async def _read(response: aiohttp.ClientResponse, planned: Planned, answer: _Answer) -> None:
    """Read to the end, in pauses, or until the client hangs up."""
    pauses = _SLOW_PAUSES if planned.kind == plan.SLOW else 0
    leaves_after = planned.leaves_after if planned.kind == plan.LEAVES_LATE and response.status == 200 else None
    while data := await response.content.read(_SLOW_READ_BYTES if pauses else _READ_BYTES):
        answer.add(data)
        if leaves_after is not None and answer.events >= leaves_after:
            answer.has_left = True
            return
        if pauses:
            pauses -= 1
            await asyncio.sleep(_SLOW_PAUSE_S)


def _body(planned: Planned, asked: Asked) -> dict[str, Any]:
    """A prompt of its own from the first word on: a prefix cache would make all but the first free."""
    words = " ".join(_WORDS[(planned.number + i) % len(_WORDS)] for i in range(planned.prompt_tokens))
    text = f"{asked.id} {words}"
    body: dict[str, Any] = {"model": MODEL, "max_tokens": asked.tokens, "ignore_eos": True, "return_token_ids": True}
    body |= {"messages": [{"role": "user", "content": text}]} if planned.chat else {"prompt": text}
    if asked.streams:
        body["stream"] = True
        if asked.wants_usage:
            body["stream_options"] = {"include_usage": True}
    return body


def with_outcome(ended: Ended, outcome: str, reason: str) -> Ended:
    """The same, judged otherwise."""
    return replace(ended, judged=replace(ended.judged, outcome=outcome, reason=reason))
