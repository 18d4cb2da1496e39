"""What came of a request, by what its client saw: anything that is neither whole nor honestly told is LOST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

COMPLETE, REFUSED, TOLD, LEFT, REBUKED, LOST = "complete", "refused", "told", "left", "rebuked", "LOST"
OUTCOMES = (COMPLETE, REFUSED, TOLD, LEFT, REBUKED, LOST)
_DONE = b"[DONE]"
#: Mistakes after which the connection may be closed without an answer: no request in HTTP was there, or no end of it.
_MAY_CLOSE = frozenset({"no HTTP", "body cut short", "long headers"})


@dataclass(frozen=True)
class Asked:
    """What a client asked for.

    Attributes:
        id: Its request's id.
        streams: Whether it asked for a stream.
        tokens: Exactly so many tokens.
        wants_usage: Whether the stream is to count them.
    """

    id: str
    streams: bool
    tokens: int
    wants_usage: bool


@dataclass(frozen=True)
class Seen:
    """What it got.

    Attributes:
        status: HTTP status; 0: none came.
        headers: Of the answer; names in lower case.
        body: All bytes of the answer.
        fault: Why that is not all: broken off, nothing within the time limit; "": it came to its end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    fault: str = ""


@dataclass(frozen=True)
class Judged:
    """The judgement.

    Attributes:
        outcome: One of :data:`OUTCOMES`. ``told``: it failed, and the client was told so.
        reason: Why, in a few words.
        tokens: That came.
    """

    outcome: str
    reason: str = ""
    tokens: int = 0


def judge(asked: Asked, seen: Seen) -> Judged:
    """Judge the answer to a request that is in order, and whose client waited for its end."""
    if seen.fault:
        return Judged(LOST, seen.fault, seen.body.count(b"\ndata:"))
    if seen.headers.get("x-request-id") != asked.id:
        return Judged(LOST, f"the answer's id is {seen.headers.get('x-request-id')!r}")
    if seen.status != 200:
        return refusal(seen)
    return _stream(asked, seen) if asked.streams else _whole(asked, seen)


def refusal(seen: Seen) -> Judged:
    """Judge an answer with another status than 200."""
    code = error_code(seen.body)
    if code is None:
        return Judged(LOST, f"HTTP {seen.status} without an error object")
    if seen.status == 502 and code == "worker_failed":
        return Judged(TOLD, "HTTP 502 worker_failed")
    if seen.status not in (429, 503):
        return Judged(LOST, f"HTTP {seen.status} {code}")
    if not seen.headers.get("retry-after", "").isdigit():
        return Judged(LOST, f"HTTP {seen.status} {code} without Retry-After")
    return Judged(REFUSED, f"HTTP {seen.status} {code}")


def judge_mistake(mistake: str, seen: Seen) -> Judged:
    """Judge what came of a request with a mistake in it."""
    if 400 <= seen.status < 500 and seen.status != 429:
        return Judged(REBUKED, f"HTTP {seen.status}")
    if not seen.status and not seen.fault and mistake in _MAY_CLOSE:
        return Judged(REBUKED, "closed")
    if mistake == "unknown path" and seen.status:  # a worker's business, as a request in order is
        return refusal(seen)
    return Judged(LOST, f"{mistake}: {seen.fault or f'HTTP {seen.status}'}")


def error_code(body: bytes) -> str | None:
    """The code of an error object as OpenAI has them; None: it is none."""
    error = _object(body).get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str) or "type" not in error:
        return None
    return str(error.get("code"))


def _stream(asked: Asked, seen: Seen) -> Judged:
    if not seen.headers.get("content-type", "").startswith("text/event-stream"):
        return Judged(LOST, "no stream")
    *events, rest = seen.body.split(b"\n\n")
    datas = [event.removeprefix(b"data:").strip() for event in events]
    told = [_object(data) for data in datas if data != _DONE]
    tokens = sum(len(choice.get("token_ids") or ()) for event in told for choice in event.get("choices") or ())
    if rest or not datas or {} in told:
        return Judged(LOST, "the stream ends in the middle of an event", tokens)
    if told and "error" in told[-1]:
        if error_code(orjson.dumps(told[-1])) is None:
            return Judged(LOST, "an event with an error that is no error object", tokens)
        return Judged(TOLD, "error event", tokens)
    if datas[-1] != _DONE or datas.count(_DONE) > 1:
        return Judged(LOST, "a clean end without [DONE]", tokens)
    return _complete(asked, told, tokens)


def _complete(asked: Asked, told: list[dict[str, Any]], tokens: int) -> Judged:
    """A stream that ends with [DONE]: whether all of it is there, and nothing else."""
    if any(not str(event.get("id")).endswith(asked.id) for event in told):
        return Judged(LOST, "an event of another answer", tokens)
    if tokens != asked.tokens:
        return Judged(LOST, f"{tokens} of {asked.tokens} tokens", tokens)
    ends = [choice["finish_reason"] for event in told for choice in event["choices"] if choice["finish_reason"]]
    if ends != ["length"]:
        return Judged(LOST, f"finish reasons {ends}", tokens)
    counts = [event["usage"]["completion_tokens"] for event in told if event.get("usage")]
    if counts != ([asked.tokens] if asked.wants_usage else []):
        return Judged(LOST, f"usage {counts}", tokens)
    return Judged(COMPLETE, tokens=tokens)


def _whole(asked: Asked, seen: Seen) -> Judged:
    answer = _object(seen.body)
    usage = answer.get("usage")
    tokens = usage.get("completion_tokens", 0) if isinstance(usage, dict) else 0
    if not str(answer.get("id")).endswith(asked.id):
        return Judged(LOST, "another's answer", tokens)
    if tokens != asked.tokens:
        return Judged(LOST, f"{tokens} of {asked.tokens} tokens", tokens)
    return Judged(COMPLETE, tokens=tokens)


def _object(data: bytes) -> dict[str, Any]:
    try:
        read = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}
