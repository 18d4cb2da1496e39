"""What a request body says that a router must know: how long the prompt is, whether it streams, and how it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from aladdin_env.bridge.gateway.problems import Problem, bad_request

#: Paths whose requests are placed by the policy; all others go to any worker.
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PLACED = frozenset({COMPLETIONS, CHAT, "/v1/responses", "/v1/messages"})
#: Those whose streams carry usage where ``stream_options`` asks for it.
_COUNTED = frozenset({COMPLETIONS, CHAT})
_INCLUDE_USAGE = b'"stream_options":{"include_usage":true},'
# Of a text that no tokeniser has seen; the estimate learns from what workers count.
_FIRST_BYTES_PER_TOKEN = 4.0
_LEARNING = 0.02
_TOKENS_A_MESSAGE = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as routing needs it.

    Attributes:
        body: What to send on; the client's bytes but for a request for usage.
        model: The model asked for; "" where none is.
        streams: Whether the answer is a stream.
        hides_usage: Whether usage was asked for by us, and the chunk that carries it is not the client's.
        tokens: Prompt tokens where the prompt is given as token ids; else 0.
        text_bytes: Bytes of the prompt's text, of which there are tokens to be estimated.
    """

    body: bytes
    model: str
    streams: bool
    hides_usage: bool
    tokens: int
    text_bytes: int


def read(path: str, body: bytes) -> Asked:
    """Read a body.

    Raises:
        Problem: it is no JSON object.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request("invalid_json", f"the body is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise bad_request("invalid_json", "the body is no JSON object")
    streams = data.get("stream") is True
    injects = streams and path in _COUNTED and not _asks_for_usage(data)
    tokens, text_bytes = _prompt(path, data)
    model = data.get("model")
    return Asked(
        _with_usage(body, data) if injects else body,
        model if isinstance(model, str) else "",
        streams,
        injects,
        tokens,
        text_bytes,
    )


def _asks_for_usage(data: Mapping[str, Any]) -> bool:
    options = data.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _with_usage(body: bytes, data: dict[str, Any]) -> bytes:
    """The same body asking for usage: spliced in where nothing of the kind is there, to keep the client's bytes."""
    if "stream_options" not in data:
        start = body.index(b"{") + 1
        return body[:start] + _INCLUDE_USAGE + body[start:]
    options = data["stream_options"] if isinstance(data["stream_options"], dict) else {}
    return orjson.dumps({**data, "stream_options": {**options, "include_usage": True}})


def _prompt(path: str, data: Mapping[str, Any]) -> tuple[int, int]:
    """Token ids, and bytes of text, of the prompt."""
    if path == COMPLETIONS:
        return _of_prompt(data.get("prompt"))
    messages = data.get("messages", data.get("input"))
    if isinstance(messages, str):
        return 0, len(messages)
    if not isinstance(messages, list):
        return 0, 0
    return _TOKENS_A_MESSAGE * len(messages), sum(map(_text_in, messages))


def _of_prompt(prompt: Any) -> tuple[int, int]:
    if isinstance(prompt, str):
        return 0, len(prompt)
    if not isinstance(prompt, list) or not prompt:
        return 0, 0
    if isinstance(prompt[0], int):
        return len(prompt), 0
    counts = [_of_prompt(each) for each in prompt]
    return sum(tokens for tokens, _ in counts), sum(text for _, text in counts)


def _text_in(message: Any) -> int:
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list):
        return 0
    return sum(len(str(part.get("text") or "")) for part in content if isinstance(part, dict))


class PromptLengths:
    """Tokens of prompts by the bytes of their text; learns from the counts that workers send back."""

    def __init__(self, bytes_per_token: float = _FIRST_BYTES_PER_TOKEN) -> None:
        self.bytes_per_token = bytes_per_token

    def of(self, asked: Asked) -> int:
        """Prompt tokens, 1 or more; exact for token ids."""
        return max(1, asked.tokens + round(asked.text_bytes / self.bytes_per_token))

    def learn(self, asked: Asked, prompt_tokens: int) -> None:
        """A worker has counted this prompt."""
        if asked.text_bytes > 0 and prompt_tokens > asked.tokens:
            seen = asked.text_bytes / (prompt_tokens - asked.tokens)
            self.bytes_per_token += _LEARNING * (seen - self.bytes_per_token)


def check_content_type(content_type: str) -> None:
    """Refuse what is no JSON.

    Raises:
        Problem: says which type it is.
    """
    if content_type not in ("application/json", "application/octet-stream"):
        raise Problem(415, "unsupported_media_type", f"content type {content_type!r}: send application/json")
