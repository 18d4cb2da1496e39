"""What is tried again, and what must not be."""

from __future__ import annotations

import asyncio

from aladdin_env.bridge.conformance.backend import Exchange, Script
from aladdin_env.bridge.conformance.case import case, check
from aladdin_env.bridge.conformance.scripts import RETRY_AFTER, SORRY, die, piece, refusing, serve
from aladdin_env.bridge.conformance.trial import CHAT, Trial

_RETRY = "convention: retried on another backend, before the first byte"
_AT_ONCE = 8
_MOST_ATTEMPTS = 12
_IDLE_S = 0.2


async def _served_beside(trial: Trial, fault: Script | None, what: str) -> None:
    """While one backend has a fault all clients are served by the others; each of the first two has it in turn.

    Args:
        trial: The case.
        fault: What it does to each request; None: it takes no connections.
        what: Names the fault.
    """

    async def answer(exchange: Exchange) -> None:
        if fault is not None and exchange.backend == sick.number:
            await fault(exchange)
            return
        await asyncio.sleep(0.05)  # so that requests at once are spread
        await serve(exchange)

    for sick in trial.grid.backends[:2]:
        trial.script = answer
        if fault is None:
            await sick.refuse()
        answers = await trial.together([trial.ask(trial.chat()) for _ in range(_AT_ONCE)])
        failed = sorted({str(answer.status) for answer in answers if answer.status != 200})
        check(not failed, f"{what} by one backend: clients get {', '.join(failed)}")
        if fault is None:
            await sick.open()
        trial.script = serve
        await trial.recovered(trial.bounds.recovery_s)  # or a circuit breaker would have no backend for the next round


@case(_RETRY)
async def retry_after_503(trial: Trial) -> None:
    """One backend answers 503, another would serve: all clients get 200."""
    await _served_beside(trial, refusing(503), "503")


@case(_RETRY)
async def retry_after_death(trial: Trial) -> None:
    """One backend closes the connection without a byte, another would serve: all clients get 200."""
    await _served_beside(trial, die, "closed without a byte")


@case(_RETRY)
async def retry_when_refused(trial: Trial) -> None:
    """One backend takes no connections, another would serve: all clients get 200."""
    await _served_beside(trial, None, "connection refused")


@case("vLLM closes idle connections after 5 s, maybe just when a request arrives on one")
async def retry_on_a_stale_connection(trial: Trial) -> None:
    """Backends close connections that lay idle at the moment when a request comes: the client gets 200."""

    async def close_idle(exchange: Exchange) -> None:
        if exchange.idle_s is not None and exchange.idle_s > _IDLE_S:
            exchange.die()
        else:
            await serve(exchange)

    trial.script = close_idle
    for _ in range(4):
        answers = await trial.together([trial.ask(trial.chat()) for _ in range(4)])
        failed = [str(answer.status) for answer in answers if answer.status != 200]
        check(not failed, f"the client gets {', '.join(failed)}")
        await asyncio.sleep(1.5 * _IDLE_S)


@case("convention: a client's mistake is the client's to mend, and 4xx other than 408 and 429 are never retried")
async def client_errors_pass(trial: Trial) -> None:
    """400, 401, 404 and 422 of the backend reach the client with their body, after one attempt."""
    for status in (400, 401, 404, 422):
        trial.script = refusing(status)
        mark = trial.mark()
        answer = await trial.ask(trial.chat(mark))
        attempts = len(trial.seen(mark))
        check(attempts == 1, f"{status} was tried {attempts} times")
        check(answer.status == status, f"{status} becomes {answer.status}")
        check(answer.body == SORRY, f"the body of {status} was replaced by {answer.body[:60]!r}")


@case("clients pace themselves by it")
async def retry_after_passed(trial: Trial) -> None:
    """All backends answer 429, or 503, with Retry-After: so does the router, after a bounded number of attempts."""
    for status in (429, 503):
        trial.script = refusing(status, {"Retry-After": RETRY_AFTER})
        mark = trial.mark()
        answer = await trial.ask(trial.chat(mark))
        attempts = len(trial.seen(mark))
        check(1 <= attempts <= _MOST_ATTEMPTS, f"{status} was tried {attempts} times")
        check(answer.status == status, f"{status} becomes {answer.status}")
        check(answer.header("Retry-After") != "", f"{status} comes without Retry-After")


@case("a second attempt after the first byte makes the client pay twice, and mixes two answers")
async def no_retry_after_the_first_byte(trial: Trial) -> None:
    """A backend dies after its first chunk: no backend sees the request again."""

    async def begin_and_die(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(piece(CHAT, "first"))
        await asyncio.sleep(0.1)
        exchange.die()

    trial.script = begin_and_die
    await trial.ask(trial.chat(stream=True))
    await asyncio.sleep(0.3)
    attempts = len(trial.exchanges)
    check(attempts == 1, f"the request was sent {attempts} times")


@case("a router with short time-outs doubles the load just when it is high; long prompts take seconds")
async def slow_backend_waited_for(trial: Trial) -> None:
    """A backend that takes seconds to its first byte, or pauses as long in a stream, is waited for, and asked once."""
    pause_s = trial.bounds.slow_s

    async def take_time(exchange: Exchange) -> None:
        if not (exchange.json or {}).get("stream"):
            await asyncio.sleep(pause_s)
            await serve(exchange)
            return
        await exchange.begin()
        await exchange.send(piece(CHAT, "first"))
        await asyncio.sleep(pause_s)
        await exchange.send(piece(CHAT, "last"))

    trial.script = take_time
    within_s = pause_s + trial.bounds.answer_s
    bodies = [trial.chat(), trial.chat(stream=True)]
    late, paused = await trial.together([trial.ask(body, within_s=within_s) for body in bodies])
    check(late.status == 200, f"no byte for {pause_s:g} s: the client gets {late.status}")
    check(b"last" in paused.body and not paused.broken, f"a pause of {pause_s:g} s: the stream was cut off")
    check(len(trial.exchanges) == 2, f"{len(trial.exchanges)} attempts for 2 requests")
