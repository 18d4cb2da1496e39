"""What goes through: endpoints, bodies, answers."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

from aladdin_env.bridge.conformance.backend import JSON, Exchange
from aladdin_env.bridge.conformance.case import case, check
from aladdin_env.bridge.conformance.scripts import MODEL, other, serve, whole
from aladdin_env.bridge.conformance.trial import CHAT, COMPLETIONS, Trial

_PROXIED = "convention: a router serves all that vLLM serves"
_ODD_BYTES = bytes(range(256)) * 4


@case("convention: OpenAI clients choose from this list; adapters differ between workers")
async def models_aggregated(trial: Trial) -> None:
    """GET /v1/models lists the models of all backends, each once."""
    answer = await trial.ask(b"", "/v1/models", method="GET")
    check(answer.status == 200, f"it answers {answer.status}")
    try:
        names = [entry["id"] for entry in json.loads(answer.body)["data"]]
    except (ValueError, LookupError, TypeError):
        names = []
    wanted = sorted({name for models in trial.grid.models for name in models})
    check(sorted(names) == wanted, f"it lists {', '.join(map(str, names)) or 'nothing'} instead of {', '.join(wanted)}")


@case("convention: bytes untouched")
async def whole_answers_pass(trial: Trial) -> None:
    """An answer that is no stream reaches the client byte by byte, for chat and completions."""
    for path in (CHAT, COMPLETIONS):
        answer = await trial.ask(trial.body(path), path)
        check(answer.status == 200, f"{path} answers {answer.status}")
        check(answer.body == whole(path), f"the bytes of {path} were changed: {answer.body[:60]!r}")


@case("vLLM takes many fields that OpenAI has not; a router that knows only some must not eat the others")
async def request_fields_kept(trial: Trial) -> None:
    """Fields of the request reach the backend with their values, those of vLLM and unknown ones too."""
    fields: dict[str, Any] = {
        "top_k": 7,
        "min_p": 0.05,
        "ignore_eos": True,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    fields |= {"x_unknown": [1, {"deep": None}], "seed": 2**53 - 1, "user": "J\u00f6rg \U0001f9de", "temperature": 0}
    await trial.ask(trial.chat(**fields))
    seen = await trial.sole()
    lost = [name for name, value in fields.items() if (seen.json or {}).get(name, "lost") != value]
    check(not lost, f"lost or changed: {', '.join(lost)}")


async def _pass(trial: Trial, bodies: Mapping[str, Mapping[str, Any]]) -> None:
    """Each path gets a POST through, with the mark for ``None`` in its body, and the backend's answer back."""
    for path, fields in bodies.items():
        mark = trial.mark()
        body = json.dumps({"model": MODEL} | {key: mark if value is None else value for key, value in fields.items()})
        answer = await trial.ask(body.encode(), path)
        seen = trial.seen(mark)
        check(len(seen) == 1, f"{path}: {len(seen)} requests reached the backends; it answers {answer.status}")
        check(seen[0].target == path, f"{path} arrives as {seen[0].target}")
        check(answer.status == 200, f"{path} answers {answer.status}")
        check(answer.body == other(path), f"the answer of {path} was changed: {answer.body[:60]!r}")


@case(_PROXIED)
async def tokenize_passes(trial: Trial) -> None:
    """POST /tokenize and /detokenize reach a backend."""
    await _pass(trial, {"/tokenize": {"prompt": None}, "/detokenize": {"tokens": [1, 2], "user": None}})


@case(_PROXIED)
async def embeddings_pass(trial: Trial) -> None:
    """POST /v1/embeddings reaches a backend."""
    await _pass(trial, {"/v1/embeddings": {"input": None}})


@case(_PROXIED)
async def scoring_passes(trial: Trial) -> None:
    """POST /v1/rerank, /score and /pooling reach a backend."""
    score = {"text_1": None, "text_2": ["a", "b"]}
    rerank = {"query": None, "documents": ["a", "b"]}
    await _pass(trial, {"/v1/rerank": rerank, "/score": score, "/pooling": {"input": None}})


@case(_PROXIED)
async def responses_pass(trial: Trial) -> None:
    """POST /v1/responses reaches a backend."""
    await _pass(trial, {"/v1/responses": {"input": None}})


@case(_PROXIED)
async def messages_pass(trial: Trial) -> None:
    """POST /v1/messages reaches a backend."""
    message = {"role": "user", "content": "a genie?"}
    await _pass(trial, {"/v1/messages": {"max_tokens": 8, "system": None, "messages": [message]}})


@case("convention: unknown paths pass through, for the next version of vLLM has more")
async def unknown_paths_pass(trial: Trial) -> None:
    """Other paths pass with method, query and body, of any kind of bytes."""

    async def answer_bytes(exchange: Exchange) -> None:
        await exchange.reply(207, _ODD_BYTES, {"Content-Type": "application/octet-stream"})

    trial.script = answer_bytes
    for method, body in (("GET", b""), ("POST", _ODD_BYTES), ("PUT", b"{}"), ("DELETE", b"")):
        mark = trial.mark()
        target = f"/v1/not/known/{mark}?a=%2F&b=1&b=%C3%BC"
        answer = await trial.ask(body, target, method=method, headers={"Content-Type": "application/octet-stream"})
        seen = trial.seen(mark)
        check(bool(seen), f"{method} does not reach a backend; it answers {answer.status}")
        arrived = seen[0].target.replace(mark, "...")
        check(seen[0].target == target, f"{target.replace(mark, '...')} arrives as {arrived}")
        check((seen[0].method, seen[0].body) == (method, body), f"{method} arrives as {seen[0].method} or another body")
        check((answer.status, answer.body) == (207, _ODD_BYTES), f"the answer to {method} was changed: {answer.status}")


@case("images and log probabilities make answers of many MB")
async def large_answers_pass(trial: Trial) -> None:
    """An answer of 8 MB comes whole and unchanged."""
    large = b'{"text": "%s"}' % (b"0123456789abcdef" * (1 << 19))

    async def answer_much(exchange: Exchange) -> None:
        await exchange.reply(200, large)

    trial.script = answer_much
    answer = await trial.ask(trial.chat())
    check(answer.status == 200 and not answer.broken, f"it answers {answer.status}, {len(answer.body)} bytes")
    check(answer.body == large, f"{len(answer.body)} bytes of {len(large)} came, or others")


@case("HTTP libraries unpack in silence: a router that still says 'gzip' sends what no client can read")
async def compressed_answers_pass(trial: Trial) -> None:
    """A client that accepts gzip can read the answer of a backend that sends gzip."""

    async def answer_packed(exchange: Exchange) -> None:
        if "gzip" not in exchange.headers.get("Accept-Encoding", ""):
            await serve(exchange)
        else:
            await exchange.reply(200, gzip.compress(whole(CHAT)), JSON | {"Content-Encoding": "gzip"})

    trial.script = answer_packed
    answer = await trial.ask(trial.chat(), headers={"Accept-Encoding": "gzip"})
    packed = answer.header("Content-Encoding") == "gzip"
    try:
        body = gzip.decompress(answer.body) if packed else answer.body
    except (OSError, EOFError, zlib.error):
        body = b""
    check(body == whole(CHAT), f"said to be {'gzip' if packed else 'plain'}, and is not")


@case("clients that stream their upload do not know its length; curl asks before it sends more than 1 MB")
async def uploads_pass(trial: Trial) -> None:
    """Bodies in chunks, and those after 'Expect: 100-continue', reach the backend whole."""
    for header in ({"Transfer-Encoding": "chunked"}, {"Expect": "100-continue"}):
        (name,) = header
        mark = trial.mark()
        body = trial.chat(mark, user="x" * 3000)
        parts = (body[:1000], body[1000:], b"")
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        answer = await trial.ask(body if name == "Expect" else chunked, headers=header)
        check(answer.status == 200, f"with {name} it answers {answer.status}")
        arrived = (await trial.sole(mark)).json or {}
        check(arrived.get("user") == "x" * 3000, f"with {name} the body arrives otherwise")
