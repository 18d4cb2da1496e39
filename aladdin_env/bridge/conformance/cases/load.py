"""Many requests, large ones, slow clients."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from aladdin_env.bridge.conformance.backend import Exchange
from aladdin_env.bridge.conformance.case import NoAnswer, case, check
from aladdin_env.bridge.conformance.scripts import serve
from aladdin_env.bridge.conformance.trial import Trial

_AT_ONCE = 24
_ALIKE = 40
_MEMORY_FACTOR = 4


async def _shares(trial: Trial, bodies: Sequence[bytes]) -> list[int]:
    """How many of these requests, all there at once, each backend gets."""
    hold = trial.gate()

    async def think(exchange: Exchange) -> None:
        await hold.wait()
        await serve(exchange)

    trial.script = think
    asked = [trial.begin(trial.ask(body)) for body in bodies]
    await trial.arrived(len(bodies))
    hold.set()
    answers = await asyncio.gather(*asked)
    check(all(answer.status == 200 for answer in answers), "not all were answered")
    found = Counter(exchange.backend for exchange in trial.exchanges)
    return [found[backend.number] for backend in trial.grid.backends]


@case("the point of a router")
async def load_spreads(trial: Trial) -> None:
    """Of requests at once every backend gets a fair share."""
    shares = await _shares(trial, [trial.chat() for _ in range(_AT_ONCE)])
    fair = _AT_ONCE / len(shares)
    check(min(shares) >= fair / 3, f"of {_AT_ONCE} the backends get {', '.join(map(str, shares))}")


@case("known fault: affinity to a cached prefix that never yields piles all on one backend (sglang 14532)")
async def hot_prompt_is_shared(trial: Trial) -> None:
    """Requests at once whose prompts begin alike do not all go to one backend."""
    shares = await _shares(trial, [trial.chat(before="the same long preface " * 50) for _ in range(_ALIKE)])
    check(min(shares) > 0, f"of {_ALIKE} the backends get {', '.join(map(str, shares))}")


@case("one slow reader must not be everybody's")
async def slow_client_stalls_nobody(trial: Trial) -> None:
    """While ten clients do not read their streams others are served."""
    stop = trial.gate()
    block = b"data: %s\n\n" % (b"x" * 65_000)

    async def send(exchange: Exchange) -> None:
        if not (exchange.json or {}).get("stream"):
            await serve(exchange)
            return
        await exchange.begin()
        for _ in range(trial.bounds.huge_bytes // len(block) // 10):
            if stop.is_set():
                return
            await exchange.send(block)
            await asyncio.sleep(0)

    trial.script = send
    readers = [await trial.open(trial.chat(stream=True), window_bytes=1 << 16) for _ in range(10)]
    await trial.arrived(len(readers))
    for _ in range(10):
        answer = await trial.ask(trial.chat())
        check(answer.status == 200, f"another client gets {answer.status}")


@case("convention: refused with 413, or passed; never a router that falls over")
async def huge_body_survived(trial: Trial) -> None:
    """A body of 100 MB is refused or passed on, without taking much more memory; others are served meanwhile."""
    size = trial.bounds.body_bytes
    process = trial.grid.process
    before = process.peak_bytes() if process is not None else None
    huge = trial.begin(_send_huge(trial, trial.chat(user="x" * size)))
    for _ in range(5):
        answer = await trial.ask(trial.chat(), within_s=3 * trial.bounds.answer_s)
        check(answer.status == 200, f"another client gets {answer.status} meanwhile")
    status = await huge
    check(status in (0, 200, 400, 413), f"it answers {status}")
    after = process.peak_bytes() if process is not None else None
    if before is not None and after is not None:
        grown = (after - before) / 1e6
        check(
            after - before <= _MEMORY_FACTOR * size + 50e6, f"{size / 1e6:.0f} MB of body take {grown:.0f} MB of memory"
        )
    answer = await trial.ask(trial.chat())
    check(answer.status == 200, f"afterwards a client gets {answer.status}")


async def _send_huge(trial: Trial, body: bytes) -> int:
    """The status of the answer; 0 where the connection was closed while the body was still coming."""
    wire = await trial.open(body)
    try:
        return (await wire.answer(3 * trial.bounds.answer_s)).status
    except NoAnswer:
        return 0
