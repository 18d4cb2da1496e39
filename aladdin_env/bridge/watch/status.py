"""``/status``: how the bridge is, as JSON; docs/bridge-metrics.md describes it field by field. Unknown is null."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from aladdin_env.bridge.decider import CANARY
from aladdin_env.bridge.events import Beat
from aladdin_env.bridge.watch.counts import Counts
from aladdin_env.bridge.watch.journal import Entry, Journal
from aladdin_env.bridge.watch.labels import HELD, OUTCOMES, PLACED, REJECTED, class_names
from aladdin_env.bridge.watch.metrics import own_version
from aladdin_env.bridge.watch.recent import Recent
from aladdin_env.bridge.watch.sources import Sources
from aladdin_env.bridge.workers.worker import LiveWorker
from aladdin_env.policy import HOLD
from aladdin_env.profile_tracker import TrackerStatus
from aladdin_env.simulator.state import MAX_CLASSES, WORKER_STATUS

WINDOWS_S = {"1m": 60.0, "5m": 300.0, "60m": 3600.0}
Fields = dict[str, Any]


class Status:
    """Describes a bridge.

    Args:
        sources: The bridge.
        counts: What was counted.
        recent: The last hour.
        journal: What came last.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        sources: Sources,
        counts: Counts,
        recent: Recent,
        journal: Journal,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sources, self._counts, self._recent, self._journal = sources, counts, recent, journal
        self._classes = class_names(sources.cluster.view.scenario)
        self._named = len(sources.cluster.view.scenario.slo.names())
        self._began_unix_s = wall() - sources.clock()

    def whole(self) -> Fields:
        """Everything."""
        return {**self.now(), "decisions": self.decisions(), "heartbeats": self.heartbeats()}

    def now(self) -> Fields:
        """All but what has been."""
        sources, counts = self._sources, self._counts
        return {
            "version": own_version(),
            "began_unix_s": round(self._began_unix_s, 3),
            "uptime_s": sources.clock(),
            **self._policy(),
            "calibration": self._calibration(),
            "workers": [self._worker(worker) for worker in sources.listed()],
            "slots": len(sources.pool.workers),
            "ready": sources.ready(),
            "queue": {
                "held": sources.dispatcher.held,
                "limit": sources.dispatcher.queueing.max_held,
                "oldest_s": sources.oldest_held_s(),
            },
            "requests": self._requests(),
            "slo": self._slo(),
            "scaling": self._scaling(),
            "cost": self._cost(),
            "fallbacks": dict(counts.fallbacks),
            "shadow": {"agreed": counts.agreed, "disagreed": counts.disagreed},
        }

    def decisions(self, after: int = 0) -> list[Fields]:
        """The last decisions, newest first; only those with a number beyond ``after``."""
        return [_decision(entry, self._classes) for entry in self._journal.newest(after)]

    def heartbeats(self, most: int | None = None) -> list[Fields]:
        """The last heartbeats, newest first."""
        return [_beat(beat) for beat in list(reversed(self._journal.beats))[:most]]

    def _policy(self) -> Fields:
        decider = self._sources.decider
        return {
            "policy": decider.policy.name,
            "baseline": decider.baseline.name,
            "fallback_policies": [policy.name for policy in decider.fallbacks],
            "mode": decider.mode,
            "canary": decider.canary if decider.mode == CANARY else None,
        }

    def _calibration(self) -> list[Fields]:
        kinds = self._sources.cluster.view.scenario.fleet.types
        found = zip(kinds, self._sources.calibrations(), strict=True)
        return [{"type": kind.name, **_calibration(kind.latency.name, status)} for kind, status in found]

    def _worker(self, worker: LiveWorker) -> Fields:
        status, since_s = self._journal.moved_s.get(worker.slot, (None, math.nan))
        scrape = worker.scrape
        return {
            "slot": worker.slot,
            "type": self._sources.type_of(worker.slot),
            "url": _text(worker.url),
            "model": None if worker.model is None else _text(worker.model),
            "state": WORKER_STATUS[worker.shown_status],
            "drained": worker.is_drained,
            "reason": _text(worker.reason),
            "state_for_s": self._sources.clock() - since_s if status == worker.shown_status else None,
            "ready_in_s": self._sources.ready_in_s(worker),
            "in_flight": worker.in_flight,
            "breaker": worker.breaker.state,
            "running": None if scrape is None else scrape.running,
            "waiting": None if scrape is None else scrape.waiting,
            "kv_usage": None if scrape is None else scrape.kv_usage,
            "kv_capacity_tokens": worker.kv_capacity_tokens,
            "metrics_age_s": worker.metrics_age_s if math.isfinite(worker.metrics_age_s) else None,
            "stale": worker.is_stale,
        }

    def _requests(self) -> Fields:
        counts = self._counts
        ended = {outcome: sum(of_class[outcome] for of_class in counts.outcomes) for outcome in OUTCOMES}
        return {
            "arrived": counts.arrivals,
            "in_flight": int(self._sources.cluster.view.cluster["in_flight"]),
            **ended,
            "shed_by_reason": dict(counts.shed),
            "retries": counts.retries,
            "prompt_tokens": counts.prompt_tokens,
            "output_tokens": counts.output_tokens,
        }

    def _slo(self) -> list[Fields]:
        """All requests first, then class by class."""
        used = [k for k in range(MAX_CLASSES) if k < self._named or self._counts.is_used(k)]
        return [self._slo_of(None), *(self._slo_of(k) for k in used)]

    def _slo_of(self, klass: int | None) -> Fields:
        now_s = self._sources.clock()
        ttft_s, atgt_s = (None, None) if klass is None else self._sources.cluster.view.slo[klass].tolist()
        within = {name: self._recent.within(seconds, now_s, klass) for name, seconds in WINDOWS_S.items()}
        return {
            "class": None if klass is None else self._classes[klass],
            "ttft_s": ttft_s,
            "atgt_s": atgt_s,
            "attainment": {name: judged.attainment for name, judged in within.items()},
            "judged": {name: judged.judged for name, judged in within.items()},
            "missed": self._missed(klass),
        }

    def _missed(self, klass: int | None) -> dict[str, int]:
        of_classes = self._counts.missed if klass is None else [self._counts.missed[klass]]
        return {kind: sum(missed[kind] for missed in of_classes) for kind in of_classes[0]}

    def _scaling(self) -> Fields:
        beats, pool = self._journal.beats, self._sources.pool
        last = beats[-1] if beats else None
        return {
            "can_scale": pool.can_scale,
            "cold_start_s": pool.cold_start_s,
            "replicas": [
                {
                    "type": kind.name,
                    "current": kind.current,
                    "desired": kind.desired,
                    "proposed": kind.proposed,
                    "minimum": kind.minimum,
                    "maximum": kind.maximum,
                }
                for kind in self._sources.replicas(last)
            ],
            "heartbeat_age_s": None if last is None else self._sources.clock() - last.time_s,
            "guard_rails": dict(self._counts.rails),
        }

    def _cost(self) -> Fields:
        spent = self._sources.spending()
        return {
            "gpus": spent.gpus,
            "per_hour": spent.per_hour,
            "gpu_seconds": spent.gpu_seconds,
            "total": spent.total,
        }


def _calibration(profile: str, status: TrackerStatus | None) -> Fields:
    if status is None:
        return {"profile": profile, "observations": None, "drift": None, "drifted": None, "factors": None}
    return {
        "profile": status.prior,
        "observations": status.observations,
        "drift": status.drift,
        "drifted": status.drifted,
        "factors": {
            "prefill": status.prefill,
            "decode_alpha": status.decode_alpha,
            "decode_beta": status.decode_beta,
        },
    }


def _decision(entry: Entry, classes: tuple[str, ...]) -> Fields:
    answer, slot = _answer(entry.answer)
    shadow, shadow_slot = (None, None) if entry.shadow is None else _answer(entry.shadow)
    return {
        "number": entry.number,
        "time_s": entry.time_s,
        "request_id": _text(entry.request_id),
        "class": classes[entry.klass],
        "prompt_tokens": entry.prompt_tokens,
        "answer": answer,
        "slot": slot,
        "by": _text(entry.by),
        "shadow_answer": shadow,
        "shadow_slot": shadow_slot,
        "decision_s": entry.seconds,
        "retries": entry.retries,
    }


def _answer(answer: int) -> tuple[str, int | None]:
    if answer >= 0:
        return PLACED, answer
    return (HELD if answer == HOLD else REJECTED), None


def _beat(beat: Beat) -> Fields:
    return {
        "time_s": beat.time_s,
        "mode": beat.mode,
        "have": beat.have,
        "proposed": beat.proposed,
        "wanted": beat.wanted,
        "guard_rails": beat.rails,
    }


def _text(text: str) -> str:
    """Text from outside as JSON can carry it: without halves of characters."""
    return text.encode("utf-8", "replace").decode()
