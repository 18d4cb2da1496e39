"""The fewest workers of a fixed fleet that hold an SLO attainment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aladdin_env.compare.contenders import Contender
from aladdin_env.compare.work import Lab, Progress, Run
from aladdin_env.errors import InputError
from aladdin_env.scenario import Scenario


@dataclass(frozen=True)
class Ladder:
    """Fleets of 1, 2, 3, ... workers in about the given proportions, each with all workers of the one before.

    Attributes:
        shares: Workers of each type that the whole is divided by.
        most: Workers of the largest fleet.
    """

    shares: tuple[int, ...]
    most: int
    least_each: int = 0

    @classmethod
    def of(cls, scenario: Scenario, shares: tuple[int, ...] | None = None, most: int | None = None) -> Ladder:
        """In the proportions of ``shares`` (by default the workers at time 0), up to ``most`` workers.

        Raises:
            InputError: no worker at all, or too few for a fleet that needs both roles.
        """
        kinds = scenario.fleet.types
        given = shares or tuple(kind.initial for kind in kinds)
        if sum(given) == 0:
            given = tuple(1 for _ in kinds)
        least_each = 1 if scenario.fleet.is_split else 0
        limit = most or 4 * max(sum(given), scenario.fleet.slots)
        if limit < len(kinds) * least_each:
            raise InputError("max_workers", most, f"give at least {len(kinds)}, one of each role")
        return cls(given, limit, least_each)

    @property
    def least(self) -> int:
        """Workers of the smallest fleet."""
        return max(1, self.least_each * len(self.shares))

    def counts(self, workers: int) -> tuple[int, ...]:
        """How many of each type (Webster's method: more workers never take one away)."""
        counts = [self.least_each] * len(self.shares)
        for _ in range(workers - sum(counts)):
            claim = [share / (2 * n + 1) for share, n in zip(self.shares, counts, strict=True)]
            counts[claim.index(max(claim))] += 1
        return tuple(counts)


@dataclass
class Search:
    """The answer for one policy.

    Attributes:
        contender: The policy.
        target: Attainment to hold, as the mean over the seeds.
        tried: Mean attainment by number of workers; of a fleet that misses it may be an upper bound, once the seeds
            simulated so far rule the target out.
        workers: The fewest workers that hold it; None if not even the largest fleet does.
        counts: Those workers by type; of the fleet that came nearest if none holds it.
        runs: The simulations of that fleet, one per seed.
        is_monotone: Whether every tried larger fleet holds it too (the next larger one is always tried,
            and the second smaller one).
    """

    contender: Contender
    target: float
    tried: dict[int, float] = field(default_factory=dict)
    workers: int | None = None
    counts: tuple[int, ...] = ()
    runs: list[Run] = field(default_factory=list)
    is_monotone: bool = True


@dataclass(frozen=True)
class Question:
    """The unit of work of a search: picklable."""

    contender: Contender
    seeds: tuple[int, ...]
    target: float
    ladder: Ladder
    start: int


def fewest_workers(lab: Lab, question: Question, progress: Progress) -> Search:
    """Gallop from ``question.start`` to a fleet that misses and one that holds, bisect, check the neighbours."""
    return _Searcher(lab, question, progress).find()


class _Searcher:
    def __init__(self, lab: Lab, question: Question, progress: Progress) -> None:
        self._lab, self._q, self._progress = lab, question, progress
        self._answer = Search(question.contender, question.target)
        self._runs: dict[int, list[Run]] = {}

    def find(self) -> Search:
        ladder, answer = self._q.ladder, self._answer
        low, high = self._bracket()
        if high is None:
            nearest = max(answer.tried, key=lambda n: (len(self._runs[n]) == len(self._q.seeds), answer.tried[n]))
            return self._settle(None, nearest)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._holds(middle) else (middle, high)
        high = self._step_down(high)
        if high < ladder.most:
            self._holds(high + 1)
        answer.is_monotone = all(self._holds(n) for n in answer.tried if n > high)
        return self._settle(high, high)

    def _step_down(self, workers: int) -> int:
        """A smaller fleet that holds, beyond one that misses, if it is next to that: attainment may go up and down."""
        least = self._q.ladder.least
        while workers - 2 >= least and self._holds(workers - 2):
            workers -= 2
            while workers - 1 >= least and self._holds(workers - 1):
                workers -= 1
        return workers

    def _bracket(self) -> tuple[int, int | None]:
        """A fleet that misses (or one below the smallest) and a larger one that holds (None: no fleet does)."""
        ladder = self._q.ladder
        at = min(max(self._q.start, ladder.least), ladder.most)
        if self._holds(at):
            high, low = at, at // 2
            while low >= ladder.least and self._holds(low):
                high, low = low, low // 2
            return max(low, ladder.least - 1), high
        while at < ladder.most:
            low, at = at, min(2 * at, ladder.most)
            if self._holds(at):
                return low, at
        self._complete(at)
        return at, None

    def _settle(self, workers: int | None, shown: int) -> Search:
        answer = self._answer
        answer.workers, answer.counts, answer.runs = workers, self._q.ladder.counts(shown), self._runs[shown]
        self._progress(1.0)
        return answer

    def _holds(self, workers: int) -> bool:
        """Whether the mean over the seeds holds the target; stops at the seed that rules it out."""
        runs = self._runs.setdefault(workers, [])
        seeds, target = self._q.seeds, self._q.target
        while len(runs) < len(seeds) and self._best_mean(runs) >= target:
            self._run(workers)
        self._answer.tried[workers] = self._best_mean(runs)
        return self._answer.tried[workers] >= target

    def _complete(self, workers: int) -> None:
        while len(self._runs[workers]) < len(self._q.seeds):
            self._run(workers)
        self._answer.tried[workers] = self._best_mean(self._runs[workers])

    def _run(self, workers: int) -> None:
        runs = self._runs[workers]
        counts = self._q.ladder.counts(workers)
        runs.append(self._lab.run(self._q.contender, self._q.seeds[len(runs)], counts, keep_fleet=not runs))
        done = sum(len(r) for r in self._runs.values())
        self._progress(1 - 0.85**done)  # how many fleets it will take is not known

    def _best_mean(self, runs: Sequence[Run]) -> float:
        """The mean attainment if all seeds still to come met every SLO."""
        open_seeds = len(self._q.seeds) - len(runs)
        return (sum(run.summary["slo_attainment"] for run in runs) + open_seeds) / len(self._q.seeds)
