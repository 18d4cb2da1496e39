"""A live cluster with a clock of its own, and what its parts hear."""

from __future__ import annotations

from dataclasses import replace

from aladdin_env.bridge.decider import ACTIVE, Decider
from aladdin_env.bridge.dispatcher import Dispatcher, Queueing
from aladdin_env.bridge.events import Beat, Ticket, Watcher
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.policy import Combined, combine, make_policy
from aladdin_env.presets import load_scenario
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import READY


def fleet(workers: int, least: int = 0, **changes: object) -> Scenario:
    """Workers of one type, heartbeats of 2 s."""
    base = load_scenario("sharegpt-poisson").with_workers((workers,))
    kind = replace(base.fleet.types[0], initial=least, minimum=least)
    return replace(base, fleet=replace(base.fleet, types=(kind,)), heartbeat_s=2.0, **changes)  # type: ignore[arg-type]


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Heard(Watcher):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []

    def arrived(self, ticket: Ticket) -> None:
        self.log.append(("arrived", ticket.id))

    def decided(self, ticket: Ticket, answer: int) -> None:
        self.log.append(("decided", answer))

    def returned(self, ticket: Ticket, reason: str, now_s: float) -> None:
        self.log.append(("returned", reason))

    def ended(self, ticket: Ticket) -> None:
        self.log.append(("ended", ticket.outcome))

    def fell_back(self, reason: str) -> None:
        self.log.append(("fell back", reason))

    def beat(self, beat: Beat) -> None:
        self.log.append(("beat", beat))

    def of(self, kind: str) -> list[object]:
        """What was heard of one kind."""
        return [what for name, what in self.log if name == kind]


class Answers:
    """A policy that answers what it was last told to: a slot, HOLD, REJECT, or by raising."""

    name = "answers"

    def __init__(self, answer: object = 0) -> None:
        self.answer = answer
        self.wanted: object = None

    def place(self, view: object, request: object) -> int:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer(view) if callable(self.answer) else self.answer  # type: ignore[return-value]

    def scale(self, view: object) -> object:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted


class Scene:
    """A cluster of READY workers, its decider and its dispatcher, under one clock."""

    def __init__(
        self, policy: object = "least_request", workers: int = 2, ready: int | None = None, mode: str = ACTIVE,
        queueing: Queueing | None = None, rows: int = 16,
    ) -> None:  # fmt: skip
        self.clock, self.heard = Clock(), Heard()
        self.scenario = fleet(workers)
        made: Combined = make_policy(policy, self.scenario) if isinstance(policy, str) else combine(policy)
        self.cluster = LiveCluster.open(self.scenario, made, rows)
        for slot in range(workers if ready is None else ready):
            self.cluster.set_worker(slot, READY, 0.0)
        baseline = make_policy("round_robin", self.scenario)
        self.decider = Decider(
            self.cluster, made, baseline, self.heard.fell_back, mode=mode, canary=0.25, clock=self.clock
        )
        self.dispatcher = Dispatcher(
            self.cluster, self.decider, self.heard, queueing or Queueing(max_hold_s=5.0, max_held=2), self.clock, seed=1
        )

    def enter(self, name: str = "a", tokens: int = 100) -> Ticket:
        """A request arrives."""
        return self.dispatcher.enter(name, tokens, 0, True)

    def sent(self, name: str = "a", tokens: int = 100) -> Ticket:
        """A request arrives and is placed at once."""
        ticket = self.enter(name, tokens)
        assert self.dispatcher.place(ticket)
        return ticket

    def is_empty(self) -> bool:
        """Whether no trace of any request is left."""
        view = self.cluster.view
        sums = ("members", "waiting", "running", "decoding", "context_tokens", "waiting_prefill_tokens")
        left = sum(int(view.workers[name].sum()) for name in (*sums, "member_prompt_tokens"))
        return left == 0 and int(view.cluster["in_flight"]) == 0 and int(view.cluster["held"]) == 0
