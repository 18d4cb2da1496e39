"""What a stream must stay: the same bytes, each at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aladdin_env.bridge.conformance.backend import Exchange
from aladdin_env.bridge.conformance.case import Failed, case, check
from aladdin_env.bridge.conformance.scripts import DONE, asks_usage, piece, serve, stream, usage_event
from aladdin_env.bridge.conformance.trial import CHAT, COMPLETIONS, Trial

_UNTOUCHED = "convention: the bytes of a stream are untouched"
_USAGE = "convention: the router may ask for token counts for itself, and then takes them out of the stream again"
_ASKED = {"include_usage": True}


def _expect(found: bytes, wanted: bytes, where: str) -> None:
    if found == wanted:
        return
    at = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted)))
    raise Failed(f"{where}: other bytes from {at} on: {found[at : at + 40]!r} instead of {wanted[at : at + 40]!r}")


@case(_UNTOUCHED)
async def streams_pass(trial: Trial) -> None:
    """A stream reaches the client byte by byte and as text/event-stream, for chat and completions."""
    for path in (CHAT, COMPLETIONS):
        answer = await trial.ask(trial.body(path, stream=True), path)
        check(answer.status == 200 and not answer.broken, f"{path} answers {answer.status}, or breaks off")
        kind = answer.header("Content-Type")
        check(kind.startswith("text/event-stream"), f"{path} answers {kind or 'no type'}")
        _expect(answer.body, b"".join(piece(path, word) for word in ("one ", "two ", "three")) + DONE, path)


@case("convention: streams are never buffered; the first token must not wait for the second")
async def streams_unbuffered(trial: Trial) -> None:
    """The backend sends its second chunk only after the client has read the first; both endpoints."""
    for path in (CHAT, COMPLETIONS):
        go_on = trial.gate()

        async def hesitate(exchange: Exchange, go_on: asyncio.Event = go_on) -> None:
            await exchange.begin()
            await exchange.send(piece(exchange.path, "first"))
            await go_on.wait()
            await exchange.send(piece(exchange.path, "second") + DONE)

        trial.script = hesitate
        wire = await trial.open(trial.body(path, stream=True), path)
        await wire.until(b"first", trial.bounds.notice_s)
        go_on.set()
        answer = await wire.answer(trial.bounds.answer_s)
        check(b"second" in answer.body and not answer.broken, f"the rest of {path} did not come")


@case(_USAGE)
async def usage_kept(trial: Trial) -> None:
    """A client that asks for stream_options.include_usage gets the chunk with the counts."""
    for path in (CHAT, COMPLETIONS):
        mark = trial.mark()
        answer = await trial.ask(trial.body(path, mark=mark, stream=True, stream_options=_ASKED), path)
        check(asks_usage(await trial.sole(mark)), f"the backend was not asked for counts ({path})")
        check(usage_event(path) in answer.body, f"the counts do not reach the client ({path})")


@case(_USAGE)
async def usage_hidden(trial: Trial) -> None:
    """A client that does not ask, or declines, gets no chunk with counts."""
    for path in (CHAT, COMPLETIONS):
        for fields in ({}, {"stream_options": {"include_usage": False}}):
            answer = await trial.ask(trial.body(path, stream=True, **fields), path)
            check(b"total_tokens" not in answer.body, f"the client sees counts that it did not ask for ({path})")
            check(answer.body.endswith(DONE), f"the end of the stream is missing ({path})")


async def _exactly(trial: Trial, parts: Sequence[bytes]) -> None:
    """The parts, each sent on its own, come as they are."""

    async def send(exchange: Exchange) -> None:
        await exchange.begin()
        for part in parts:
            await exchange.send(part)
            await asyncio.sleep(0.005)  # so that parts arrive on their own

    trial.script = send
    answer = await trial.ask(trial.chat(stream=True))
    _expect(answer.body, b"".join(parts), "stream")
    check(not answer.broken, "the stream breaks off")


@case(_UNTOUCHED)
async def stream_of_unicode(trial: Trial) -> None:
    """Characters that are cut in the middle by the chunks of the transfer come whole."""
    text = piece(CHAT, "\u00e9\u4e94\U0001f9de\u200d\u2640\ufe0f e\u0301")
    await _exactly(trial, [*(text[i : i + 7] for i in range(0, len(text), 7)), DONE])


@case(_UNTOUCHED)
async def stream_of_odd_lines(trial: Trial) -> None:
    """CRLF, comments, empty events, fields without a space, several events in one chunk, an error event, no [DONE]."""
    odd = [b": ping\n\n", b"\n", b"data:\n\n", b"event: message\r\nid: 7\r\ndata:{}\r\n\r\n", b"retry: 100\n\n"]
    error = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    await _exactly(trial, [*odd, piece(CHAT, "") + piece(CHAT, "x") * 3, b"data: a\ndata: b\n\n", error])


@case(_UNTOUCHED)
async def stream_of_long_events(trial: Trial) -> None:
    """An event of 1 MB comes whole, and so does what follows."""
    await _exactly(trial, [piece(CHAT, "long " * 200_000), piece(CHAT, "short"), DONE])


@case("vLLM sends a chunk per token: a router must not lose some when they come fast")
async def stream_of_many_events(trial: Trial) -> None:
    """Ten streams of 2,000 chunks at once, none with a chunk lost, doubled or out of order."""
    events = [piece(CHAT, f"{number} ") for number in range(2000)]

    async def send(exchange: Exchange) -> None:
        await stream(exchange, *events)

    trial.script = send
    answers = await trial.together([trial.ask(trial.chat(stream=True)) for _ in range(10)])
    for answer in answers:
        _expect(answer.body, b"".join(events) + DONE, "stream")


@case("a queue without bound between backend and client has taken routers down")
async def reads_no_faster_than_the_client(trial: Trial) -> None:
    """A client that does not read stalls its backend: the router does not heap up the whole stream."""
    sent = 0
    block = b"data: %s\n\n" % (b"x" * 65_000)

    async def send(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.begin()
        while sent < trial.bounds.huge_bytes:
            await exchange.send(block)
            sent += len(block)

    trial.script = send
    wire = await trial.open(trial.chat(stream=True), window_bytes=1 << 16)
    before = -1
    while before < sent < trial.bounds.huge_bytes:
        before = sent
        await asyncio.sleep(1.0)
    wire.hang_up()
    trial.script = serve
    check(sent < trial.bounds.huge_bytes, f"it took {sent / 1e6:.0f} MB that nobody has read")
