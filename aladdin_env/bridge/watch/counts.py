"""What is counted as requests come and go. Plain numbers of one event loop: counting must cost next to nothing."""

from __future__ import annotations

from collections.abc import Iterable

from aladdin_env.bridge.events import Beat, Ticket, Watcher
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.bridge.watch.labels import FALLBACKS, MISSES, NO_WORKER, OTHER, OUTCOMES, RAILS, SHED, PolicyNames
from aladdin_env.bridge.watch.recent import Recent
from aladdin_env.bridge.watch.tally import ATGT_BOUNDS_S, DECISION_BOUNDS_S, E2E_BOUNDS_S, TTFT_BOUNDS_S, Tally
from aladdin_env.policy import HOLD
from aladdin_env.simulator.state import MAX_CLASSES, MISSED_ATGT, MISSED_TTFT, MISSED_UNSERVED

#: Refusals that are the client's own mistake: no objective was missed.
_NOT_JUDGED = frozenset({"too_long"})
_KINDS = tuple(zip(MISSES, (MISSED_TTFT, MISSED_ATGT, MISSED_UNSERVED), strict=True))


class Counts(Watcher):
    """Counts since the start, by class where a list has :data:`MAX_CLASSES` entries.

    Args:
        cluster: Has judged the requests that end.
        recent: Gets what is wanted by time.
        names: Of policies that may be labels.
        served: Names of policies that are counted from the start.

    Attributes:
        arrivals: Requests that came, those refused at the door included.
        outcomes: Requests that ended, by how.
        shed: Requests refused, by reason.
        retries: Times that a worker failed a request before its first token.
        prompt_tokens: Of requests that were answered to the end.
        output_tokens: That have come back.
        judged: Requests that met their objectives or did not; who hangs up, or asks what fits nowhere, is not judged.
        met: Requests within their objectives.
        missed: Requests beyond them, by kind; a request may miss in several.
        ttft: Seconds to the first token as streams showed it.
        atgt: Mean seconds between the tokens of finished streams.
        e2e: Seconds from arrival to end of finished requests.
        placing: Seconds of decisions on requests.
        scaling: Seconds of scaling decisions.
        decisions: By policy: placed, held, rejected.
        fallbacks: Decisions by another policy than the one whose it was, by reason.
        agreed: Requests placed or refused as the policy that does not act would have.
        disagreed: Otherwise.
        beats: Heartbeats.
        rails: Heartbeats that a guard rail changed, by rail.
    """

    def __init__(self, cluster: LiveCluster, recent: Recent, names: PolicyNames, served: Iterable[str]) -> None:
        self._missed = cluster.view.requests["missed"]
        self._recent = recent
        self._names = names
        self.arrivals = self.retries = self.prompt_tokens = self.output_tokens = 0
        self.agreed = self.disagreed = self.beats = 0
        self.outcomes = [dict.fromkeys(OUTCOMES, 0) for _ in range(MAX_CLASSES)]
        self.judged, self.met = [0] * MAX_CLASSES, [0] * MAX_CLASSES
        self.missed = [dict.fromkeys(MISSES, 0) for _ in range(MAX_CLASSES)]
        self.shed = dict.fromkeys((*SHED, OTHER), 0)
        self.fallbacks = dict.fromkeys((*FALLBACKS, OTHER), 0)
        self.rails = dict.fromkeys((*RAILS, OTHER), 0)
        self.ttft = [Tally(TTFT_BOUNDS_S) for _ in range(MAX_CLASSES)]
        self.atgt = [Tally(ATGT_BOUNDS_S) for _ in range(MAX_CLASSES)]
        self.e2e = [Tally(E2E_BOUNDS_S) for _ in range(MAX_CLASSES)]
        self.placing, self.scaling = Tally(DECISION_BOUNDS_S), Tally(DECISION_BOUNDS_S)
        self.decisions: dict[str, list[int]] = {}
        for name in served:
            self._decided_by(name)

    def is_used(self, klass: int) -> bool:
        """Whether a request of this class has ended, or has its first token."""
        return any(self.outcomes[klass].values()) or self.ttft[klass].count > 0

    def refused(self, reason: str, prompt_tokens: int, klass: int, now_s: float) -> None:
        """Count a request turned away at the door; it has missed its objectives, unless nobody could serve it."""
        self.arrivals += 1
        self._recent.arrived(now_s)
        self.outcomes[klass]["shed"] += 1
        self.shed[reason if reason in self.shed else OTHER] += 1
        if reason not in _NOT_JUDGED:
            self._judge(klass, MISSED_UNSERVED, now_s)

    def arrived(self, ticket: Ticket) -> None:
        """Count it."""
        self.arrivals += 1
        self._recent.arrived(ticket.arrived_s)

    def decided(self, ticket: Ticket, answer: int) -> None:
        """Count who decided what, and whether the other one agrees."""
        by = ticket.by
        (self.decisions.get(by) or self._decided_by(by))[0 if answer >= 0 else -answer] += 1
        if by != NO_WORKER:
            self.placing.observe(ticket.decision_s)
        if ticket.shadow is not None and answer != HOLD:  # who is held is asked about again and again
            if ticket.shadow == answer:
                self.agreed += 1
            else:
                self.disagreed += 1

    def grew(self, ticket: Ticket, count: int, now_s: float) -> None:
        """Count tokens; the first of a stream shows its TTFT, of an answer that comes whole nobody knows it."""
        self.output_tokens += count
        if ticket.tokens == count and ticket.first_s == now_s:
            self.ttft[ticket.klass].observe(now_s - ticket.arrived_s)

    def returned(self, ticket: Ticket, reason: str, now_s: float) -> None:
        """Count it."""
        self.retries += 1

    def ended(self, ticket: Ticket) -> None:
        """Count how, and judge it as the arrays do."""
        klass, outcome = ticket.klass, ticket.outcome
        self.outcomes[klass][outcome] += 1
        if outcome == "left":
            return
        if outcome == "finished":
            self._finished(ticket)
        elif outcome == "shed":
            self.shed[ticket.reason if ticket.reason in self.shed else OTHER] += 1
        self._judge(klass, self._missed.item(ticket.row), ticket.ended_s)

    def fell_back(self, reason: str) -> None:
        """Count it."""
        self.fallbacks[reason if reason in self.fallbacks else OTHER] += 1

    def beat(self, beat: Beat) -> None:
        """Count it, how long it took, and its guard rails."""
        self.beats += 1
        self.scaling.observe(beat.seconds)
        for rail in beat.rails:
            self.rails[rail if rail in self.rails else OTHER] += 1

    def _finished(self, ticket: Ticket) -> None:
        self.prompt_tokens += ticket.prompt_tokens
        self.e2e[ticket.klass].observe(ticket.ended_s - ticket.arrived_s)
        if ticket.streams and ticket.tokens > 1:
            self.atgt[ticket.klass].observe((ticket.ended_s - ticket.first_s) / (ticket.tokens - 1))

    def _judge(self, klass: int, missed: int, now_s: float) -> None:
        self._recent.judged(klass, not missed, now_s)
        self.judged[klass] += 1
        if not missed:
            self.met[klass] += 1
            return
        for kind, bit in _KINDS:
            if missed & bit:
                self.missed[klass][kind] += 1

    def _decided_by(self, name: str) -> list[int]:
        """What a policy has decided: placed, held, rejected; names that are no label share a row."""
        return self.decisions.setdefault(self._names.of(name), [0, 0, 0])
