"""What an answer looks like on the wire: JSON objects and events in the shape of vLLM's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aladdin_env.bridge.emulator.asked import Asked
from aladdin_env.bridge.emulator.engine import Times
from aladdin_env.bridge.emulator.text import Continuation, Tokens

DONE = b"data: [DONE]\n\n"


@dataclass
class Wording:
    """The wording of one answer.

    Attributes:
        asked: What was asked for.
        said: What the model says.
        identity: The id of the answer.
        created: When it was asked for, whole seconds since 1970.
        model: Name of the model.
    """

    asked: Asked
    said: Continuation
    identity: str
    created: int
    model: str
    _told: int = field(default=0, init=False)

    def events(self, generated: int, reason: str | None) -> bytes:
        """The events that bring the answer from what was told before to ``generated`` tokens."""
        parts = []
        if self._told == 0 and self.asked.chat:
            parts.append(_event(self._opening()))
        words = self.said.words(self._told, generated)
        first, self._told = self._told == 0, generated
        body = self._head("chat.completion.chunk", [self._piece("".join(words), reason, first)])
        if self.asked.continuous_usage:
            body["usage"] = self._usage(generated)
        parts.append(_event(body))
        return b"".join(parts)

    def ending(self, metrics: dict[str, Any] | None) -> bytes:
        """The events after the last token."""
        if not self.asked.include_usage:
            return DONE
        body = self._head("chat.completion.chunk", []) | {"usage": self._usage(self._told)}
        if metrics is not None:
            body["metrics"] = metrics
        return _event(body) + DONE

    def whole(self, generated: int, reason: str, metrics: dict[str, Any] | None) -> bytes:
        """The answer in one piece."""
        text = "".join(self.said.words(0, generated))
        choice: dict[str, Any] = {"index": 0}
        if self.asked.chat:
            choice["message"] = {"role": "assistant", "content": text, "tool_calls": []}
        else:
            choice["text"] = text
        choice |= {"logprobs": None, "finish_reason": reason, "stop_reason": None}
        body = self._head("chat.completion", [choice]) | {"usage": self._usage(generated)}
        if self.asked.return_token_ids:
            choice["token_ids"] = Tokens.of_text(text).ids
            (body if self.asked.chat else choice)["prompt_token_ids"] = self.asked.prompt.ids
        if metrics is not None:
            body["metrics"] = metrics
        return json.dumps(body).encode()

    def _head(self, chat_object: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.identity,
            "object": chat_object if self.asked.chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _opening(self) -> dict[str, Any]:
        """The first event of a chat, which only names the role."""
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        body = self._head("chat.completion.chunk", [choice])
        if self.asked.return_token_ids:
            body["prompt_token_ids"] = self.asked.prompt.ids
        if self.asked.continuous_usage:
            body["usage"] = self._usage(0)
        return body

    def _piece(self, text: str, reason: str | None, first: bool) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0}
        choice |= {"delta": {"content": text}} if self.asked.chat else {"text": text}
        choice |= {"logprobs": None, "finish_reason": reason}
        if not self.asked.chat or reason is not None:
            choice["stop_reason"] = None
        if self.asked.return_token_ids:
            choice["token_ids"] = Tokens.of_text(text).ids
            if first and not self.asked.chat:
                choice["prompt_token_ids"] = self.asked.prompt.ids
        return choice

    def _usage(self, generated: int) -> dict[str, int]:
        prompt = len(self.asked.prompt)
        return {"prompt_tokens": prompt, "total_tokens": prompt + generated, "completion_tokens": generated}


def request_metrics(times: Times, overhead_s: float, tokens: int) -> dict[str, Any]:
    """The worker's own clock on one request, as vLLM tells it with ``--enable-per-request-metrics``; milliseconds.

    ``overhead_s``: what the front end adds to a token's way, which the engine's clock does not see.
    """
    generation_s = times.finish_s - times.first_token_s
    inference_s = times.finish_s - overhead_s - times.admitted_s
    return {
        "time_to_first_token_ms": 1e3 * (times.first_token_s - overhead_s - times.admitted_s),
        "generation_time_ms": 1e3 * generation_s,
        "queue_time_ms": 1e3 * (times.admitted_s - times.arrival_s),
        "mean_itl_ms": 1e3 * generation_s / (tokens - 1) if tokens > 1 else None,
        "tokens_per_second": tokens / inference_s if inference_s > 0 else None,
    }


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"
