"""The last hour in steps of 5 s: how many requests arrived, and how many were within their objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aladdin_env.simulator.state import MAX_CLASSES

STEP_S = 5.0
_STEPS = 721  # an hour, and the step that is not over
_ARRIVED, _JUDGED, _MET = 0, 1, 1 + MAX_CLASSES
_NONE = (0,) * (1 + 2 * MAX_CLASSES)


@dataclass(frozen=True, slots=True)
class Judged:
    """Requests that ended within some time.

    Attributes:
        judged: Those that were judged: finished, failed or shed; who hangs up is not.
        met: Of these, within their objectives.
    """

    judged: int
    met: int

    @property
    def attainment(self) -> float | None:
        """Share that met; None where there was none to judge."""
        return self.met / self.judged if self.judged else None


class Recent:
    """Sums since the start, and what they were as each step began. The clock is the bridge's, seconds."""

    def __init__(self) -> None:
        self._sums = list(_NONE)
        self._began: list[tuple[int, ...]] = [_NONE] * _STEPS
        self._step = 0

    def arrived(self, now_s: float) -> None:
        """A request has come."""
        self._forward(now_s)
        self._sums[_ARRIVED] += 1

    def judged(self, klass: int, met: bool, now_s: float) -> None:
        """A request of this class has ended, within its objectives or not."""
        self._forward(now_s)
        self._sums[_JUDGED + klass] += 1
        self._sums[_MET + klass] += met

    def within(self, seconds: float, now_s: float, klass: int | None = None) -> Judged:
        """What was judged in the last ``seconds`` and the step that has begun; all classes or one."""
        self._forward(now_s)
        first = max(0, self._step - min(round(seconds / STEP_S), _STEPS - 1))
        return _judged(self._began[first % _STEPS], self._sums, klass)

    def series(self, points: int, steps: int, now_s: float) -> list[tuple[int, Judged] | None]:
        """Arrivals, and what was judged, in each of the last ``points`` spans of ``steps`` steps that are over.

        Oldest first; None for spans before the beginning.
        """
        self._forward(now_s)
        end = self._step // steps
        return [self._span(i * steps, (i + 1) * steps) for i in range(end - points, end)]

    def _span(self, first: int, end: int) -> tuple[int, Judged] | None:
        if first < 0:
            return None
        before, after = self._began[first % _STEPS], self._began[end % _STEPS]
        return after[_ARRIVED] - before[_ARRIVED], _judged(before, after, None)

    def _forward(self, now_s: float) -> None:
        """Note the sums for all steps that have begun since the last change."""
        step = int(now_s / STEP_S)
        if step > self._step:
            sums = tuple(self._sums)
            for began in range(max(self._step + 1, step - _STEPS + 1), step + 1):
                self._began[began % _STEPS] = sums
            self._step = step


def _judged(before: Sequence[int], after: Sequence[int], klass: int | None) -> Judged:
    classes = range(MAX_CLASSES) if klass is None else (klass,)
    judged = sum(after[_JUDGED + k] - before[_JUDGED + k] for k in classes)
    return Judged(judged, sum(after[_MET + k] - before[_MET + k] for k in classes))
