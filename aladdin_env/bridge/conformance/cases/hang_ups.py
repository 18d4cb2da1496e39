"""The client leaves: the GPU must not work on."""

from __future__ import annotations

import asyncio
from collections import Counter

from aladdin_env.bridge.conformance.backend import Exchange
from aladdin_env.bridge.conformance.case import Failed, Skipped, case, check
from aladdin_env.bridge.conformance.scripts import piece, serve
from aladdin_env.bridge.conformance.trial import CHAT, Trial
from aladdin_env.bridge.conformance.wire import Wire

_WASTE = "known fault: the client hangs up and the GPU works on"
_HELD = 40
_ROUNDS = 4
_SETTLE_S = 0.3


async def _noticed(trial: Trial, exchange: Exchange, when: str) -> None:
    await trial.until(
        lambda: exchange.dropped, trial.bounds.notice_s, f"{when}: the backend's connection was not closed"
    )


@case(f"{_WASTE} (production-stack in prefill)")
async def hang_up_in_prefill(trial: Trial) -> None:
    """A client that leaves before the first byte: the backend's connection is closed; with and without streaming."""
    hold = trial.gate()

    async def think(exchange: Exchange) -> None:
        await hold.wait()
        await serve(exchange)

    trial.script = think
    for stream in (True, False):
        mark = trial.mark()
        wire = await trial.open(trial.chat(mark, stream=stream))
        seen = await trial.sole(mark)
        wire.hang_up()
        await _noticed(trial, seen, "streaming" if stream else "not streaming")


@case(_WASTE)
async def hang_up_in_stream(trial: Trial) -> None:
    """A client that leaves a stream while tokens come: the backend's connection is closed."""
    end = trial.gate()

    async def stream_on(exchange: Exchange) -> None:
        await exchange.begin()
        while not end.is_set():
            await exchange.send(piece(CHAT, "word "))
            await asyncio.sleep(0.05)

    trial.script = stream_on
    wire = await trial.open(trial.chat(stream=True))
    await wire.until(b"word", trial.bounds.answer_s)
    wire.hang_up()
    await _noticed(trial, await trial.sole(), "streaming")


@case("a router that only notices when it writes keeps a preempted or stuck request for ever")
async def hang_up_in_silence(trial: Trial) -> None:
    """A client that leaves a stream in which nothing comes just then: the backend's connection is closed."""
    end = trial.gate()

    async def stall(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.send(piece(CHAT, "word "))
        await end.wait()

    trial.script = stall
    wire = await trial.open(trial.chat(stream=True))
    await wire.until(b"word", trial.bounds.answer_s)
    wire.hang_up()
    await _noticed(trial, await trial.sole(), "in a pause")


@case(f"{_WASTE}, for one who left while he was queued")
async def hang_up_in_the_queue(trial: Trial) -> None:
    """A client that leaves while the router holds its request: no backend gets it, or is let go of it at once."""
    hold = trial.gate()

    async def think(exchange: Exchange) -> None:
        await hold.wait()
        await serve(exchange)

    trial.script = think
    marks = [trial.mark() for _ in range(trial.bounds.fill)]
    wires = {mark: await trial.open(trial.chat(mark)) for mark in marks}
    await trial.waited(lambda: len(trial.exchanges) == len(marks), 4 * _SETTLE_S)
    answers = {mark: trial.begin(wire.answer(trial.bounds.answer_s)) for mark, wire in wires.items()}
    await trial.waited(lambda: all(answer.done() for answer in answers.values()), _SETTLE_S)
    queued = [mark for mark in marks if not trial.seen(mark) and not answers[mark].done()]
    if not queued:
        raise Skipped(f"it queues none of {len(marks)} requests at once (--fill)")
    wires[queued[0]].hang_up()
    answers.pop(queued[0]).cancel()
    await asyncio.sleep(_SETTLE_S)
    hold.set()
    await asyncio.gather(*answers.values(), return_exceptions=True)
    late = trial.seen(queued[0])
    if late:
        await _noticed(trial, late[0], "it was sent to a backend all the same")


@case("known fault: in-flight counters leak (production-stack, vllm-router, smg)")
async def hang_ups_leak_nothing(trial: Trial) -> None:
    """After many clients left one backend, requests still spread over all: its in-flight count is back to zero."""
    shares: Counter[int] = Counter()
    for last in (False,) * (_ROUNDS - 1) + (True,):
        shares = await _round(trial, hang_up_on=None if last else 0)
    fewest = min(shares[backend.number] for backend in trial.grid.backends)
    fair = _HELD / len(trial.grid.backends)
    told = ", ".join(f"{shares[backend.number]}" for backend in trial.grid.backends)
    check(fewest >= 0.4 * fair, f"of {_HELD} requests at once the backends then get {told}")


async def _round(trial: Trial, hang_up_on: int | None) -> Counter[int]:
    """Many requests held at once; those on one backend are left by their clients, the others served.

    Returns:
        How many requests each backend had.
    """
    hold = trial.gate()

    async def think(exchange: Exchange) -> None:
        await hold.wait()
        await serve(exchange)

    trial.script = think
    wires: dict[str, Wire] = {}
    for mark in [trial.mark() for _ in range(_HELD)]:
        wires[mark] = await trial.open(trial.chat(mark, stream=True))
    if not await trial.waited(lambda: all(trial.seen(mark) for mark in wires), trial.bounds.answer_s):
        raise Failed(f"of {_HELD} requests at once not all reach a backend")
    held = {mark: trial.seen(mark)[-1] for mark in wires}
    for mark, exchange in held.items():
        if exchange.backend == hang_up_on:
            wires.pop(mark).hang_up()
    await asyncio.sleep(_SETTLE_S)
    hold.set()
    await trial.together([wire.answer(trial.bounds.answer_s) for wire in wires.values()])
    await trial.waited(lambda: all(exchange.ended for exchange in held.values()), trial.bounds.notice_s)
    return Counter(exchange.backend for exchange in held.values())
