"""What comes back for one completion: the record of its tokens, filled from a server-sent event stream."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

_LONGEST_EVENT_BYTES = 32 << 20  # the first event may repeat a long prompt's token ids; anything above is garbage


class StreamError(Exception):
    """The server's answer is no stream of completions, or says that it failed; the text is one line."""


@dataclass(frozen=True)
class ServerTimes:
    """The server's own clock on one request (vLLM's ``--enable-per-request-metrics``); None where it is silent.

    Attributes:
        first_token_s: From when the request was scheduled to its first token, seconds; the queue is not in it.
        generation_s: From the first to the last token, seconds.
        queue_s: From the request's arrival at the engine until it was scheduled, seconds.
        token_s: Mean time between two tokens, seconds.
    """

    first_token_s: float | None
    generation_s: float | None
    queue_s: float | None
    token_s: float | None

    @classmethod
    def from_metrics(cls, metrics: Any) -> ServerTimes | None:
        """The times in a response's ``metrics``; None when there are none at all."""
        if not isinstance(metrics, dict):
            return None
        keys = ("time_to_first_token_ms", "generation_time_ms", "queue_time_ms", "mean_itl_ms")
        given = [metrics.get(key) for key in keys]
        seconds = [value / 1e3 if isinstance(value, int | float) else None for value in given]
        return None if seconds == [None] * len(keys) else cls(*seconds)


@dataclass
class Completion:
    """One completion as the client saw it; it grows while the answer streams in.

    All times are ``time.perf_counter()`` seconds of this process.

    Attributes:
        max_tokens: Output tokens that were asked for.
        sent_s: When the request was sent; NaN before.
        token_s: When each output token arrived, in order; tokens of one chunk share their time.
        ended_s: When the answer was complete or failed; NaN before.
        status: HTTP status; None before an answer.
        prompt_tokens: Tokens of the prompt by the server's count; None when it does not say.
        output_tokens: Output tokens: by the server's count where it gives one, else as counted in ``token_s``.
        server: The server's own clock; None when it gives none.
        error: Why there is no whole answer, in one line; None if there is.
    """

    max_tokens: int
    sent_s: float = float("nan")
    token_s: list[float] = field(default_factory=list)
    ended_s: float = float("nan")
    status: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int = 0
    server: ServerTimes | None = None
    error: str | None = None

    @property
    def first_token_s(self) -> float:
        """Arrival of the first token; NaN without one."""
        return self.token_s[0] if self.token_s else float("nan")

    @property
    def last_token_s(self) -> float:
        """Arrival of the last token; NaN without one."""
        return self.token_s[-1] if self.token_s else float("nan")

    @property
    def ttft_s(self) -> float:
        """Time to first token: the client's wait for it; NaN without one."""
        return self.first_token_s - self.sent_s

    @property
    def atgt_s(self) -> float:
        """Average token generation time ``(last - first) / (output tokens - 1)``; NaN below two tokens."""
        if self.output_tokens < 2 or len(self.token_s) < 2:
            return float("nan")
        return (self.last_token_s - self.first_token_s) / (self.output_tokens - 1)


class EventReader:
    """Turns the bytes of an event stream into a :class:`Completion`, chunk by chunk."""

    def __init__(self, record: Completion) -> None:
        self._record = record
        self._rest = b""
        self._counted = 0
        self._closed = False  # a finish reason or [DONE] has come

    def feed(self, data: bytes, at_s: float) -> bool:
        """Take what arrived at ``at_s``; True when output tokens were in it. StreamError for anything but events."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_EVENT_BYTES:
            raise StreamError("the server streams something that are no events")
        before = len(self._record.token_s)
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), at_s)
            elif line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise StreamError(f"the server streams something that are no events: {line[:60]!r}")
        return len(self._record.token_s) > before

    def close(self) -> None:
        """The stream has ended; StreamError when the answer was not complete."""
        if not self._closed:
            raise StreamError(f"the stream broke off after {len(self._record.token_s)} tokens")
        self._record.output_tokens = max(self._counted, self._record.output_tokens)

    def _event(self, data: bytes, at_s: float) -> None:
        if data == b"[DONE]":
            self._closed = True
            return
        try:
            event = json.loads(data)
            choices = event.get("choices", [])
            error = event.get("error")
            if error is None:
                self._chunk(event, choices[0] if choices else None, at_s)
                return
        except (ValueError, AttributeError, LookupError, TypeError):
            raise StreamError(f"the server streams something that is no completion: {data[:60]!r}") from None
        raise StreamError(f"the server says: {error_text(event)}")

    def _chunk(self, event: dict[str, Any], choice: dict[str, Any] | None, at_s: float) -> None:
        record, usage = self._record, event.get("usage")
        if usage:
            record.prompt_tokens = int(usage["prompt_tokens"])
            record.output_tokens = int(usage["completion_tokens"])
        record.server = ServerTimes.from_metrics(event.get("metrics")) or record.server
        if choice is None:
            return
        new = self._new_tokens(choice, record.output_tokens if usage else None)
        self._counted += new
        record.token_s.extend([at_s] * new)
        record.output_tokens = max(record.output_tokens, self._counted)
        self._closed = self._closed or choice.get("finish_reason") is not None

    def _new_tokens(self, choice: dict[str, Any], total: int | None) -> int:
        """Tokens in a chunk: its ids if given, else the growth of the running usage, else one if it has text."""
        ids = choice.get("token_ids")
        if ids is not None:
            return len(ids)
        if total is not None:
            return max(0, total - self._counted)
        return 1 if choice["text"] else 0


def error_text(body: Any) -> str:
    """The message of an OpenAI-style error object, or what else there is, short and in one line."""
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:200]
