"""Workers and requests for the tests of the emulator."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import aiohttp
import numpy as np

from aladdin_env.bridge.emulator import EmulatedServer, EmulatorSettings
from aladdin_env.bridge.emulator.clock import Clock
from aladdin_env.bridge.emulator.worker import Answer, Worker
from aladdin_env.latency import DecodeLaw, LatencyProfile, PrefillLaw, Provenance
from aladdin_env.scenario import WorkerType
from aladdin_traces import PrefixBlocks, Trace
from tests.env.simulator.random_cases import random_case

_NOBODY = Provenance("toy", "none", 1, "none", "0", "2026", "made up", "made up", {})


def toy_profile(
    prefill_s: float = 0.1, decode_s: float = 0.02, overhead_s: float = 0.0, kv_tokens: int = 4096
) -> LatencyProfile:
    """A prefill step and a decode step take these times, however much is in them; a mixed one as long as the longer."""
    prefill, decode = PrefillLaw.linear(0.0, prefill_s), DecodeLaw.linear(0.0, 0.0, decode_s)
    return LatencyProfile("toy", prefill, decode, min(prefill_s, decode_s), overhead_s, 1.0, 0.0, kv_tokens, 1, _NOBODY)


def toy_kind(**changes: object) -> WorkerType:
    """A worker of :func:`toy_profile`; ``changes`` are for the profile or for the worker."""
    ours = {"prefill_s", "decode_s", "overhead_s", "kv_tokens"} & set(changes)
    profile = toy_profile(**{name: changes.pop(name) for name in ours})  # type: ignore[arg-type]
    kind = WorkerType("toy", profile, 1, 1, 1, max_num_seqs=8, max_num_batched_tokens=64, prefix_cache=False)
    return replace(kind, **changes)  # type: ignore[arg-type]


@dataclass
class Case:
    """One worker and the requests that come to it."""

    kind: WorkerType
    trace: Trace

    @property
    def blocks(self) -> PrefixBlocks | None:
        return self.trace.prefix_blocks

    def blocks_of(self, r: int) -> list[int]:
        return [] if self.blocks is None else self.blocks[r].tolist()


def one_worker(seed: int, scheduler: str, *, dyadic: bool = False) -> Case:
    """A small worker under pressure: short KV, small batches and budgets, shared prefixes."""
    case = random_case(seed, scheduler, dyadic=dyadic)
    trace, kind = case.draws.trace, case.scenario.fleet.types[0]
    kind = replace(kind, initial=1, minimum=1, maximum=1)
    blocks = trace.prefix_blocks
    if blocks is None or blocks.block_size != kind.block_size:  # the emulator's are always those of the KV
        trace = Trace.from_arrays(trace.arrival_s, trace.prompt_tokens, trace.output_tokens)
    if trace.prefix_blocks is None:
        kind = replace(kind, prefix_cache=False)
    return Case(kind, trace)


@dataclass(order=True)
class _Call:
    when_s: float
    number: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class HandClock:
    """A clock that a test turns: time stands still until it is told to go on."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._calls: list[_Call] = []
        self._numbers = itertools.count()

    def now_s(self) -> float:
        return self._now_s

    def call_at(self, when_s: float, callback: Callable[[], None]) -> _Call:
        call = _Call(when_s, next(self._numbers), callback)
        heapq.heappush(self._calls, call)
        return call

    @property
    def next_s(self) -> float:
        """When something is to happen; infinity for nothing."""
        while self._calls and self._calls[0].cancelled:
            heapq.heappop(self._calls)
        return self._calls[0].when_s if self._calls else np.inf

    def step(self, before_s: float = np.inf) -> bool:
        """Let the next thing happen, if it does before ``before_s``; whether it did."""
        if not self.next_s < before_s:
            return False
        call = heapq.heappop(self._calls)
        self._now_s = max(self._now_s, call.when_s)
        call.callback()
        return True

    def turn_to(self, time_s: float) -> None:
        """Let everything happen that is due before ``time_s``, and be there."""
        while self.step(time_s):
            pass
        self._now_s = max(self._now_s, time_s)


@dataclass
class Seen:
    """What a client saw of a request."""

    answer: Answer
    token_s: list[float] = field(default_factory=list)


def replay(case: Case, hang_up_s: dict[int, float] | None = None) -> tuple[Worker, list[Seen]]:
    """Send the requests at their times to a worker on a clock of its own, and note when each token arrives.

    ``hang_up_s``: when the clients of some requests go.
    """
    clock = HandClock()
    worker = Worker(case.kind, clock)
    seen: list[Seen] = []

    def look() -> None:
        for one in seen:
            one.token_s += [clock.now_s()] * (one.answer.generated - len(one.token_s))

    going = sorted((time_s, r) for r, time_s in (hang_up_s or {}).items())
    events = [(time_s, 1, r) for r, time_s in enumerate(case.trace.arrival_s.tolist())]
    events += [(time_s, 0, r) for time_s, r in going]
    for time_s, comes, r in sorted(events):
        while clock.step(time_s):
            look()
        clock.turn_to(time_s)
        if comes:
            lengths = int(case.trace.prompt_tokens[r]), int(case.trace.output_tokens[r])
            seen.append(Seen(worker.submit(*lengths, blocks=case.blocks_of(r))))
        elif r < len(seen):
            worker.drop(seen[r].answer)
    while clock.step():
        look()
    return worker, seen


PATIENCE_S = 20.0  # for what takes milliseconds, on a machine that is busy with other things


@asynccontextmanager
async def serving(
    kind: WorkerType | None = None, clock: Clock | None = None, **settings: object
) -> AsyncIterator[tuple[EmulatedServer, aiohttp.ClientSession]]:
    """A server on a free port and a client of it."""
    made = EmulatorSettings(kind or toy_kind(), **{"model": "m", **settings})  # type: ignore[arg-type]
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with (
        EmulatedServer(made, clock=clock) as server,
        aiohttp.ClientSession(server.url, timeout=timeout) as client,
    ):
        yield server, client


async def until(what: Callable[[], bool]) -> None:
    """Wait until ``what`` holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not what():
            await asyncio.sleep(0.001)


def watch(server: EmulatedServer) -> list[Answer]:
    """The answers that the server's worker gives from now on."""
    answers: list[Answer] = []
    submit = server.worker.submit

    def noted(*args: object, **kwargs: object) -> Answer:
        answers.append(submit(*args, **kwargs))  # type: ignore[arg-type]
        return answers[-1]

    server.worker.submit = noted  # type: ignore[method-assign]
    return answers


async def one_by_one(
    server: EmulatedServer, client: aiohttp.ClientSession, clock: HandClock, path: str, body: dict[str, object]
) -> list[tuple[float, bytes]]:
    """The events of a stream, each with the time on ``clock`` at which it was there; the clock waits for its reader."""
    (answers, events) = watch(server), []
    tokens = 0

    async def read(response: aiohttp.ClientResponse) -> None:
        nonlocal tokens
        while event := await response.content.readuntil(b"\n\n"):
            events.append((clock.now_s(), event))
            tokens += b'"role"' not in event and b'"choices": [{' in event

    async with client.post(path, json={**body, "stream": True}) as response:
        reading = asyncio.create_task(read(response))
        await until(lambda: bool(answers))
        while clock.step():
            await until(lambda: tokens == answers[0].generated)
        await reading
    return events
