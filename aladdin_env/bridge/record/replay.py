"""Every decision of a log asked again, on the arrays as they were: the same policy must give the same answers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aladdin_env.bridge.decider import ACTIVE, CANARY, SHADOW
from aladdin_env.bridge.record.log import Log, Record, read_logs
from aladdin_env.bridge.record.rebuild import Rebuilding, Rebuilt
from aladdin_env.errors import InputError
from aladdin_env.policy import HOLD, Combined, make_policy
from aladdin_env.simulator.state import OFF, WORKER_STATUS
from aladdin_env.view import ClusterView
from aladdin_traces import inside

_log = logging.getLogger(__name__)
_LEFT_OUT = "slow"


@dataclass(frozen=True)
class Difference:
    """A question that was answered otherwise.

    Attributes:
        place: File and line of the recorded answer.
        time_s: When it was asked, seconds since the bridge began.
        what: Request, or heartbeat.
        asked: Name of the policy.
        recorded: Its answer then.
        answered: Its answer now; None: it failed.
        workers: What it saw of each worker.
    """

    place: str
    time_s: float
    what: str
    asked: str
    recorded: Any
    answered: Any
    workers: list[dict[str, Any]]


@dataclass
class Tally:
    """How many answers are the same.

    Attributes:
        asked: Questions.
        agreed: Same answers.
        first: The first that is not the same.
    """

    asked: int = 0
    agreed: int = 0
    first: Difference | None = None

    @property
    def share(self) -> float:
        """Same answers over questions; NaN without any."""
        return self.agreed / self.asked if self.asked else float("nan")


@dataclass(frozen=True)
class Replayed:
    """What :func:`replay` found.

    Attributes:
        log: The log.
        policy: The policy that was asked in the place of those that had decided; None: those.
        placements: Answers to requests.
        shadows: Answers that were only noted; of another policy nobody asks for them.
        scalings: Answers to heartbeats.
        nobody: Decisions for which no policy was asked, for no worker could take the request.
    """

    log: Log
    policy: str | None
    placements: Tally
    shadows: Tally
    scalings: Tally
    nobody: int

    @property
    def is_same(self) -> bool:
        """Whether all answers are the same."""
        return all(tally.agreed == tally.asked for tally in (self.placements, self.shadows, self.scalings))


def replay(path: Path, policy: str | None = None) -> Replayed:
    """Rebuild the arrays of a bridge event by event, and ask at every decision what was asked then.

    Whatever is answered, what was recorded is carried out.

    Args:
        path: A log of the level ``events``, of one run.
        policy: A policy to ask in the place of those that decided.

    Raises:
        InputError: the log is damaged, not whole, of another level or of several runs; there is no such policy.
    """
    return replay_log(read_events(path), policy)


def read_events(path: Path) -> Log:
    """A log of one run, with all its events.

    Raises:
        InputError: the log is damaged, or of several runs.
    """
    logs = read_logs([path], events=True)
    if len(logs) > 1:
        raise InputError("log", str(path), f"it has {len(logs)} runs of a bridge: put each into a file of its own")
    return logs[0]


def replay_log(log: Log, policy: str | None = None) -> Replayed:
    """The same of a log that was read with its events."""
    replaying = _Replaying(log, policy)
    for record in log.records:
        replaying.hear(record)
    return replaying.found


class _Replaying:
    """A log on its way through the arrays."""

    def __init__(self, log: Log, policy: str | None) -> None:
        self.log, self.policy = log, policy
        self.rebuilt = Rebuilt(log)
        scenario = log.header.scenario
        self.other = None if policy is None else make_policy(policy, scenario)
        for hook in () if self.other is None else self.other.hooks("reset"):
            hook(scenario)
        self.fell: list[str] = []
        self.placements, self.shadows, self.scalings, self.nobody = Tally(), Tally(), Tally(), 0

    @property
    def found(self) -> Replayed:
        return Replayed(self.log, self.policy, self.placements, self.shadows, self.scalings, self.nobody)

    def hear(self, record: Record) -> None:
        """Ask where it is an answer, then let it happen."""
        if record.kind == "decide":
            self._place(record)
            self.fell = []
        elif record.kind == "fallback":
            self.fell.append(record.fields["reason"])
        self.rebuilt.apply(record)
        if record.kind == "beat":  # policies see the heartbeat that they are asked at
            self._scale(record)

    def _place(self, record: Record) -> None:
        cluster, row = self.rebuilt.cluster, record.fields["row"]
        with inside(record.place):
            request = self.rebuilt.request(record)
        with cluster.without(request.avoid):
            if record.fields["by"] == "no worker" and not cluster.accepts(row):
                self.nobody += 1
                return
            asked, answered = self._answer(record, request)
            self._count(self.placements, record, asked, record.fields["answer"], answered)
            if self.other is None and self.rebuilt.decider.mode == SHADOW:
                shadow = self.rebuilt.decider.policy
                answered, recorded = self._ask(shadow, record), record.fields.get("shadow")
                self._count(self.shadows, record, shadow.name, recorded, answered)

    def _answer(self, record: Record, request: Rebuilding) -> tuple[str, int | None]:
        """Who decides, and the answer; those who were asked before it are asked again, for what they remember."""
        if self.other is not None:
            return self.other.name, self._ask(self.other, record)
        by = record.fields["by"]
        for policy in self._asked(request):
            answer = self._ask(policy, record)
            if policy.name == by:
                return by, answer
        return by, HOLD if by == "nobody" else None

    def _asked(self, request: Rebuilding) -> Iterator[Combined]:
        """Those who may have been asked, in that order."""
        decider = self.rebuilt.decider
        acts = decider.mode == ACTIVE or (decider.mode == CANARY and request.coin < decider.canary)
        if not acts:
            yield decider.baseline
        elif _LEFT_OUT not in self.fell:
            yield decider.policy
        yield from decider.fallbacks

    def _ask(self, policy: Combined, record: Record) -> int | None:
        try:
            return self.rebuilt.cluster.ask(policy, record.fields["row"], record.t)
        except Exception as error:  # as a bridge does: a policy is anybody's code
            _log.debug("%s: policy %s failed: %s", record.place, policy.name, error)
            return None

    def _scale(self, record: Record) -> None:
        decider = self.rebuilt.decider
        acting = decider.baseline if decider.mode == SHADOW else decider.policy
        asked: Sequence[Combined] = (acting, *decider.fallbacks) if self.other is None else (self.other,)
        for policy in asked:
            try:
                wanted = policy.scale(self.rebuilt.cluster.view)
                answer = None if wanted is None else [int(n) for n in wanted]
            except Exception as error:
                _log.debug("%s: scaler of %s failed: %s", record.place, policy.name, error)
                continue
            self._count(self.scalings, record, policy.name, record.fields.get("proposed"), answer)
            return
        self._count(self.scalings, record, asked[-1].name, record.fields.get("proposed"), None)

    def _count(self, tally: Tally, record: Record, asked: str, recorded: Any, answered: Any) -> None:
        tally.asked += 1
        if answered == recorded:
            tally.agreed += 1
        elif tally.first is None:
            what = "heartbeat" if record.kind == "beat" else f"request {self.rebuilt.request(record).id}"
            workers = _workers(self.rebuilt.cluster.view)
            tally.first = Difference(record.place, record.t, what, asked, recorded, answered, workers)


def _workers(view: ClusterView) -> list[dict[str, Any]]:
    """What most policies compare, of every worker that is there."""
    return [
        {
            "slot": slot,
            "status": WORKER_STATUS[worker["status"]],
            "takes": bool(worker["accepts"]),
            "waiting": int(worker["waiting"]),
            "running": int(worker["running"]),
            "waiting_prompt_tokens": int(worker["waiting_prefill_tokens"]),
            "context_tokens": int(worker["context_tokens"]),
            "kv": float(worker["kv_used_blocks"] / max(1, worker["kv_blocks"])),
        }
        for slot, worker in enumerate(view.workers)
        if worker["status"] != OFF
    ]
