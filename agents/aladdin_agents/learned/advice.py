"""What another policy would do, as an input: a network that is advised learns when to do otherwise.

An advised network begins as its adviser: the action that is advised has a logit higher by a trust that is learned, and
depends on the state (residual policy learning, Silver et al. 2018). Besides the action it is told :data:`SIGNALS`,
among them what the sizing formulas say, which no observation holds: how full the fleet is against what it can serve
at these lengths within these objectives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aladdin_env.envs.spaces import Actions
from aladdin_env.errors import InputError
from aladdin_env.features import LIMIT
from aladdin_env.policy import HOLD, Combined, make_policy
from aladdin_env.scenario import Scenario
from aladdin_env.simulator.answers import HOOKS
from aladdin_env.simulator.state import FAILED, READY, STARTING
from aladdin_env.view import ClusterView, RequestView

#: No action of the environment is what the adviser would do.
NO_ACTION = -1
#: What is told of the scaler's demand, in the order of ``aladdin_agents.scale_aladdin.Demand``; 0 where it has none.
DEMAND = ("used", "rate", "forecast", "after_stop", "remembered", "rho")
#: Numbers that go with the action: which kind it is, workers to start and to stop (1: ``max_change``), the demand.
SIGNALS = ("hold", "reject", "start", "stop", *DEMAND)
#: Length of an advice: the number of the action, then the signals.
SIZE = 1 + len(SIGNALS)
_NAMES = re.compile(r"[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)?")


def check_adviser(field: str, name: str) -> None:
    """Refuse what is no ``placement+scaler`` of registered names: a checkpoint's card must not open other files.

    Raises:
        InputError: says so.
    """
    if not _NAMES.fullmatch(name):
        raise InputError(field, name, "give the names of a placement and a scaler, as in aladdin_plus+aladdin")


class Adviser:
    """A policy that is asked beside the one that decides. It must see an episode's decisions from the first on.

    Args:
        policy: Who advises.
        actions: How actions are numbered.
        field: Whose fault a policy is that cannot advise.

    Raises:
        InputError: a policy that wants to hear of events.
    """

    def __init__(self, policy: Combined, actions: Actions, field: str = "network.adviser") -> None:
        heard = [name for name in HOOKS if policy.hooks(name)]
        if heard:
            mend = f"it wants to hear of events ({heard[0]}), which one who only advises does not"
            raise InputError(field, policy.name, mend)
        self._policy = policy
        self._actions = actions
        self._most = max(1, int(np.abs(actions.changes[:, 1]).max(initial=0)))
        self._advice = np.zeros(SIZE, dtype=np.float32)

    @classmethod
    def named(cls, name: str, scenario: Scenario, actions: Actions) -> Adviser:
        """The adviser of this name for a scenario."""
        return cls(make_policy(name, scenario), actions)

    def begin(self, scenario: Scenario) -> None:
        """An episode begins."""
        for hook in self._policy.hooks("reset"):
            hook(scenario)

    def placed(self, view: ClusterView, request: RequestView, mask: NDArray[np.int8]) -> int:
        """The action for a request; :data:`NO_ACTION` where it is none, or not allowed."""
        answer, actions = int(self._policy.place(view, request)), self._actions
        if answer >= 0:
            action = answer
        elif answer == HOLD:
            action = actions.slots if actions.holds else NO_ACTION
        else:
            action = actions.slots + int(actions.holds) if actions.rejects else NO_ACTION
        return action if action >= 0 and mask[action] else NO_ACTION

    def changed(self, view: ClusterView, mask: NDArray[np.int8]) -> int:
        """The allowed change that brings the fleet nearest to what is wanted: what lacks most, then what is over."""
        return change_towards(self._policy.scale(view), view, self._actions, mask)

    def advice(self, action: int, scaling: bool) -> NDArray[np.float32]:
        """An advice with this action, (:data:`SIZE`,), in a buffer that the next call overwrites.

        Args:
            action: What :meth:`placed` or :meth:`changed` has just returned.
            scaling: Which of the two it was.
        """
        out, actions = self._advice, self._actions
        out.fill(0.0)
        out[0] = action
        if not scaling:
            if action >= actions.slots:
                out[1 if actions.holds and action == actions.slots else 2] = 1.0
            return out
        if action > actions.first_change:
            more = int(actions.changes[action - actions.first_change, 1])
            out[3 if more > 0 else 4] = abs(more) / self._most
        told: Any = getattr(self._policy.scaler, "demand", None)
        if told is not None:
            out[5:] = np.clip(told, -LIMIT, LIMIT)
        return out


def change_towards(wanted: Sequence[int] | None, view: ClusterView, actions: Actions, mask: NDArray[np.int8]) -> int:
    """The allowed action that brings the fleet nearest to ``wanted`` workers per type; None stands for no change."""
    if wanted is None:
        return actions.first_change
    have = np.array([_running_or_coming(view, k) for k in range(len(wanted))])
    missing = np.array(wanted) - have
    gap = missing.max() if missing.max() > 0 else missing.min()
    if gap == 0:
        return actions.first_change
    kind = int(np.flatnonzero(missing == gap)[0])
    allowed = mask[actions.first_change :].astype(bool)
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
