"""Experts beside an environment: what a policy would do at the decision that is due, as an action."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aladdin_agents.learned.advice import NO_ACTION, SIZE, Adviser
from aladdin_env.envs.engine import Engine
from aladdin_env.policy import Combined
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.core import ASK
from aladdin_env.view import RequestView

__all__ = ["NO_ACTION", "Experts"]


class Experts:
    """One expert for each environment of a native batch; each has seen its episode from the first decision on.

    Args:
        engine: The batch.
        make: Makes the expert for a scenario.
        field: Whose fault an expert is that cannot be one.

    Raises:
        InputError: a policy that wants to hear of events.
    """

    def __init__(self, engine: Engine, make: Callable[[Scenario], Combined], field: str = "imitation.expert") -> None:
        self._engine = engine
        self._make = make
        self._field = field
        self._advice = np.zeros((engine.environments, SIZE), dtype=np.float32)
        self._experts: list[Adviser] = [self._made(engine.scenario) for _ in range(engine.environments)]
        self._for: list[Scenario | None] = [None] * engine.environments

    def begin(self, e: int) -> None:
        """An episode has begun in environment ``e``."""
        scenario = self._engine.scenarios[e]
        if self._for[e] is not scenario:
            self._experts[e] = self._made(scenario)
            self._for[e] = scenario
        self._experts[e].begin(scenario)

    def actions(self) -> NDArray[np.int64]:
        """What each would do now, (environments,); :data:`NO_ACTION` where that is no action or not allowed."""
        return np.array([self._action(e) for e in range(self._engine.environments)], dtype=np.int64)

    def advice(self) -> NDArray[np.float32]:
        """The same with what goes with it, (environments, :data:`SIZE`), in a buffer that the next call overwrites."""
        for e, expert in enumerate(self._experts):
            self._advice[e] = expert.advice(self._action(e), self._engine.out.reason[e] != ASK)
        return self._advice

    def _made(self, scenario: Scenario) -> Adviser:
        return Adviser(self._make(scenario), self._engine.actions, self._field)

    def _action(self, e: int) -> int:
        engine, view, expert = self._engine, self._engine.view(e), self._experts[e]
        if engine.out.reason[e] == ASK:
            request = RequestView(view.requests, int(engine.worlds[e].control[0]["asked"]))
            return expert.placed(view, request, engine.out.mask[e])
        return expert.changed(view, engine.out.mask[e])
