"""A worker as the bridge sees it: one slot of the fleet, with whoever serves there."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from aladdin_env.bridge.workers.breaker import CLOSED, OPEN, Breaker
from aladdin_env.bridge.workers.scrape import Scrape
from aladdin_env.bridge.workers.settings import USUAL, WatchSettings
from aladdin_env.bridge.workers.timing import REAL_TIME, Timing
from aladdin_env.simulator.state import DRAINING, FAILED, OFF, READY, STARTING, WORKER_STATUS

OnChange = Callable[["LiveWorker"], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """Who a server says it is.

    Attributes:
        model: The model that it serves.
        models: All names that it answers to: the model's, its other names, its adapters.
        max_model_len: Longest request, tokens; None if it does not say.
    """

    model: str
    models: tuple[str, ...]
    max_model_len: int | None = None


class Lease:
    """One request on a worker, from before it is sent until it has ended in any way: ``with worker.lease() as lease``.

    What is reported of it counts only as long as the same server is in the slot and was not taken out of service since.
    """

    __slots__ = ("_era", "_worker")

    def __init__(self, worker: LiveWorker) -> None:
        self._worker = worker
        self._era = worker.era

    def __enter__(self) -> Lease:
        self._worker._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker._end()

    def report_success(self) -> None:
        """The server did what it should, refusing a bad request included."""
        if self._era == self._worker.era:
            self._worker.breaker.success("request")

    def report_failure(self, reason: str) -> None:
        """No connection, a broken one, a timeout or a 5xx. Not a server that is merely full (429, or 503 that says so).

        Args:
            reason: What happened, in one line.
        """
        worker = self._worker
        if self._era == worker.era and worker.breaker.failure("request"):
            worker.fail(reason)


class LiveWorker:
    """One slot of the fleet. Pools move it from state to state, the front counts its requests and reports on them.

    Attributes:
        slot: Its number: its place in the arrays that policies see.
        url: Address of the server, without a trailing slash; "" while there is none.
        status: OFF, STARTING, READY, DRAINING or FAILED, as in the simulator; new requests go only to READY ones.
        reason: Why it is FAILED, in one line; "" otherwise.
        since_s: When it came to this status, on the clock.
        ready_s: When a STARTING or FAILED one is expected to be READY, on the clock; NaN: nobody knows.
        identity: Who the server says it is; None before it was asked.
        scrape: The last look at its metrics; None before the first, and of a server that shows none.
        in_flight: Requests of ours on it now.
        breaker: Opens when it fails too often.
        era: Grows whenever another server is in the slot, or the same one is taken out of service.
        is_drained: An operator wants it to get no new requests; the pool goes on as if nothing were.
        emptied: Set while no request is in flight.
        broken: Set while the breaker is not closed.
    """

    def __init__(self, slot: int, settings: WatchSettings = USUAL, timing: Timing = REAL_TIME) -> None:
        self.slot = slot
        self.url = ""
        self.status = OFF
        self.reason = ""
        self.since_s = timing.clock()
        self.ready_s = math.nan
        self.identity: Identity | None = None
        self.scrape: Scrape | None = None
        self.in_flight = 0
        self.breaker = Breaker(settings, timing)
        self.era = 0
        self.is_drained = False
        self.emptied = asyncio.Event()
        self.emptied.set()
        self.broken = asyncio.Event()
        self._timing = timing
        self._stale_s = settings.stale_s
        self._scraped_s = -math.inf
        self._subscribers: list[OnChange] = []

    def __repr__(self) -> str:
        return f"<worker {self.slot} {WORKER_STATUS[self.status]} {self.url or 'nowhere'} in flight: {self.in_flight}>"

    @property
    def takes_new(self) -> bool:
        """Whether it gets new requests."""
        return self.status == READY and not self.is_drained

    @property
    def shown_status(self) -> int:
        """The status that policies see: one that an operator drains is DRAINING."""
        return DRAINING if self.status == READY and self.is_drained else self.status

    @property
    def model(self) -> str | None:
        """The model that it serves; None before it was asked."""
        return None if self.identity is None else self.identity.model

    @property
    def max_model_len(self) -> int | None:
        """Longest request, tokens; None if unknown."""
        return None if self.identity is None else self.identity.max_model_len

    @property
    def block_size(self) -> int | None:
        """Tokens per KV block; None if unknown."""
        return None if self.scrape is None else self.scrape.block_size

    @property
    def kv_capacity_tokens(self) -> int | None:
        """Tokens of KV that requests can fill; None if unknown."""
        return None if self.scrape is None else self.scrape.kv_capacity_tokens

    @property
    def metrics_age_s(self) -> float:
        """Seconds since the last good look at the metrics; infinite before the first."""
        return self._timing.clock() - self._scraped_s

    @property
    def is_stale(self) -> bool:
        """Whether the metrics are too old to go by."""
        return self.metrics_age_s > self._stale_s

    @property
    def occupied(self) -> bool:
        """Whether no other server may come into the slot: one is there, or requests of the last one are."""
        return self.status != OFF or self.in_flight > 0

    def subscribe(self, on_change: OnChange) -> None:
        """Call ``on_change(worker)`` after every change of status, address, identity or metrics, at once."""
        self._subscribers.append(on_change)

    def lease(self) -> Lease:
        """The guard of one request on it: enter it before sending."""
        return Lease(self)

    def house(self, url: str) -> None:
        """Another server is in the slot now, or none (""): forget what was known of the one before."""
        self.url = url
        self.identity = self.scrape = None
        self.is_drained = False
        self._scraped_s = -math.inf
        self.breaker.reset()
        self.broken.clear()
        self.era += 1

    def move(self, status: int, *, reason: str = "", ready_s: float = math.nan) -> None:
        """Give it another status, and tell the subscribers."""
        if (status, reason) != (self.status, self.reason):
            _log.info("worker %d (%s): %s %s", self.slot, self.url or "-", WORKER_STATUS[status], reason)
        if status != self.status:
            self.since_s = self._timing.clock()
        self.status, self.reason, self.ready_s = status, reason, ready_s
        self._changed()

    def admit(self, identity: Identity) -> None:
        """It was asked who it is and may serve: READY, unless it is draining."""
        self.identity = identity
        self.breaker.close()
        self.broken.clear()
        if self.status != DRAINING:
            self.move(READY)

    def fail(self, reason: str) -> None:
        """Take it out of service until a check succeeds: its breaker is open from now on."""
        if self.breaker.state != OPEN:
            self.breaker.open()
        self.era += 1
        self.broken.set()
        if self.status != DRAINING:  # it gets no new requests as it is
            self.move(FAILED, reason=reason, ready_s=self.breaker.retry_s)

    def resume(self) -> None:
        """A DRAINING one is wanted again."""
        if self.identity is None:
            self.move(STARTING, ready_s=self._timing.clock())
        elif self.breaker.state == CLOSED:
            self.move(READY)
        else:
            self.move(FAILED, reason="it failed while it was draining", ready_s=self.breaker.retry_s)

    def drain(self, is_drained: bool) -> None:
        """Give it no new requests, or give it some again: an operator's wish, which ends with the server's life."""
        self.is_drained = is_drained
        self._changed()

    def look(self, scrape: Scrape) -> None:
        """Its metrics were read just now."""
        self.scrape = scrape
        self._scraped_s = self._timing.clock()
        self._changed()

    def _begin(self) -> None:
        self.in_flight += 1
        self.emptied.clear()

    def _end(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.emptied.set()

    def _changed(self) -> None:
        for on_change in self._subscribers:
            on_change(self)
