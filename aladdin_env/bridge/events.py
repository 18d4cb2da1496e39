"""What happens to requests and workers, for whoever watches: recorder, metrics, page."""

from __future__ import annotations

from dataclasses import dataclass, field

from aladdin_env.latency import LatencyProfile


@dataclass(slots=True)
class Ticket:
    """A request at the bridge, from its arrival to its end. All times in seconds since the bridge began.

    Attributes:
        id: Its ``X-Request-Id``.
        row: Its row in the arrays of the live cluster; another request's after its end.
        klass: SLO class, 0 to 3.
        prompt_tokens: As known or estimated when it arrived.
        coin: A uniform number in [0, 1) of its own, for policies that randomise.
        streams: Whether its answer comes token by token.
        arrived_s: When it reached the bridge.
        slot: Worker that it is on, or was last; -1: none yet.
        by: Whose decision that was.
        placed_s: When it was sent there; NaN before.
        first_s: When its first token came; NaN before.
        ended_s: When it ended; NaN before.
        tokens: Output tokens so far.
        retries: Workers that it was lost by.
        avoid: Slots of those workers.
        shadow: What the policy that does not act would have done; None: it was not asked.
        outcome: ``finished``, ``failed``, ``left`` (the client hung up), ``shed``; "" before its end.
        reason: Why it was shed or failed.
        decision_s: Seconds that its last decision took.
        counted_tokens: Prompt tokens by the worker's own count; 0: it has not told.
    """

    id: str
    row: int
    klass: int
    prompt_tokens: int
    coin: float
    streams: bool
    arrived_s: float
    slot: int = -1
    by: str = ""
    placed_s: float = float("nan")
    first_s: float = float("nan")
    ended_s: float = float("nan")
    tokens: int = 0
    retries: int = 0
    avoid: list[int] = field(default_factory=list)
    shadow: int | None = None
    outcome: str = ""
    reason: str = ""
    decision_s: float = 0.0
    counted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat of the control loop.

    Attributes:
        time_s: When, seconds since the bridge began.
        mode: ``shadow``, ``canary`` or ``active``.
        have: Workers of each type that serve or are to come.
        proposed: What the policy wanted; None: no change.
        wanted: What was asked of the pool, guard rails applied.
        rails: Names of the guard rails that changed it.
        seconds: How long the policies took that were asked.
    """

    time_s: float
    mode: str
    have: tuple[int, ...]
    proposed: tuple[int, ...] | None
    wanted: tuple[int, ...]
    rails: tuple[str, ...]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Regime:
    """Who decides.

    Attributes:
        mode: ``shadow``, ``canary`` or ``active``.
        canary: Share of the requests that the policy decides under ``canary``, 0 to 1.
        policy: The policy that is served, as :func:`aladdin_env.policy.make_policy` takes it, its scaler included.
        baseline: Who decides in its place, likewise.
    """

    mode: str
    canary: float
    policy: str
    baseline: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What was written into the arrays about a worker that was looked at.

    Attributes:
        slot: Which one.
        time_s: When, seconds since the bridge began.
        status: As in ``aladdin_env.simulator.state``.
        ready_in_s: STARTING, FAILED: seconds until it is expected to be READY.
        kv_tokens: Tokens that its KV memory holds for requests; None: it did not say.
        block_size: Tokens of a KV block; None: it did not say.
        kv_used: Share of the memory in use, 0 to 1; None: unknown, or too old to go by.
    """

    slot: int
    time_s: float
    status: int
    ready_in_s: float
    kv_tokens: int | None = None
    block_size: int | None = None
    kv_used: float | None = None


class Watcher:
    """Hears of everything, at once and in order; it must be quick and must not raise.

    As it stands it does nothing: who watches says only what he wants to hear.
    """

    def arrived(self, ticket: Ticket) -> None:
        """A request has arrived; nobody has decided yet."""

    def decided(self, ticket: Ticket, answer: int) -> None:
        """A slot, HOLD or REJECT was answered for it."""

    def grew(self, ticket: Ticket, count: int, now_s: float) -> None:
        """So many more tokens of it have come."""

    def returned(self, ticket: Ticket, reason: str, now_s: float) -> None:
        """Its worker failed before the first token: it will be placed again."""

    def ended(self, ticket: Ticket) -> None:
        """It has ended; its outcome says how."""

    def fell_back(self, reason: str) -> None:
        """A decision was made by another policy than the one whose it was."""

    def moved(self, slot: int, status: int, now_s: float, ready_in_s: float) -> None:
        """A worker has another status."""

    def beat(self, beat: Beat) -> None:
        """A heartbeat."""

    def refused(self, reason: str, prompt_tokens: int, klass: int, now_s: float) -> None:
        """A request was turned away at the door: it never had a ticket."""

    def seen(self, sight: Sight) -> None:
        """A worker was looked at, whether or not anything about it is new."""

    def promised(self, klass: int, ttft_s: float, atgt_s: float, now_s: float) -> None:
        """A class of requests has these objectives from now on."""

    def learnt(self, type_index: int, profile: LatencyProfile, now_s: float) -> None:
        """The workers of a type follow these laws from now on."""

    def switched(self, regime: Regime, now_s: float) -> None:
        """Somebody else decides from now on."""


class Watchers(Watcher):
    """Tells several."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = list(watchers)

    def add(self, watcher: Watcher) -> None:
        """One more."""
        self._watchers.append(watcher)

    def arrived(self, ticket: Ticket) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.arrived(ticket)

    def decided(self, ticket: Ticket, answer: int) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.decided(ticket, answer)

    def grew(self, ticket: Ticket, count: int, now_s: float) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.grew(ticket, count, now_s)

    def returned(self, ticket: Ticket, reason: str, now_s: float) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.returned(ticket, reason, now_s)

    def ended(self, ticket: Ticket) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.ended(ticket)

    def fell_back(self, reason: str) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.fell_back(reason)

    def moved(self, slot: int, status: int, now_s: float, ready_in_s: float) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.moved(slot, status, now_s, ready_in_s)

    def beat(self, beat: Beat) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.beat(beat)

    def refused(self, reason: str, prompt_tokens: int, klass: int, now_s: float) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.refused(reason, prompt_tokens, klass, now_s)

    def seen(self, sight: Sight) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.seen(sight)

    def promised(self, klass: int, ttft_s: float, atgt_s: float, now_s: float) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.promised(klass, ttft_s, atgt_s, now_s)

    def learnt(self, type_index: int, profile: LatencyProfile, now_s: float) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.learnt(type_index, profile, now_s)

    def switched(self, regime: Regime, now_s: float) -> None:
        """Tell all."""
        for watcher in self._watchers:
            watcher.switched(regime, now_s)
