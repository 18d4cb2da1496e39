"""The values that labels may have: closed sets, so that no client and no error message makes new series."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aladdin_env.scenario import Scenario
from aladdin_env.simulator.state import MAX_CLASSES

OTHER = "other"
OUTCOMES = ("finished", "failed", "left", "shed")
SHED = (
    "too_many_requests", "queue_full", "queue_timeout", "rejected", "no_worker", "too_long", "shutting_down",
)  # fmt: skip
FALLBACKS = ("slow", "deadline", "exception", "bad answer", "scaling failed")
RAILS = ("stale", "canary", "infeasible", "step", "cooldown", "limits", "budget", "pool failed")
MISSES = ("ttft", "atgt", "unserved")
ANSWERS = PLACED, HELD, REJECTED = "placed", "held", "rejected"
#: Who decided where no policy was asked, or none had an answer.
NO_POLICY = NO_WORKER, NOBODY = "no worker", "nobody"
_MOST_SERVED = 16


def label(value: str) -> str:
    """As metrics spell it."""
    return value.replace(" ", "_")


def class_names(scenario: Scenario) -> tuple[str, ...]:
    """A name for each class that there can be; those beyond the scenario's have objectives that clients stated."""
    names = scenario.slo.names()
    return (*names, *(f"stated_{k}" for k in range(len(names), MAX_CLASSES)))


class PolicyNames:
    """Which names of policies may be labels: registered ones, and the first few others that were served.

    Args:
        known: Names that always may.
        served: Names of the policies in service now.
    """

    def __init__(self, known: Iterable[str], served: Callable[[], Iterable[str]]) -> None:
        self._known = frozenset((*known, *NO_POLICY))
        self._served = served
        self._admitted: set[str] = set()

    def of(self, name: str) -> str:
        """The name, or "other"."""
        if name in self._admitted or all(part in self._known for part in name.split("+")):
            return name
        if len(self._admitted) < _MOST_SERVED and name in self._served():
            self._admitted.add(name)
            return name
        return OTHER
