"""Everything that watches the bridge, put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aladdin_env.bridge.decider import Decider
from aladdin_env.bridge.dispatcher import Dispatcher
from aladdin_env.bridge.events import Beat, Ticket, Watcher
from aladdin_env.bridge.gateway.front import Handler
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.watch.counts import Counts
from aladdin_env.bridge.watch.feed import Feed
from aladdin_env.bridge.watch.journal import Journal
from aladdin_env.bridge.watch.labels import PolicyNames
from aladdin_env.bridge.watch.metrics import Metrics
from aladdin_env.bridge.watch.page import ui
from aladdin_env.bridge.watch.pages import Pages
from aladdin_env.bridge.watch.recent import Recent
from aladdin_env.bridge.watch.sources import Calibrations, Sources
from aladdin_env.bridge.watch.status import Status
from aladdin_env.bridge.workers.pool import WorkerPool
from aladdin_env.policy import placement_names, scaler_names
from aladdin_traces import checks


@dataclass(frozen=True)
class WatchOptions:
    """How the bridge is watched.

    Attributes:
        policies: Names of policies that may be labels of metrics, beside the registered ones.
        ready_at_zero: ``/ready`` says yes while no worker is ready, if the pool can start one: requests wait for it.
        every_s: From one event on the live page's stream to the next, seconds.
        most_pages: Live pages that may be open at once.
    """

    policies: tuple[str, ...] = ()
    ready_at_zero: bool = False
    every_s: float = 0.5
    most_pages: int = 32

    def __post_init__(self) -> None:
        checks.number("every_s", self.every_s, low=0.05, high=2.0)  # the page takes a longer silence for a fault
        checks.whole("most_pages", self.most_pages, low=1, high=1000)


USUAL = WatchOptions()


class Watch(Watcher):
    """Hears of everything, counts it, and shows it.

    Args:
        cluster: What policies see.
        pool: The workers.
        decider: Who decides.
        dispatcher: Requests on their way.
        clock: Seconds since the bridge began.
        options: How it is watched.
        calibrations: Gives for each worker type how far service has moved from its calibration; None: nobody looks.
        wall: Seconds since 1970.

    Attributes:
        counts: What was counted.
        metrics: For Prometheus.
        status: For scripts.
        feed: The live page's stream.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        pool: WorkerPool,
        decider: Decider,
        dispatcher: Dispatcher,
        clock: Callable[[], float],
        options: WatchOptions = USUAL,
        calibrations: Calibrations | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        unknown = [None] * len(cluster.view.scenario.fleet.types)
        sources = Sources(cluster, pool, decider, dispatcher, clock, calibrations or (lambda: unknown))
        names = PolicyNames((*placement_names(), *scaler_names(), *options.policies), partial(_served, decider))
        recent, self._journal = Recent(), Journal(clock)
        self.counts = Counts(cluster, recent, names, _served(decider))
        self.metrics = Metrics(sources, self.counts, recent, self._journal)
        self.status = Status(sources, self.counts, recent, self._journal, wall)
        self.feed = Feed(self.status, self._journal, recent, clock, options.every_s, options.most_pages)
        self._pages = Pages(sources, self.metrics, self.status, options.ready_at_zero)

    def pages(self) -> dict[str, Handler]:
        """The bridge's own pages by path, for :func:`aladdin_env.bridge.gateway.front.make_app`."""
        pages = self._pages
        return {
            "/health": pages.health,
            "/ready": pages.ready,
            "/version": pages.version,
            "/metrics": pages.metrics,
            "/status": pages.status,
            "/ui": ui,
            "/events": self.feed.handle,
        }

    def close(self) -> None:
        """End the live pages' streams, and begin no more: before the listener closes, which would wait for them."""
        self.feed.close()

    def refused(self, reason: str, prompt_tokens: int, klass: int, now_s: float) -> None:
        """Count it."""
        self.counts.refused(reason, prompt_tokens, klass, now_s)

    def arrived(self, ticket: Ticket) -> None:
        """Count it."""
        self.counts.arrived(ticket)

    def decided(self, ticket: Ticket, answer: int) -> None:
        """Count it and note it."""
        self.counts.decided(ticket, answer)
        self._journal.decided(ticket, answer)

    def grew(self, ticket: Ticket, count: int, now_s: float) -> None:
        """Count it."""
        self.counts.grew(ticket, count, now_s)

    def returned(self, ticket: Ticket, reason: str, now_s: float) -> None:
        """Count it."""
        self.counts.returned(ticket, reason, now_s)

    def ended(self, ticket: Ticket) -> None:
        """Count it."""
        self.counts.ended(ticket)
        self._journal.ended(ticket)

    def fell_back(self, reason: str) -> None:
        """Count it."""
        self.counts.fell_back(reason)

    def moved(self, slot: int, status: int, now_s: float, ready_in_s: float) -> None:
        """Note it."""
        self._journal.moved(slot, status, now_s, ready_in_s)

    def beat(self, beat: Beat) -> None:
        """Count it and note it."""
        self.counts.beat(beat)
        self._journal.beat(beat)


def _served(decider: Decider) -> tuple[str, ...]:
    """Names of those who may decide now."""
    return (decider.policy.name, decider.baseline.name, *(policy.name for policy in decider.fallbacks))
