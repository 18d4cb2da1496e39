"""What a request body says that a router must know: how long the prompt is, whether it streams, and how it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from aladdin_env.bridge.gateway.problems import Problem, bad_request

#: Paths whose requests are placed by the policy; all others go to any worker.
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
PLACED = frozenset({COMPLETIONS, CHAT, "/v1/responses", "/v1/messages"})
#: Those whose streams carry usage where ``stream_options`` asks for it.
_COUNTED = frozenset({COMPLETIONS, CHAT})
_INCLUDE_USAGE = b'"stream_options":{"include_usage":true},'
_TOKENS_A_MESSAGE = 4


class Asked(NamedTuple):
    """A request, as far as routing needs it.

    Attributes:
        body: What to send on; the client's bytes but for a request for usage.
        model: The model asked for; "" where none is.
        streams: Whether the answer is a stream.
        hides_usage: Whether usage was asked for by us, and the chunk that carries it is not the client's.
        tokens: Prompt tokens that are known: token ids, and 4 for what frames each message of a chat.
        text_bytes: Size of the prompt's text, whose tokens are to be counted or estimated.
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
    tokens, texts = prompt_of(path, data)
    model = data.get("model")
    return Asked(
        _with_usage(body, data) if injects else body,
        model if isinstance(model, str) else "",
        streams,
        injects,
        tokens,
        sum(map(len, texts)),
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


def prompt_of(path: str, data: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Tokens that need no counting, and the texts, of the prompt of a request with this body."""
    if path == COMPLETIONS:
        return _of_prompt(data.get("prompt"))
    messages = data.get("messages", data.get("input"))
    if isinstance(messages, str):
        return 0, [messages]
    if not isinstance(messages, list):
        return 0, []
    return _TOKENS_A_MESSAGE * len(messages), [text for message in messages for text in _texts_in(message)]


def _of_prompt(prompt: Any) -> tuple[int, list[str]]:
    if isinstance(prompt, str):
        return 0, [prompt]
    if not isinstance(prompt, list) or not prompt:
        return 0, []
    if isinstance(prompt[0], int):
        return len(prompt), []
    texts = [each for each in prompt if isinstance(each, str)]
    return sum(len(each) for each in prompt if isinstance(each, list)), texts


def _texts_in(message: Any) -> list[str]:
    content = message.get("content") if isinstance(message, dict) else message
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [str(part.get("text") or "") for part in content if isinstance(part, dict)]


def check_content_type(content_type: str) -> None:
    """Refuse what is no JSON.

    Raises:
        Problem: says which type it is.
    """
    if content_type not in ("application/json", "application/octet-stream"):
        raise Problem(415, "unsupported_media_type", f"content type {content_type!r}: send application/json")
