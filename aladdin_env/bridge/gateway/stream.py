"""An event stream on its way to the client: its tokens are counted, its bytes are not touched.

Events are taken out only where we asked for the usage that they carry. What is counted is events with content, or the
token ids that they name, corrected by the worker's own count at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from aladdin_traces.checks import TOKENS_MAX

_DONE = b"[DONE]"
_ENDED = frozenset({"response.completed", "response.incomplete", "response.failed", "message_stop"})
_GROWS = frozenset({"response.output_text.delta", "response.reasoning_text.delta", "content_block_delta"})
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call")


class Stream:
    """Feeds on the bytes of a stream.

    Args:
        hides_usage: Take out the chunk that carries nothing but usage.

    Attributes:
        tokens: Output tokens so far.
        prompt_tokens: By the worker's count; None before it has told.
        is_done: Whether the answer is complete.
        error: What the worker says went wrong, in its own bytes; None: nothing.
    """

    __slots__ = ("_counted", "_hides", "_rest", "error", "is_done", "prompt_tokens", "tokens")

    def __init__(self, hides_usage: bool) -> None:
        self._hides = hides_usage
        self._rest = b""
        self._counted = 0
        self.tokens = 0
        self.prompt_tokens: int | None = None
        self.is_done = False
        self.error: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """What is to be sent on now; where usage is hidden an event is kept back until it is whole."""
        whole = self._rest + data if self._rest else data
        end = b"\r\n\r\n" if b"\r\n\r\n" in whole else b"\n\n"
        *events, self._rest = whole.split(end)
        if not self._hides:
            for event in events:
                self._note(event)
            return data
        return b"".join([event + end for event in events if self._note(event)])

    def close(self) -> bytes:
        """The stream has ended: what is left to be sent on."""
        rest, self._rest = self._rest, b""
        is_shown = self._note(rest) if rest else False
        return rest if self._hides and is_shown else b""

    @property
    def gap(self) -> bytes:
        """What ends the event of which the client has seen only a part; b"": it has seen none."""
        return b"\n\n" if self._rest and not self._hides else b""

    def _note(self, event: bytes) -> bool:
        """Count an event; whether it is the client's."""
        at = event.find(b"data:")
        if at < 0:
            return True
        data = event[at + 5 :].strip()
        if data == _DONE:
            self.is_done = True
            return True
        try:
            read: Any = orjson.loads(data)
        except orjson.JSONDecodeError:
            return True
        return self._note_read(read, data) if isinstance(read, dict) else True

    def _note_read(self, event: Mapping[str, Any], data: bytes) -> bool:
        kind = event.get("type")
        kind = kind if isinstance(kind, str) else ""
        if event.get("error") is not None or kind == "error":
            self.error = data
        elif kind in _GROWS:
            self._counted += 1
        self.is_done = self.is_done or kind in _ENDED
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            self._note_choice(choice)
        self.tokens = max(self.tokens, self._counted)
        usage = event.get("usage")
        if not isinstance(usage, dict):
            return True
        self.tokens = _count(usage, "completion_tokens", "output_tokens") or self.tokens
        self.prompt_tokens = _count(usage, "prompt_tokens", "input_tokens") or self.prompt_tokens
        return bool(choices) or not self._hides

    def _note_choice(self, choice: Any) -> None:
        if not isinstance(choice, dict):
            return
        ids, delta = choice.get("token_ids"), choice.get("delta")
        if isinstance(ids, list) and ids:
            self._counted += len(ids)
        elif choice.get("text") or (isinstance(delta, dict) and any(delta.get(name) for name in _TEXTS)):
            self._counted += 1
        self.is_done = self.is_done or choice.get("finish_reason") is not None


def tokens_of(body: bytes) -> tuple[int | None, int]:
    """Prompt tokens (None: it does not say) and output tokens of a whole answer, by the worker's count."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, 0
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return None, 0
    return _count(usage, "prompt_tokens", "input_tokens") or None, _count(usage, "completion_tokens", "output_tokens")


def _count(usage: Mapping[str, Any], *names: str) -> int:
    """The first of these numbers of tokens that is one; 0: there is none."""
    counts = (usage.get(name) for name in names)
    return next((count for count in counts if type(count) is int and 0 < count <= TOKENS_MAX), 0)
