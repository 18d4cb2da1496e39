"""The soak from the bridge's start to its end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from aladdin_env.errors import OutsideFault
from experiments.bridge.soak import plan, verdicts
from experiments.bridge.soak.client import LIMIT_S, Client, Ended
from experiments.bridge.soak.eyes import Eyes, Sample, ready
from experiments.bridge.soak.faults import Chaos, Fault, held_against
from experiments.bridge.soak.judge import COMPLETE
from experiments.bridge.soak.plan import Draws, Planned
from experiments.bridge.soak.processes import MAX_NUM_SEQS, Serve
from experiments.bridge.soak.verdicts import Rest, Verdict

LOAD = 0.8
_SAMPLE_EVERY_S = 5.0
_LEAST_SAMPLES = 10
_READY_S, _SETTLE_S = 150.0, 120.0
_QUIET_S = 6.0  # the bridge keeps a connection to a worker for four seconds
_WARM_UP = 40
_CROWDED = 1.5  # requests at once for each place in a batch: no place is ever empty
_RAMP = 0.25  # share of the measurement that is not counted


@dataclass(frozen=True)
class Options:
    """How long and how much.

    Attributes:
        minutes: Of load.
        workers: How many.
        seed: Of everything that is drawn.
        capacity_s: How long capacity is measured, seconds.
    """

    minutes: float = 10.0
    workers: int = 4
    seed: int = 0
    capacity_s: float = 20.0


@dataclass
class Found:
    """What came of it.

    Attributes:
        capacity_tps: Output tokens per second that the bridge and its workers can do.
        rate_rps: Requests per second that were sent.
        seconds: How long.
        sent: Requests of the load.
        ended: What came of them.
        faults: What was done to workers.
        samples: Of the bridge under load.
        retries: Requests that the bridge sent again.
        held_when_left: Clients that hung up while the bridge held their request.
        most_late_s: The largest delay of this program itself in sending, seconds.
        verdicts: What must be true.
        said: What the bridge has printed.
    """

    capacity_tps: float = 0.0
    rate_rps: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    ended: list[Ended] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    retries: int = 0
    held_when_left: int = 0
    most_late_s: float = 0.0
    verdicts: list[Verdict] = field(default_factory=list)
    said: str = ""

    @property
    def cores(self) -> float:
        """Cores that were busy under load, on average."""
        first, last = self.samples[0], self.samples[-1]
        return (last.cpu_s - first.cpu_s) / max(1e-9, last.at_s - first.at_s)


class Soak:
    """The stages.

    Args:
        serve: The bridge.
        options: How long and how much.
        told: Hears how many seconds of load are over.
    """

    def __init__(self, serve: Serve, options: Options, told: Callable[[float], None]) -> None:
        self.found = Found()
        self._serve = serve
        self._options = options
        self._told = told
        self._draws = Draws(options.seed)

    async def run(self) -> Found:
        """Warm up, measure, load, look at what is left."""
        async with aiohttp.ClientSession() as session:
            eyes = Eyes(self._serve, session)
            await self._all_ready(eyes)
            await self._warm_up()
            await asyncio.sleep(_QUIET_S)
            before = await _rest(eyes)
            self.found.capacity_tps = await self._capacity()
            await self._load(eyes)
            after = await self._settled(eyes, before)
        self._judge(before, after)
        return self.found

    async def _all_ready(self, eyes: Eyes) -> None:
        until_s = time.monotonic() + _READY_S
        while len(ready(await eyes.status())) < self._options.workers:
            if time.monotonic() > until_s:
                raise OutsideFault(f"the workers are not ready: {self._serve.said()[-400:]}")
            await asyncio.sleep(0.5)

    @asynccontextmanager
    async def _client(self, name: str) -> AsyncIterator[Client]:
        """A client whose connections end with it."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        ) as session:
            yield Client(self._serve.url, session, f"{name}{self._options.seed}")

    async def _warm_up(self) -> None:
        """All that a request of any kind needs is loaded before anything is measured."""
        kinds = itertools.cycle(plan.SHARES)
        async with self._client("warm") as client:
            await asyncio.gather(*(client.send(self._draws.request(kind=next(kinds))) for _ in range(_WARM_UP)))

    async def _capacity(self) -> float:
        """Output tokens per second with every place taken, and some requests waiting for one."""
        seconds, places = self._options.capacity_s, self._options.workers * MAX_NUM_SEQS
        begin_s, ended = time.monotonic(), list[Ended]()

        async def ask_on() -> None:
            while True:
                ended.append(await client.send(self._draws.request(kind=plan.STREAM)))

        async with self._client("full") as client:
            tasks = [asyncio.create_task(ask_on()) for _ in range(round(_CROWDED * places))]
            await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        from_s = begin_s + _RAMP * seconds
        whole = [one for one in ended if one.ended_s >= from_s and one.judged.outcome == COMPLETE]
        if not whole:
            raise OutsideFault(f"nothing is served: {ended[0].judged if ended else self._serve.said()[-400:]}")
        return sum(one.judged.tokens for one in whole) / ((1.0 - _RAMP) * seconds)

    async def _load(self, eyes: Eyes) -> None:
        found, seconds = self.found, 60.0 * self._options.minutes
        work = plan.mean_work([self._draws.request() for _ in range(2000)])
        found.rate_rps, found.seconds = LOAD * found.capacity_tps / work, seconds
        planned, faults = self._draws.requests(found.rate_rps, seconds), self._draws.faults(seconds)
        found.sent = len(planned)
        chaos, begin_s = Chaos(self._serve, eyes), time.monotonic()
        async with asyncio.TaskGroup() as group:  # a bridge that does not tell its numbers ends the run, too
            sampling = group.create_task(self._keep_sampling(eyes, begin_s))
            striking = group.create_task(chaos.run(faults, begin_s))
            async with self._client("load") as client:
                await self._send(client, planned, begin_s)
            await striking
            sampling.cancel()
        found.samples.append(await eyes.sample())
        found.faults = chaos.done
        found.ended = [held_against(one, chaos.done) for one in found.ended]

    async def _send(self, client: Client, planned: Sequence[Planned], begin_s: float) -> None:
        """An open loop: each at its time, whatever became of those before."""
        under_way: set[asyncio.Task[Ended]] = set()
        for one in planned:
            await asyncio.sleep(begin_s + one.at_s - time.monotonic())
            self.found.most_late_s = max(self.found.most_late_s, time.monotonic() - begin_s - one.at_s)
            task = asyncio.create_task(client.send(one))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            task.add_done_callback(lambda done: self.found.ended.append(done.result()))
            self._told(one.at_s)
        if under_way:
            await asyncio.wait(under_way, timeout=LIMIT_S + 10.0)

    async def _keep_sampling(self, eyes: Eyes, begin_s: float) -> None:
        every_s = min(_SAMPLE_EVERY_S, 60.0 * self._options.minutes / _LEAST_SAMPLES)
        for number in itertools.count():
            await asyncio.sleep(begin_s + number * every_s - time.monotonic())
            self.found.samples.append(await eyes.sample())

    async def _settled(self, eyes: Eyes, before: Rest) -> Rest:
        """Once nothing is left to wait for, or it has been waited for long enough."""
        until_s = time.monotonic() + _SETTLE_S
        while True:
            now = await _rest(eyes)
            if verdicts.settled(now, before, self._options.workers) or time.monotonic() > until_s:
                return now
            await asyncio.sleep(1.0)

    def _judge(self, before: Rest, after: Rest) -> None:
        found = self.found
        found.retries = after.status["requests"]["retries"]
        found.verdicts = [
            *verdicts.of_requests(found.ended, found.sent, found.faults),
            *verdicts.of_memory(before.sample, found.samples),
            *verdicts.of_rest(before, after, self._options.workers),
        ]


async def _rest(eyes: Eyes) -> Rest:
    status = await eyes.status()
    return Rest(await eyes.sample(), status, await eyes.busy(status))


def end(serve: Serve, found: Found) -> None:
    """Stop the bridge, and judge how it ends and what it has logged."""
    status, seconds = serve.stop()
    lines, found.said = verdicts.logged(serve.log), serve.said()
    left = {line["id"] for line in lines if line["outcome"] == "left" and line["worker"] < 0}
    found.held_when_left = sum(one.id in left for one in found.ended)
    found.verdicts += [
        *verdicts.of_stop(status, seconds, serve.pids()),
        verdicts.of_log(lines, found.ended),
        verdicts.of_words(found.said),
    ]
