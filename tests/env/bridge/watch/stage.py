"""A bridge without a network: real arrays, policies and dispatcher, idle workers, and time that a test moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aladdin_env.bridge.control import ControlLoop, Guards
from aladdin_env.bridge.decider import Decider
from aladdin_env.bridge.dispatcher import Dispatcher, Queueing
from aladdin_env.bridge.events import Ticket, Watchers
from aladdin_env.bridge.fleet import Mirror
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.watch import Watch, WatchOptions
from aladdin_env.bridge.workers.pool import Limits
from aladdin_env.bridge.workers.scrape import Scrape
from aladdin_env.bridge.workers.settings import USUAL
from aladdin_env.bridge.workers.timing import Timing
from aladdin_env.bridge.workers.worker import Identity, LiveWorker
from aladdin_env.policy import make_policy
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY, STARTING

BEGAN_UNIX_S = 1_790_000_000.0


class StillPool:
    """A pool in which nothing happens by itself."""

    cold_start_s: float | None = 40.0

    def __init__(self, slots: int, timing: Timing, can_scale: bool) -> None:
        self.workers = [LiveWorker(slot, USUAL, timing) for slot in range(slots)]
        self.can_scale = can_scale
        self.limits = Limits(0, slots)
        self.wanted: tuple[int, ...] = (2,)

    async def start(self) -> None: ...

    async def scale_to(self, wanted: Sequence[int]) -> None:
        self.wanted = tuple(wanted)

    async def stop(self, drain_s: float) -> None: ...


def two_classes(slots: int = 4) -> Scenario:
    """A chat class (0.8 s, 22 ms) and a batch class (20 s, 60 ms) on workers of one type."""
    scenario = load_scenario("two-classes")
    kind = replace(scenario.fleet.types[0], name="gpu", initial=2, minimum=0, maximum=slots)
    return replace(scenario, fleet=replace(scenario.fleet, types=(kind,)))


class Stage:
    """Everything that is watched, and the watch."""

    def __init__(
        self,
        *,
        slots: int = 4,
        mode: str = "active",
        policy: str = "least_request",
        baseline: str = "round_robin",
        can_scale: bool = True,
        rows: int = 64,
        queueing: Queueing | None = None,
        options: WatchOptions | None = None,
        **more: object,
    ) -> None:
        self.now_s = 0.0
        self.scenario = two_classes(slots)
        self.timing = Timing(self.clock, uniform=lambda low, high: low)
        self.pool = StillPool(slots, self.timing, can_scale)
        self.watchers = Watchers()
        served = make_policy(policy, self.scenario)
        self.cluster = LiveCluster.open(self.scenario, served, rows)
        self.decider = Decider(
            self.cluster, served, make_policy(baseline, self.scenario), self.watchers.fell_back, mode=mode,
            deadline_s=10.0,
        )  # fmt: skip
        self.dispatcher = Dispatcher(
            self.cluster, self.decider, self.watchers, queueing or Queueing(), self.clock, seed=1
        )
        self.control = ControlLoop(
            self.cluster, self.decider, self.pool, Guards(), self.watchers, self.dispatcher.offer, self.clock
        )
        self.watch = Watch(
            self.cluster, self.pool, self.decider, self.dispatcher, self.clock, options or WatchOptions(),
            wall=lambda: BEGAN_UNIX_S + self.now_s, **more,
        )  # fmt: skip
        self.watchers.add(self.watch)
        self.mirror = Mirror(
            self.cluster, self.pool, self.watchers, self.dispatcher.offer, self.clock, self.timing.clock
        )

    def clock(self) -> float:
        return self.now_s

    def ready(self, *slots: int, url: str = "http://gpu-{}:8000") -> None:
        """Servers in these slots, READY and seen."""
        for slot in slots:
            worker = self.pool.workers[slot]
            worker.house(url.format(slot))
            worker.admit(Identity("llama", ("llama",), 8192))
            self.look(slot)

    def look(
        self, slot: int, running: float | None = 1.0, waiting: float | None = 0.0, kv: float | None = 0.25
    ) -> None:
        cache = {"block_size": "16", "num_gpu_blocks": "4001"}
        self.pool.workers[slot].look(Scrape(running, waiting, kv, cache=cache))

    def starting(self, slot: int, in_s: float = 30.0) -> None:
        self.pool.workers[slot].house(f"http://gpu-{slot}:8000")
        self.pool.workers[slot].move(STARTING, ready_s=self.now_s + in_s)

    def failed(self, slot: int, reason: str = "no answer") -> None:
        self.pool.workers[slot].fail(reason)

    def draining(self, slot: int) -> None:
        self.pool.workers[slot].move(DRAINING)

    def off(self, slot: int) -> None:
        self.pool.workers[slot].move(OFF)

    def request(self, name: str = "r", prompt_tokens: int = 100, klass: int = 0, streams: bool = True) -> Ticket:
        """One that has been placed, or is to wait."""
        ticket = self.dispatcher.enter(name, prompt_tokens, klass, streams)
        self.dispatcher.place(ticket)
        return ticket

    def answer(self, ticket: Ticket, ttft_s: float = 0.25, tokens: int = 5, pace_s: float = 0.02) -> None:
        """Its tokens come and it ends."""
        self.now_s = ticket.arrived_s + ttft_s
        self.dispatcher.grew(ticket, 1)
        for _ in range(tokens - 1):
            self.now_s += pace_s
            self.dispatcher.grew(ticket, 1)
        self.dispatcher.finish(ticket)


__all__ = ["FAILED", "READY", "Stage", "StillPool", "two_classes"]
