"""Backends that die: what clients are told, and where the traffic goes."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from aladdin_env.bridge.conformance.backend import JSON, Exchange
from aladdin_env.bridge.conformance.case import Failed, NoAnswer, case, check
from aladdin_env.bridge.conformance.scripts import DONE, piece, refusing, serve
from aladdin_env.bridge.conformance.trial import CHAT, Trial
from aladdin_env.bridge.conformance.wire import Answer

_ROUND = 10


async def _cut_off(trial: Trial) -> Answer:
    """The answer to a stream whose backend dies after the client has its first chunk."""
    go_on = trial.gate()

    async def begin_and_die(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(piece(CHAT, "first"))
        await go_on.wait()
        exchange.die()

    trial.script = begin_and_die
    wire = await trial.open(trial.chat(stream=True))
    await trial.arrived()
    await trial.waited(lambda: False, 0.2)  # a router that buffers has the chunk now; another case is about that
    go_on.set()
    return await wire.answer(trial.bounds.answer_s)


@case("a client that takes half an answer for a whole one stores it")
async def death_is_no_clean_end(trial: Trial) -> None:
    """A backend dies in a stream: the client gets an error event or a transfer that breaks off, never a clean end."""
    answer = await _cut_off(trial)
    told = answer.status >= 500 or answer.broken or _has_error(answer.body)
    check(told, f"the stream ends as if it were whole{', with [DONE]' if DONE in answer.body else ''}")


@case("convention: an SSE error event, then close; a bare broken connection tells neither who nor why")
async def death_is_told(trial: Trial) -> None:
    """A backend dies in a stream: an event with an error follows what had come before."""
    answer = await _cut_off(trial)
    check(b"first" in answer.body, "what had come before was lost")
    check(_has_error(answer.body), "no error event")


def _has_error(body: bytes) -> bool:
    """Whether an event of a stream is a JSON object with an error: what OpenAI's own clients raise."""
    for line in body.splitlines():
        with suppress(ValueError):
            event = json.loads(line.removeprefix(b"data:"))
            if isinstance(event, dict) and "error" in event:
                return True
    return False


@case("a JSON body cut in half under a 200 is taken for a fault of the client's")
async def death_in_a_whole_answer(trial: Trial) -> None:
    """A backend dies in the middle of an answer that is no stream: the client gets no complete 200."""

    async def begin_and_die(exchange: Exchange) -> None:
        await exchange.begin(200, JSON)
        await exchange.send(b'{"choices": [')
        await asyncio.sleep(0.1)
        exchange.die()

    trial.script = begin_and_die
    try:
        answer = await trial.ask(trial.chat())
    except NoAnswer:
        return  # nothing to be mistaken for an answer
    check(answer.broken or answer.status >= 500, f"{answer.status} with {len(answer.body)} bytes, as if whole")


async def _sent_to_the_sick(trial: Trial) -> int:
    """Requests of a round that the backend number 0 saw."""
    before = len(trial.grid.backends[0].exchanges)
    for _ in range(_ROUND // 2):
        await trial.together([_try(trial), _try(trial)])
    return sum(trial.owns(exchange) for exchange in trial.grid.backends[0].exchanges[before:])


async def _try(trial: Trial) -> None:
    try:
        await trial.ask(trial.chat())
    except Failed:
        return  # this is about where requests go, not what comes back


async def _avoided(trial: Trial) -> None:
    async def pause(exchange: Exchange) -> None:
        await asyncio.sleep(0.02)  # two at once must meet
        await serve(exchange)

    trial.script = pause
    trial.sick[0] = refusing(503)
    failures, last = 0, _ROUND
    try:
        async with asyncio.timeout(trial.bounds.recovery_s):
            while last > 1:  # a circuit breaker may try one now and then
                last = await _sent_to_the_sick(trial)
                failures += last
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise Failed(f"it still gets {last} of {_ROUND} requests after {failures} failures") from None


@case("each request that tries a dead backend first is late")
async def dead_backend_avoided(trial: Trial) -> None:
    """A backend that answers 503 to everything, /health too, gets no more requests after a while."""
    await _avoided(trial)


@case("known fault: a backend that was away once is never used again")
async def dead_backend_used_again(trial: Trial) -> None:
    """A backend that was dead and lives again gets requests again."""
    await _avoided(trial)
    trial.sick.clear()
    try:
        async with asyncio.timeout(trial.bounds.recovery_s):
            while await _sent_to_the_sick(trial) == 0:
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise Failed(f"it gets none within {trial.bounds.recovery_s:g} s") from None


@case("known fault: 404 at zero workers, and so for ever (production-stack 1003); convention: hold, or 503 and when")
async def no_backend_left(trial: Trial) -> None:
    """With all backends gone a request is held until one is back, or answered 503 with Retry-After, in JSON."""
    for backend in trial.grid.backends:
        await backend.refuse()
    wire = await trial.open(trial.chat())
    asked = trial.begin(wire.answer(trial.bounds.answer_s + trial.bounds.recovery_s))
    await asyncio.wait([asked], timeout=trial.bounds.answer_s / 2)
    held = not asked.done()
    for backend in trial.grid.backends:
        await backend.open()
    answer = await asked
    if held:
        check(answer.status == 200, f"held, then answered {answer.status}")
        return
    check(answer.status == 503, f"it answers {answer.status}")
    check(answer.header("Retry-After") != "", "503 without Retry-After")
    try:
        json.loads(answer.body)
    except ValueError:
        raise Failed(f"503 with a body that is no JSON: {answer.body[:40]!r}") from None


@case("known fault: routers that steer by metrics stop when these do (Dynamo 14575)")
async def metrics_outage_survived(trial: Trial) -> None:
    """With /metrics of all backends broken, requests are served all the same."""
    trial.overrides["/metrics"] = refusing(500)
    for _ in range(3):
        answer = await trial.ask(trial.chat())
        check(answer.status == 200, f"it answers {answer.status}")
        await asyncio.sleep(0.3)
