"""Which trials of a sweep end early: asynchronous successive halving (Li et al., MLSys 2020), by validation scores.

Trials are compared at rungs: after ``grace`` decisions, then after ``reduction`` times as many, and so on. Whoever
reaches a rung goes on if its score is among the best ``1 / reduction`` of all that have reached it so far. Nothing but
the validations in the trials' folders counts, so a sweep that was killed decides as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aladdin_agents.scale_out.follow import Validation


@dataclass(frozen=True)
class Stopping:
    """When trials end early.

    Attributes:
        grace: Decisions until the first rung.
        reduction: From each rung one in so many goes on.
    """

    grace: int
    reduction: int

    def ends(self, own: Sequence[Validation], others: Iterable[Sequence[Validation]]) -> bool:
        """Whether a trial ends with its latest validation.

        Args:
            own: Its validations so far.
            others: Those of the other trials.
        """
        rung = self._reached(own)
        if rung is None or (len(own) > 1 and self._reached(own[:-1]) == rung):  # no new rung
            return False
        mine = _best_until(own, rung)
        theirs = [score for rows in others if (score := _best_until(rows, rung)) is not None]
        assert mine is not None
        better = sum(score > mine for score in theirs)
        return better >= math.ceil((len(theirs) + 1) / self.reduction)

    def _reached(self, rows: Sequence[Validation]) -> int | None:
        """Decisions of the last rung that a trial has reached."""
        if not rows or rows[-1]["steps"] < self.grace:
            return None
        rung = self.grace
        while rung * self.reduction <= rows[-1]["steps"]:
            rung *= self.reduction
        return rung


def _best_until(rows: Sequence[Validation], rung: int) -> float | None:
    """The best score up to the validation at which a trial reached a rung; None: it has not."""
    best = -math.inf
    for row in rows:
        best = max(best, row["score"])
        if row["steps"] >= rung:
            return best
    return None
