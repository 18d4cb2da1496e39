"""The last decisions and heartbeats, and since when each worker is what it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from aladdin_env.bridge.events import Beat, Ticket, Watcher
from aladdin_env.policy import HOLD

_DECISIONS, _BEATS = 100, 50


class Entry(NamedTuple):
    """One decision.

    Attributes:
        number: Of all decisions that were noted since the start, from 1.
        time_s: When, seconds since the bridge began.
        request_id: As the client named it: not to be trusted.
        klass: SLO class.
        prompt_tokens: As known or estimated.
        answer: A slot, HOLD or REJECT.
        by: Whose decision.
        shadow: What the policy that does not act would have done; None: it was not asked.
        seconds: How long it took.
        retries: How often the request had been lost by a worker before.
    """

    number: int
    time_s: float
    request_id: str
    klass: int
    prompt_tokens: int
    answer: int
    by: str
    shadow: int | None
    seconds: float
    retries: int


class Journal(Watcher):
    """Remembers what came last.

    Args:
        clock: Seconds since the bridge began.

    Attributes:
        beats: The last heartbeats, oldest first.
        moved_s: By slot: its last status that was told of, and since when.
        noted: Decisions that were noted since the start.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: deque[Entry] = deque(maxlen=_DECISIONS)
        self._held: set[int] = set()
        self.beats: deque[Beat] = deque(maxlen=_BEATS)
        self.moved_s: dict[int, tuple[int, float]] = {}
        self.noted = 0

    def decided(self, ticket: Ticket, answer: int) -> None:
        """Note it; that a request is held is noted once, however often it is asked about."""
        if answer != HOLD:
            self._held.discard(ticket.row)
        elif ticket.row in self._held:
            return
        else:
            self._held.add(ticket.row)
        self.noted += 1
        self._entries.append(
            Entry(
                self.noted, self._clock(), ticket.id, ticket.klass, ticket.prompt_tokens, answer, ticket.by,
                ticket.shadow, ticket.decision_s, ticket.retries,
            )
        )  # fmt: skip

    def ended(self, ticket: Ticket) -> None:
        """Its row may be another request's."""
        self._held.discard(ticket.row)

    def moved(self, slot: int, status: int, now_s: float, ready_in_s: float) -> None:
        """Note since when a worker is what it is."""
        if self.moved_s.get(slot, (None, 0.0))[0] != status:
            self.moved_s[slot] = status, now_s

    def beat(self, beat: Beat) -> None:
        """Note it."""
        self.beats.append(beat)

    def newest(self, after: int = 0) -> list[Entry]:
        """Decisions with a number beyond ``after`` as far as they are remembered, newest first."""
        found = []
        for entry in reversed(self._entries):
            if entry.number <= after:
                break
            found.append(entry)
        return found
