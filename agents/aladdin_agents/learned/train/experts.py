"""Experts beside an environment: what a policy would do at the decision that is due, as an action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_env.envs.engine import Engine
from aladdin_env.errors import InputError
from aladdin_env.policy import HOLD, Combined
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.answers import HOOKS
from aladdin_env.simulator.core import ASK
from aladdin_env.simulator.state import FAILED, READY, STARTING
from aladdin_env.view import ClusterView, RequestView

#: No action of the environment is what the expert would do.
NO_ACTION = -1


class Experts:
    """One expert for each environment of a native batch; each has seen its episode from the first decision on.

    Args:
        engine: The batch.
        make: Makes the expert for a scenario.

    Raises:
        InputError: a policy that wants to hear of events.
    """

    def __init__(self, engine: Engine, make: Callable[[Scenario], Combined]) -> None:
        self._engine = engine
        self._make = make
        self._policies: list[Combined] = [self._made(engine.scenario) for _ in range(engine.environments)]
        self._for: list[Scenario | None] = [None] * engine.environments

    def begin(self, e: int) -> None:
        """An episode has begun in environment ``e``."""
        scenario = self._engine.scenarios[e]
        if self._for[e] is not scenario:
            self._policies[e] = self._made(scenario)
            self._for[e] = scenario
        for hook in self._policies[e].hooks("reset"):
            hook(scenario)

    def actions(self) -> NDArray[np.int64]:
        """What each would do now, (environments,); :data:`NO_ACTION` where that is no action or not allowed."""
        return np.array([self._action(e) for e in range(self._engine.environments)], dtype=np.int64)

    def _made(self, scenario: Scenario) -> Combined:
        policy = self._make(scenario)
        heard = [name for name in HOOKS if policy.hooks(name)]
        if heard:
            mend = f"it wants to hear of events ({heard[0]}), which an expert beside an environment does not"
            raise InputError("imitation.expert", policy.name, mend)
        return policy

    def _action(self, e: int) -> int:
        engine, view = self._engine, self._engine.view(e)
        if engine.out.reason[e] == ASK:
            request = RequestView(view.requests, int(engine.worlds[e].control[0]["asked"]))
            action = self._placed(int(self._policies[e].place(view, request)))
        else:
            action = self._changed(e, view, self._policies[e].scale(view))
        return action if action >= 0 and engine.out.mask[e, action] else NO_ACTION

    def _placed(self, answer: int) -> int:
        """A slot, HOLD or REJECT as an action."""
        actions = self._engine.actions
        if answer >= 0:
            return answer
        if answer == HOLD:
            return actions.slots if actions.holds else NO_ACTION
        return actions.slots + int(actions.holds) if actions.rejects else NO_ACTION

    def _changed(self, e: int, view: ClusterView, wanted: Any) -> int:
        """The allowed change that brings the fleet nearest to what is wanted: what lacks most, then what is over."""
        actions = self._engine.actions
        if wanted is None:
            return actions.first_change
        have = np.array([_running_or_coming(view, k) for k in range(len(wanted))])
        missing = np.array(wanted) - have
        gap = missing.max() if missing.max() > 0 else missing.min()
        if gap == 0:
            return actions.first_change
        kind = int(np.flatnonzero(missing == gap)[0])
        allowed = self._engine.out.mask[e, actions.first_change :].astype(bool)
        mine = allowed & (actions.changes[:, 0] == kind) & (np.sign(actions.changes[:, 1]) == np.sign(gap))
        mine &= np.abs(actions.changes[:, 1]) <= abs(gap)
        if not mine.any():
            return actions.first_change
        steps = np.where(mine, np.abs(actions.changes[:, 1]), -1)
        return actions.first_change + int(steps.argmax())


def _running_or_coming(view: ClusterView, kind: int) -> int:
    """Workers that a change counts from: READY, STARTING and FAILED."""
    limits = view.types[kind]
    status = view.workers["status"][limits["first_slot"] : limits["first_slot"] + limits["slots"]]
    return int(np.isin(status, (READY, STARTING, FAILED)).sum())
