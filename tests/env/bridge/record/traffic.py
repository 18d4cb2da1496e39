"""A bridge without HTTP: random traffic over a dispatcher, under a clock of its own, with a recorder that listens."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from aladdin_env import SLO, Fleet, Scenario, WorkerType
from aladdin_env.bridge.decider import SHADOW, Decider
from aladdin_env.bridge.dispatcher import Dispatcher, Queueing, Shed
from aladdin_env.bridge.events import Beat, Regime, Sight, Ticket, Watchers
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.record.recorder import Recorder, RecordSettings
from aladdin_env.latency import LatencyProfile
from aladdin_env.policy import make_policy
from aladdin_env.simulator.state import FAILED, OFF, READY, STARTING
from aladdin_traces import FixedLengths, Poisson, Workload

EVENTS, USUAL = RecordSettings("events"), Queueing()
BEGAN = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def fleet(workers: int = 3, most: int = 6) -> Scenario:
    """What a bridge knows of its workers."""
    kind = WorkerType("worker", "llama-3.1-8b-h100-tp1", initial=workers, minimum=1, maximum=most, max_num_seqs=64)
    workload = Workload.generated(Poisson(1.0), FixedLengths(1, 1))
    return Scenario("live", workload, Fleet((kind,)), SLO(0.5, 0.02), horizon_s=1.0, heartbeat_s=5.0)


@dataclass
class Clock:
    """Seconds, as the test says."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


class Bridge:
    """What a server puts together, as far as decisions go."""

    def __init__(
        self,
        path: Path,
        *,
        policy: str = "least_request",
        baseline: str = "round_robin",
        mode: str = SHADOW,
        canary: float = 0.3,
        settings: RecordSettings = EVENTS,
        scenario: Scenario | None = None,
        decider_clock: random.Random | None = None,
        queueing: Queueing = USUAL,
        rows: int = 64,
        began: datetime = BEGAN,
    ) -> None:
        self.scenario = scenario or fleet()
        self.clock = Clock()
        self.watchers = Watchers()
        served = make_policy(policy, self.scenario)
        self.cluster = LiveCluster.open(self.scenario, served, rows)
        # Decisions take no time, or as much as chance says: some then pass their deadline.
        spent = Clock()

        def decider_clock_s() -> float:
            if decider_clock is not None:
                spent.now_s += decider_clock.choices([0.0, 0.003, 11.0], [60, 30, 2])[0]
            return spent.now_s

        self.decider = Decider(
            self.cluster, served, make_policy(baseline, self.scenario), self.watchers.fell_back,
            mode=mode, canary=canary, clock=decider_clock_s,
        )  # fmt: skip
        self.dispatcher = Dispatcher(self.cluster, self.decider, self.watchers, queueing, self.clock, seed=5)
        self.regime = Regime(mode, canary, policy, baseline)
        self.recorder = Recorder(path, self.cluster, self.regime, settings, seed=5, wall_clock=lambda: began)
        self.watchers.add(self.recorder)

    def ready(self, workers: int) -> None:
        """So many workers serve."""
        for slot in range(workers):
            self.move(slot, READY)

    def move(self, slot: int, status: int, ready_in_s: float = 0.0) -> None:
        """As the mirror of a pool does."""
        before = int(self.cluster.view.workers[slot]["status"])
        self.cluster.set_worker(slot, status, self.clock(), ready_in_s)
        self.watchers.seen(Sight(slot, self.clock(), status, ready_in_s))
        if status != before:
            self.watchers.moved(slot, status, self.clock(), ready_in_s)

    def look(self, slot: int, tokens: int, size: int, used: float) -> None:
        """As the mirror does when a worker's metrics were read."""
        status = int(self.cluster.view.workers[slot]["status"])
        self.cluster.set_kv(slot, tokens, size)
        self.cluster.set_worker(slot, status, self.clock(), 0.0)
        self.cluster.see_kv(slot, used)
        self.watchers.seen(Sight(slot, self.clock(), status, 0.0, tokens, size, used))

    def promise(self, klass: int, ttft_s: float, atgt_s: float) -> None:
        """As the classes of requests do."""
        self.cluster.world.slo[klass] = ttft_s, atgt_s
        self.watchers.promised(klass, ttft_s, atgt_s, self.clock())

    def learn(self, profile: LatencyProfile) -> None:
        """As whoever tracks the profile does."""
        self.cluster.set_laws(0, profile)
        self.watchers.learnt(0, profile, self.clock())

    def switch(self, **changes: object) -> None:
        """As an admin's call does."""
        self.regime = replace(self.regime, **changes)
        self.decider.set_mode(self.regime.mode, self.regime.canary)
        if "policy" in changes:
            self.decider.exchange(make_policy(self.regime.policy, self.scenario))
        self.watchers.switched(self.regime, self.clock())

    def beat(self) -> None:
        """As the control loop does, with a pool that answers at once."""
        self.watchers.beat(self.proposal())

    def proposal(self) -> Beat:
        """The first half of a heartbeat: what the loop does before it waits for the pool."""
        self.cluster.heartbeat(self.clock())
        acting = self.decider.baseline if self.decider.mode == SHADOW else self.decider.policy
        wanted = acting.scale(self.cluster.view)
        proposed = None if wanted is None else tuple(int(n) for n in wanted)
        have = (int((self.cluster.view.workers["status"] != OFF).sum()),)
        return Beat(self.clock(), self.decider.mode, have, proposed, proposed or have, ())

    def enter(self, prompt_tokens: int = 100, klass: int = 0, streams: bool = True) -> Ticket:
        """A request comes."""
        return self.dispatcher.enter(f"r{self.clock.now_s:g}", prompt_tokens, klass, streams)

    def serve(self, tokens: int, prompt_tokens: int = 100, ttft_s: float = 0.1, atgt_s: float = 0.01) -> Ticket:
        """A request comes, is placed and streamed to its end."""
        ticket = self.enter(prompt_tokens)
        assert self.dispatcher.place(ticket)
        self.clock.now_s += ttft_s
        self.dispatcher.grew(ticket, 1)
        if tokens > 1:
            self.clock.now_s += atgt_s * (tokens - 1)
            self.dispatcher.grew(ticket, tokens - 1)
        self.dispatcher.finish(ticket)
        return ticket


@dataclass
class Traffic:
    """Everything that can happen to a bridge, in random order."""

    bridge: Bridge
    seed: int = 0
    open: list[Ticket] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def run(self, steps: int, after_each: Callable[[], None] = lambda: None) -> None:
        """So many things happen; in the end all requests hang up."""
        for _ in range(steps):
            self.bridge.clock.now_s += self.random.expovariate(20.0)
            self.random.choices(
                [self._come, self._grow, self._finish, self._fail, self._break, self._leave, self._worker, self._look,
                 self._beat],
                [24, 40, 14, 1, 2, 2, 4, 8, 5],
            )[0]()  # fmt: skip
            await asyncio.sleep(0)
            after_each()
        for ticket in list(self.open):
            self.open.remove(ticket)
            self.bridge.dispatcher.leave(ticket)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    def _come(self) -> None:
        prompt_tokens, klass = self.random.randint(1, 3000), self.random.choice([0, 0, 1])
        with contextlib.suppress(Shed):
            self._place(self.bridge.enter(prompt_tokens, klass, self.random.random() < 0.8))

    def _place(self, ticket: Ticket) -> None:
        with contextlib.suppress(Shed):
            if self.bridge.dispatcher.place(ticket):
                self.open.append(ticket)
            else:
                self._hold(ticket)

    def _hold(self, ticket: Ticket) -> None:
        task = asyncio.ensure_future(self._held(ticket))
        self.tasks.add(task)

    async def _held(self, ticket: Ticket) -> None:
        try:
            await self.bridge.dispatcher.wait(ticket)
            self.open.append(ticket)
        except Shed:
            pass
        except asyncio.CancelledError:
            self.bridge.dispatcher.leave(ticket)
            raise

    def _one(self, begun: bool | None = None) -> Ticket | None:
        fitting = [t for t in self.open if begun is None or (t.tokens > 0) == begun]
        return self.random.choice(fitting) if fitting else None

    def _grow(self) -> None:
        ticket = self._one()
        if ticket is not None and ticket.streams:
            self.bridge.dispatcher.grew(ticket, self.random.randint(1, 4))

    def _finish(self) -> None:
        ticket = self._one()
        if ticket is None:
            return
        self.open.remove(ticket)
        if ticket.streams:
            self.bridge.dispatcher.finish(ticket)
        else:
            self.bridge.dispatcher.came_whole(ticket, self.random.randint(1, 90))

    def _fail(self) -> None:
        ticket = self._one()
        if ticket is not None:
            self.open.remove(ticket)
            self.bridge.dispatcher.fail(ticket, "HTTP 500")

    def _break(self) -> None:
        ticket = self._one(begun=False)
        if ticket is None:
            return
        self.open.remove(ticket)
        self.bridge.dispatcher.take_back(ticket, "it hung up")
        self._place(ticket)

    def _leave(self) -> None:
        ticket = self._one()
        if ticket is not None:
            self.open.remove(ticket)
            self.bridge.dispatcher.leave(ticket)

    def _worker(self) -> None:
        slot = self.random.randrange(self.bridge.scenario.fleet.slots)
        if not any(ticket.slot == slot for ticket in self.open):
            self.bridge.move(
                slot, self.random.choice([OFF, STARTING, READY, READY, READY, FAILED]), self.random.random()
            )
            self.bridge.dispatcher.offer()

    def _look(self) -> None:
        slot = self.random.randrange(self.bridge.scenario.fleet.slots)
        if self.bridge.cluster.view.workers[slot]["status"] == READY:
            self.bridge.look(slot, 64000 + 16 * slot, 16, self.random.random() ** 4)

    def _beat(self) -> None:
        self.bridge.beat()
        self.bridge.dispatcher.offer()
