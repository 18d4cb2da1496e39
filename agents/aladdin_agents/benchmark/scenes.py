"""All runs of one scenario side by side: who holds the target, who is best, ratios seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aladdin_agents.benchmark.entrants import BOUND, HEURISTICS, REFERENCE
from aladdin_agents.benchmark.rows import Row
from aladdin_agents.benchmark.scenarios import TARGET
from aladdin_env.compare import estimate

RATIOS = ("vs_best_heuristic", "vs_aladdin", "vs_bound")


def counted(task: str) -> str:
    """The measure that counts: on a fixed fleet what is served within the SLO, else what it costs."""
    return "goodput_rps" if task == "placement" else "cost"


@dataclass(frozen=True)
class Scene:
    """The runs of a scenario.

    Attributes:
        task: Its task.
        runs: By policy and seed, without the bound's.
        bound: The bound's, by seed.
    """

    task: str
    runs: Mapping[str, Mapping[int, Row]]
    bound: Mapping[int, Row]

    @classmethod
    def of(cls, task: str, rows: Sequence[Row]) -> Scene:
        """The scene of the rows of one scenario."""
        runs: dict[str, dict[int, Row]] = {}
        for row in sorted(rows, key=lambda row: row.seed):
            runs.setdefault(row.policy, {})[row.seed] = row
        return cls(task, {name: own for name, own in runs.items() if name != BOUND}, runs.get(BOUND, {}))

    def values(self, policy: str, measure: str) -> list[float]:
        """A measure of a policy, by seed."""
        return [row[measure] for row in self.runs[policy].values()]

    def holds(self, policy: str) -> bool:
        """Whether the mean attainment holds the target."""
        return self._mean(policy, "slo_attainment") >= TARGET

    def counts(self, policy: str) -> bool:
        """Whether what counts does: cost only where the target is held, what a fixed fleet serves always."""
        return self.task == "placement" or self.holds(policy)

    @property
    def best_heuristic(self) -> str:
        """Empty where there is no heuristic that counts."""
        return min((name for name in HEURISTICS[self.task] if name in self.runs and self.counts(name)),
                   key=self._rank, default="")  # fmt: skip

    def in_order(self) -> list[str]:
        """Policies that count, best first, then the rest by attainment."""
        return sorted(self.runs, key=lambda name: (not self.counts(name), self._rank(name), name))

    def ratios(self, policy: str) -> dict[str, list[float]]:
        """What counts over that of others, seed by seed, by :data:`RATIOS`; none where one of both does not count."""
        best, reference = self.best_heuristic, REFERENCE[self.task]
        others: dict[str, Mapping[int, Row]] = {
            "vs_best_heuristic": self.runs[best] if best else {},
            "vs_aladdin": self.runs[reference] if reference in self.runs and self.counts(reference) else {},
            "vs_bound": self.bound,
        }
        mine = self.runs[policy] if self.counts(policy) else {}
        return {ratio: self._over(mine, others[ratio]) for ratio in RATIOS}

    def _over(self, mine: Mapping[int, Row], others: Mapping[int, Row]) -> list[float]:
        measure = counted(self.task)
        pairs = [(row[measure], others[seed][measure]) for seed, row in mine.items() if seed in others]
        return [own / other for own, other in pairs if other > 0]

    def _rank(self, policy: str) -> float:
        """Lower is better."""
        if not self.counts(policy):
            return -self._mean(policy, "slo_attainment")
        mean = self._mean(policy, counted(self.task))
        return -mean if self.task == "placement" else mean

    def _mean(self, policy: str, measure: str) -> float:
        return estimate(self.values(policy, measure)).mean
