"""How a backend answers: as vLLM does, or with a fault."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aladdin_env.bridge.conformance.backend import JSON, Backend, Exchange, Script

MODEL = "conformance"
DONE = b"data: [DONE]\n\n"
RETRY_AFTER = "7"
SORRY = json.dumps({"error": {"message": "the engine says no", "type": "Refused", "code": "engine_said_no"}}).encode()
_USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
_STREAMED = ("/v1/chat/completions", "/v1/completions")
_VECTOR = [0.25, -0.5]
_ITEM = {"type": "message", "id": "m1", "role": "assistant", "status": "completed"}
_TEXT = {"type": "output_text", "text": "a genie", "annotations": []}
_RATED = [{"index": i, "document": {"text": text}, "relevance_score": 0.5 - 0.25 * i} for i, text in enumerate("ab")]
#: Answers of the endpoints beside chat and completions, as vLLM gives them.
_OTHERS: dict[str, dict[str, Any]] = {
    "/tokenize": {"count": 3, "max_model_len": 4096, "tokens": [1, 2, 3], "token_strs": None},
    "/detokenize": {"prompt": "a genie"},
    "/v1/embeddings": {"object": "list", "data": [{"index": 0, "object": "embedding", "embedding": _VECTOR}]},
    "/v1/rerank": {"results": _RATED},
    "/score": {"object": "list", "data": [{"index": 0, "object": "score", "score": 0.5}]},
    "/pooling": {"object": "list", "data": [{"index": 0, "object": "pooling", "data": _VECTOR}]},
    "/v1/responses": {"object": "response", "status": "completed", "output": [_ITEM | {"content": [_TEXT]}]},
    "/v1/messages": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "a genie"}]},
}
_HEAD: dict[str, Any] = {"id": "answer-1", "created": 1700000000, "model": MODEL}


def piece(path: str, text: str) -> bytes:
    """An event with some text of the answer, as the endpoint ``path`` streams it."""
    if path == "/v1/chat/completions":
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        body = {**_HEAD, "object": "chat.completion.chunk", "choices": [choice]}
    else:
        body = {**_HEAD, "object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": None}]}
    return b"data: %s\n\n" % json.dumps(body, ensure_ascii=False).encode()


def usage_event(path: str) -> bytes:
    """The event with the token counts that ``stream_options.include_usage`` asks for."""
    kind = "chat.completion.chunk" if path == "/v1/chat/completions" else "text_completion"
    return b"data: %s\n\n" % json.dumps({**_HEAD, "object": kind, "choices": [], "usage": _USAGE}).encode()


def whole(path: str) -> bytes:
    """A whole answer of the endpoint ``path``; with odd spacing, so that writing it anew shows."""
    if path == "/v1/chat/completions":
        message = {
            "role": "assistant",
            "content": "f\u00fcnf W\u00f6rter: \u4e94\u4e2a\u8bcd \U0001f9de",
            "refusal": None,
        }
        body = {**_HEAD, "object": "chat.completion", "choices": [{"index": 0, "message": message}], "usage": _USAGE}
    else:
        body = {**_HEAD, "object": "text_completion", "choices": [{"index": 0, "text": "x"}], "usage": _USAGE}
    return json.dumps(body, ensure_ascii=False, separators=(" , ", " :  ")).encode() + b"\n"


def other(path: str) -> bytes:
    """A whole answer of any other endpoint."""
    return json.dumps({**_HEAD, "usage": _USAGE, **_OTHERS.get(path, {})}).encode()


def asks_usage(exchange: Exchange) -> bool:
    """Whether the backend is asked for token counts at the end of the stream."""
    options = (exchange.json or {}).get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


async def serve(exchange: Exchange) -> None:
    """Answer as a healthy vLLM."""
    if exchange.path not in _STREAMED:
        await exchange.reply(200, other(exchange.path))
    elif exchange.json is None:
        await exchange.reply(400, SORRY)
    elif exchange.json.get("stream"):
        await stream(exchange, *(piece(exchange.path, word) for word in ("one ", "two ", "three")))
    else:
        await exchange.reply(200, whole(exchange.path))


async def stream(exchange: Exchange, *events: bytes) -> None:
    """Stream the events, token counts where they are asked for, and the end."""
    await exchange.begin()
    for event in events:
        await exchange.send(event)
    if asks_usage(exchange):
        await exchange.send(usage_event(exchange.path))
    await exchange.send(DONE)


async def die(exchange: Exchange) -> None:
    """Close the connection without a byte."""
    exchange.die()


def refusing(status: int, headers: Mapping[str, str] | None = None) -> Script:
    """Answer with ``status`` and the body :data:`SORRY`."""

    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(status, SORRY, JSON | dict(headers or {}))

    return refuse


async def look_after(exchange: Exchange, backend: Backend, models: tuple[str, ...]) -> None:
    """Answer what routers ask of their own accord: health, models, metrics; 404 to the rest."""
    if exchange.path in ("/health", "/ping"):
        await exchange.reply(200, b"", {})
    elif exchange.path == "/v1/models":
        entries = [{"id": name, "object": "model", "owned_by": "vllm", "max_model_len": 4096} for name in models]
        await exchange.reply(200, json.dumps({"object": "list", "data": entries}).encode())
    elif exchange.path == "/version":
        await exchange.reply(200, b'{"version": "0.25.1"}')
    elif exchange.path == "/metrics":
        running = sum(not other.ended for other in backend.exchanges if other.mark)
        await exchange.reply(200, metrics_text(running).encode(), {"Content-Type": "text/plain; version=0.0.4"})
    elif exchange.method == "POST":
        await serve(exchange)
    else:
        await exchange.reply(404, b'{"detail": "Not Found"}')


def metrics_text(running: int) -> str:
    """What vLLM tells of itself, as far as routers look at it."""
    labels = f'engine="0",model_name="{MODEL}"'
    gauges = {"num_requests_running": running, "num_requests_waiting": 0, "kv_cache_usage_perc": 0.0}
    lines = [f"# TYPE vllm:{name} gauge\nvllm:{name}{{{labels}}} {value}" for name, value in gauges.items()]
    config = f'vllm:cache_config_info{{{labels},block_size="16",num_gpu_blocks="8192"}} 1.0'
    return "\n".join([*lines, "# TYPE vllm:cache_config_info gauge", config, ""])
