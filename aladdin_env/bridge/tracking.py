"""The laws of time follow the workers: what each request took is compared with what the profile in use says.

What a client sees is turned into steps as the tracker wants them. A request's decode is taken with the mean batch and
context that its worker had meanwhile; what the prefills of others took of it is taken off by the laws in use, and where
that is too much of it the request says nothing. A prefill counts where the request was the only one in prefill, and
found a free place in the batch and room for its prompt: its time to first token, less the front end's overhead and half
of the decode step that it fell into. This is our reconstruction; the paper calibrates once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aladdin_env.bridge.events import Beat, Ticket, Watcher
from aladdin_env.bridge.live_cluster import LiveCluster
from aladdin_env.profile_tracker import ProfileTracker, TrackerStatus
from aladdin_env.simulator import laws

_LEAST_TOKENS = 8  # of an answer: the time between fewer is mostly noise
_MOST_FOREIGN = 0.3  # of a request's decode, for the prefills of others
_LEAST_OBSERVED = 30
_LEAST_SPREAD = 0.04  # what is seen through a front end is off by some percent
_WORTH_TELLING = 0.02  # relative change of a factor
_LONGEST_PROMPT_TOKENS = 8192  # a longer one is prefilled in more steps than one


@dataclass(slots=True)
class _Course:
    """What a slot has done, as integrals over time: ``batch_s`` of the decode batch, ``context_s`` of its context."""

    since_s: float = 0.0
    batch: int = 0
    context: float = 0.0
    steps: int = 0
    batch_s: float = 0.0
    context_s: float = 0.0
    prefill_s: float = 0.0
    prefilled: int = 0


@dataclass(slots=True)
class _Begun:
    """A request's worker when it was sent there, and at its first token."""

    prefilled: int
    batch: int
    context: float
    is_admitted: bool
    batch_s: float = 0.0
    context_s: float = 0.0
    prefill_s: float = 0.0


class Tracking(Watcher):
    """Corrects the profiles of a live cluster at its heartbeats.

    Args:
        cluster: Whose laws follow.
        learnt: Told of new laws: ``Watchers.learnt``.
    """

    def __init__(self, cluster: LiveCluster, learnt: Callable[..., None]) -> None:
        self._cluster = cluster
        self._learnt = learnt
        self._laws = cluster.world.laws
        self._workers = workers = cluster.view.workers
        self._decoding, self._waiting = workers["decoding"], workers["waiting"]
        self._context, self._steps, self._types = (
            workers["context_tokens"], workers["decode_steps"], workers["type_index"],
        )  # fmt: skip
        kinds = cluster.view.scenario.fleet.types
        self._trackers = [ProfileTracker(kind.latency, least_spread=_LEAST_SPREAD) for kind in kinds]
        self._overhead_s = [kind.latency.overhead_s for kind in kinds]
        self._told = [(1.0, 1.0, 1.0)] * len(kinds)
        self._courses = [_Course() for _ in range(len(workers))]
        self._begun: dict[int, _Begun] = {}
        self._now_s = 0.0

    def status(self) -> list[TrackerStatus | None]:
        """For each worker type, how far service has moved from its calibration."""
        return [tracker.status(self._now_s) for tracker in self._trackers]

    def decided(self, ticket: Ticket, answer: int) -> None:
        """It was sent somewhere."""
        if answer < 0:
            return
        self._begun[ticket.row] = _Begun(
            self._courses[answer].prefilled,
            self._decoding.item(answer),
            self._context.item(answer),
            self._waiting.item(answer) == 1 and self._has_place(answer, ticket.prompt_tokens),
        )

    def grew(self, ticket: Ticket, count: int, now_s: float) -> None:
        """At its first token a request joins the batch of its worker."""
        if ticket.tokens != count:
            return
        course = self._moved_on(ticket.slot, now_s)
        course.prefilled += 1
        course.prefill_s += self._prefill_s(ticket)
        begun = self._begun.get(ticket.row)
        if begun is not None:
            begun.is_admitted = begun.is_admitted and course.prefilled == begun.prefilled + 1
            begun.batch_s, begun.context_s, begun.prefill_s = course.batch_s, course.context_s, course.prefill_s

    def returned(self, ticket: Ticket, reason: str, now_s: float) -> None:
        """It was never served there."""
        self._begun.pop(ticket.row, None)

    def ended(self, ticket: Ticket) -> None:
        """It leaves the batch, and says how long it took where it was served to its end."""
        begun = self._begun.pop(ticket.row, None)
        if ticket.slot < 0 or ticket.tokens == 0:
            return
        course = self._moved_on(ticket.slot, ticket.ended_s)
        if begun is not None and ticket.outcome == "finished" and ticket.streams:
            self._now_s = ticket.ended_s
            self._take_decode(ticket, begun, course)
            self._take_prefill(ticket, begun)

    def beat(self, beat: Beat) -> None:
        """New laws, where they have become others."""
        self._now_s = beat.time_s
        for index, tracker in enumerate(self._trackers):
            found = tracker.status(beat.time_s)
            factors = found.prefill, found.decode_alpha, found.decode_beta
            news = max(abs(new / old - 1.0) for new, old in zip(factors, self._told[index], strict=True))
            if found.observations >= _LEAST_OBSERVED and news >= _WORTH_TELLING:
                self._told[index] = factors
                profile = tracker.profile()
                self._cluster.set_laws(index, profile)
                self._learnt(index, profile, beat.time_s)

    def _has_place(self, slot: int, prompt_tokens: int) -> bool:
        """Whether the engine can begin at once with another prompt."""
        worker = self._workers[slot]
        if worker["decoding"] >= worker["max_num_seqs"]:
            return False
        free_blocks = int(worker["kv_blocks"]) - int(worker["kv_used_blocks"])
        return bool(prompt_tokens < free_blocks * int(worker["block_size"]))

    def _moved_on(self, slot: int, now_s: float) -> _Course:
        """The slot's course up to now: until now its batch was as the last event left it."""
        course = self._courses[slot]
        steps, passed_s = self._steps.item(slot), now_s - course.since_s
        course.batch_s += course.batch * passed_s
        course.context_s += (course.context + course.batch * max(0, steps - course.steps) / 2) * passed_s
        course.since_s, course.steps = now_s, steps
        course.batch, course.context = self._decoding.item(slot), self._context.item(slot)
        return course

    def _prefill_s(self, ticket: Ticket) -> float:
        """What its prefill adds to a step by the laws in use."""
        tokens = float(ticket.prompt_tokens)
        return float(laws.prefill_time(self._laws, self._type_of(ticket.slot), tokens, tokens * tokens))

    def _take_decode(self, ticket: Ticket, begun: _Begun, course: _Course) -> None:
        lasted_s = ticket.ended_s - ticket.first_s
        foreign_s = course.prefill_s - begun.prefill_s
        if ticket.tokens < _LEAST_TOKENS or lasted_s <= 0.0 or foreign_s > _MOST_FOREIGN * lasted_s:
            return
        batch = max(1, round((course.batch_s - begun.batch_s) / lasted_s))
        context = (course.context_s - begun.context_s) / lasted_s
        token_s = (lasted_s - foreign_s) / (ticket.tokens - 1)
        tracker = self._trackers[self._type_of(ticket.slot)]
        tracker.observe_step(token_s, batch=batch, context_tokens=context, at_s=ticket.ended_s)

    def _take_prefill(self, ticket: Ticket, begun: _Begun) -> None:
        kind = self._type_of(ticket.slot)
        tokens = ticket.counted_tokens or ticket.prompt_tokens
        took_s = ticket.first_s - ticket.placed_s - self._overhead_s[kind]
        if begun.batch:
            took_s -= 0.5 * float(laws.decode_time(self._laws, kind, begun.batch, begun.context))
        if begun.is_admitted and took_s > 0.0 and tokens <= _LONGEST_PROMPT_TOKENS:
            self._trackers[kind].observe_step(
                took_s, prefill_tokens=tokens, batch=begun.batch, context_tokens=begun.context, at_s=ticket.ended_s
            )

    def _type_of(self, slot: int) -> int:
        return int(self._types.item(slot))
