"""What a request asks for: the bodies of OpenAI's completion calls and of vLLM's tokenizer calls, read and checked."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aladdin_env.bridge.emulator.refusal import Refusal, bad_request
from aladdin_env.bridge.emulator.text import LARGEST_TOKEN, Tokens

_DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's; a chat may go on to the end of the context
_MOST_TOKENS = 2**31 - 1
_NOT_EMULATED = ("echo", "logprobs", "prompt_logprobs", "suffix", "prompt_embeds", "use_beam_search")

Body = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """A completion that is asked for.

    Attributes:
        chat: Whether it is a chat.
        prompt: Its prompt.
        max_tokens: Most tokens of the answer.
        min_tokens: Fewest.
        ignore_eos: Whether the answer goes on to ``max_tokens``.
        stream: Whether the tokens are wanted as they come.
        include_usage: Whether a last event of the stream counts the tokens.
        continuous_usage: Whether every event does.
        return_token_ids: Whether the numbers of the tokens are wanted.
    """

    chat: bool
    prompt: Tokens
    max_tokens: int
    min_tokens: int
    ignore_eos: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool


def parse(data: bytes, content_type: str, model: str) -> Body:
    """The body as a JSON object, for the served ``model``.

    Raises:
        Refusal: It is none, is called something else, or wants another model.
    """
    if content_type != "application/json":
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send application/json, not {content_type}")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object")
    asked = body.get("model")
    if asked is not None and asked != model:
        raise Refusal(HTTPStatus.NOT_FOUND, f"the model {asked!r} is not served here: {model!r} is", "model")
    return body


def read_completion(body: Body, chat: bool, longest: int) -> Asked:
    """The completion that ``body`` asks for, of at most ``longest`` tokens with its prompt.

    Raises:
        Refusal: A field has a value that it cannot have, or one that is not emulated.
    """
    _check_choices(body)
    stream = _flag(body, "stream")
    usage = _stream_options(body, stream)
    prompt = rendered(body.get("messages")) if chat else _prompt(body.get("prompt"))
    max_tokens = _max_tokens(body, chat, len(prompt), longest)
    min_tokens = _whole(body, "min_tokens", 0, least=0) or 0
    if min_tokens > max_tokens:
        raise bad_request(f"min_tokens is {min_tokens}, more than max_tokens, {max_tokens}", "min_tokens")
    flags = (_flag(body, name) for name in ("ignore_eos", "return_token_ids"))
    ignore_eos, return_token_ids = flags
    return Asked(chat, prompt, max_tokens, min_tokens, ignore_eos, stream, *usage, return_token_ids)


def read_tokenize(body: Body) -> Tokens:
    """What ``/tokenize`` is to cut: a prompt, or the messages of a chat."""
    if "messages" in body:
        return rendered(body["messages"], _flag(body, "add_generation_prompt", default=True))
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise bad_request("give prompt, a text, or messages", "prompt")
    return Tokens.of_text(prompt)


def read_detokenize(body: Body) -> Tokens:
    """What ``/detokenize`` is to put together."""
    return _of_ids(body.get("tokens"), "tokens")


def rendered(messages: object, add_generation_prompt: bool = True) -> Tokens:
    """The messages of a chat as the model would see them: each with its role above it."""
    if not isinstance(messages, list) or not messages:
        raise bad_request("give messages, a list of objects with role and content", "messages")
    text = "".join(f"<|{role}|>\n{content}\n" for role, content in map(_message, messages))
    return Tokens.of_text(text + "<|assistant|>\n" if add_generation_prompt else text)


def _message(message: object) -> tuple[str, str]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise bad_request("every message is an object with a role, a text", "messages")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(map(_part, content))
    if not isinstance(content, str | None):
        raise bad_request("the content of a message is a text, a list of parts, or null", "messages")
    return message["role"], content or ""


def _part(part: object) -> str:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        raise bad_request("only parts with a text are emulated", "messages")
    return str(part["text"])


def _prompt(prompt: object) -> Tokens:
    """A text or token ids; of a list of prompts there may be one."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        if len(prompt) > 1:
            raise bad_request(f"one prompt a request is emulated, not {len(prompt)}", "prompt")
        prompt = prompt[0]
    tokens = Tokens.of_text(prompt) if isinstance(prompt, str) else _of_ids(prompt, "prompt")
    if len(tokens) == 0:
        raise bad_request("the prompt is empty", "prompt")
    return tokens


def _of_ids(ids: object, name: str) -> Tokens:
    try:
        if isinstance(ids, list):
            return Tokens.of_ids(ids)
    except struct.error:
        pass
    kinds = "a text or a list of" if name == "prompt" else "a list of"
    raise bad_request(f"give {name}, {kinds} token ids from 0 to {LARGEST_TOKEN}", name)


def _check_choices(body: Body) -> None:
    for name in ("n", "best_of"):
        if _whole(body, name, 1, least=1) != 1:
            raise bad_request(f"{name} is {body[name]}: one choice a request is emulated", name)
    for name in _NOT_EMULATED:
        if body.get(name) not in (None, False):
            raise bad_request(f"{name} is not emulated", name)


def _stream_options(body: Body, stream: bool) -> tuple[bool, bool]:
    options = body.get("stream_options")
    if options is None:
        return False, False
    if not stream:
        raise bad_request("stream_options are for a stream: set stream to true", "stream_options")
    if not isinstance(options, dict):
        raise bad_request("stream_options is an object", "stream_options")
    include = _flag(options, "include_usage", default=True)
    return include, include and _flag(options, "continuous_usage_stats")


def _max_tokens(body: Body, chat: bool, prompt_tokens: int, longest: int) -> int:
    name = "max_completion_tokens" if chat and body.get("max_completion_tokens") is not None else "max_tokens"
    room = longest - prompt_tokens
    asked = _whole(body, name, None, least=1)
    if room < 1 or (asked is not None and asked > room):
        answer = f" and {asked} for the answer" if asked is not None else ", which leaves none for the answer"
        raise bad_request(f"the context has {longest} tokens, and the prompt takes {prompt_tokens}{answer}", name)
    if asked is not None:
        return asked
    return room if chat else min(_DEFAULT_COMPLETION_TOKENS, room)


def _whole(body: Body, name: str, default: int | None, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST_TOKENS:
        raise bad_request(f"{name} is a whole number, {least} or more", name)
    return value


def _flag(body: Body, name: str, default: bool = False) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise bad_request(f"{name} is true or false", name)
    return value
