"""From easy to hard: the load of training episodes grows as the objective is attained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aladdin_agents.learned.train.config import Curriculum

# A level is judged by no fewer episodes than these.
_LEAST_EPISODES = 8


class Load:
    """Factors on the rates of training scenarios, drawn between the least one and a level that rises.

    Attributes:
        level: The largest factor drawn now.
    """

    def __init__(self, chosen: Curriculum) -> None:
        self._chosen = chosen
        self.level = chosen.start
        self._since = 0
        self._attained: list[float] = []

    def draw(self, rng: np.random.Generator) -> float:
        """The factor of an episode."""
        low = min(self._chosen.low, self.level)
        return float(rng.uniform(low, self.level)) if low < self.level else self.level

    def note(self, attained: Sequence[float], steps: int) -> None:
        """Take the attainment of episodes that have ended after ``steps`` decisions in all; the level may rise."""
        self._attained += attained
        if self.level >= self._chosen.full:
            return
        known = len(self._attained) >= _LEAST_EPISODES
        reached = known and float(np.mean(self._attained)) >= self._chosen.attainment
        if reached or steps - self._since >= self._chosen.patience:
            self.level = min(self._chosen.full, self.level + self._chosen.growth)
            self._since = steps
            self._attained = []

    def state(self) -> dict[str, object]:
        """What :meth:`restore` takes."""
        return {"level": self.level, "since": self._since, "attained": list(self._attained)}

    def restore(self, state: dict[str, object]) -> None:
        """Go on from there."""
        self.level = float(state["level"])  # type: ignore[arg-type]
        self._since = int(state["since"])  # type: ignore[call-overload]
        self._attained = [float(x) for x in state["attained"]]  # type: ignore[attr-defined]
